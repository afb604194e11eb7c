"""A packed data set in words, the same in a terminal and on the page."""

from pipeline.data.packed import SPLITS, Passport
from pipeline.words import plural


def facts(passport: Passport) -> dict[str, str]:
    """What a passport says, by what it is about; all but names of classes, notes and pairs."""
    size, each, origin = passport.image_size, passport.images_per_class, passport.origin
    twins = passport.duplicates
    counts = [
        f"{len(passport.classes[split])} {split} ({passport.n_images(split):,} images)"
        for split in SPLITS
    ]
    resized = {"resized": f"by {origin.resize}, where images had another size"}
    return {
        "images": f"{size}x{size} pixels, {each} a class",
        "source": passport.source,
        "form": f"{origin.form}; variant: {origin.variant}",
        **(resized if origin.resize else {}),
        "classes": f"{', '.join(counts)}; none in two splits",
        "mean": f"{_triple(passport.channel_mean)} (red, green, blue of the base classes)",
        "deviation": _triple(passport.channel_std),
        "identical": f"{plural(twins.within_splits, 'pair of images')} within a split, "
        f"{twins.across_splits:,} across splits",
        "fingerprint": passport.fingerprint,
    }


def _triple(values: tuple[float, float, float]) -> str:
    return " ".join(f"{value:.4f}" for value in values)
