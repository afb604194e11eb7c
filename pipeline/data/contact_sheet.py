"""A packed data set for the eye: some images of every class, and its passport in words."""

from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.data.packed import SPLITS, Packed, Passport
from pipeline.files import replacing

GAP = 2  # pixels between images
PAIRS_SHOWN = 5


def contact_sheet(packed: Packed, split: str, out: Path, columns: int = 12) -> None:
    """Write a PNG with a row for each class of a split, in the order of labels.

    A row shows images at even distances in the class, the first one included; the same
    arrays always give the same pixels.
    """
    passport = packed.passport
    size, each = passport.image_size, passport.images_per_class
    columns = min(columns, each)
    rows = len(passport.classes[split])
    places = np.arange(columns) * each // columns
    images = packed.images(split)
    step = size + GAP
    sheet = np.full((rows * step + GAP, columns * step + GAP, 3), 255, np.uint8)
    for row in range(rows):
        for column, place in enumerate(places):
            top, left = GAP + row * step, GAP + column * step
            sheet[top : top + size, left : left + size] = images[row * each + place]
    with replacing(out) as temporary:
        Image.fromarray(sheet).save(temporary, "PNG")


def describe(passport: Passport) -> str:
    """The passport in words, several lines."""
    size, origin, twins = passport.image_size, passport.origin, passport.duplicates
    counts = [
        f"{len(passport.classes[split])} {split} ({passport.n_images(split):,} images)"
        for split in SPLITS
    ]
    lines = [
        f"{passport.dataset}: images of {size}x{size} pixels, {passport.images_per_class} a class",
        f"source       {passport.source}",
        f"form         {origin.form}; variant: {origin.variant}",
        f"classes      {', '.join(counts)}; none in two splits",
    ]
    if origin.resize:
        lines.append(f"resized      by {origin.resize}, where images had another size")
    lines += [f"note         {note}" for note in origin.notes]
    lines += [
        f"mean         {_triple(passport.channel_mean)} (red, green, blue of the base classes)",
        f"deviation    {_triple(passport.channel_std)}",
        f"identical    {twins.within_splits} pairs of images within a split, "
        f"{twins.across_splits} across splits",
    ]
    for first, second in twins.pairs[:PAIRS_SHOWN]:
        lines.append(f"             {_place(first)} = {_place(second)}")
    if twins.within_splits + twins.across_splits > PAIRS_SHOWN:
        lines.append(f"             ... {len(twins.pairs)} of them are listed in the passport")
    return "\n".join([*lines, f"fingerprint  {passport.fingerprint}"])


def _triple(values: tuple[float, float, float]) -> str:
    return " ".join(f"{value:.4f}" for value in values)


def _place(place: tuple[str, str, int]) -> str:
    split, name, number = place
    return f"{split}/{name}/{number}"
