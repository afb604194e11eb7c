"""Novel classes of one model in the plane of linear discriminant analysis (paper section 4.3)."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, eigh

from pipeline import records
from pipeline.analysis.features import Features
from pipeline.config.evaluation import PROJECTED_IMAGES
from pipeline.errors import UserError
from pipeline.streams import generator

# Features outnumber images, so they are first reduced to principal components. There are six
# images to a component, or more: as the paper's 300 images have with 50.
COMPONENTS = 50
IMAGES_PER_COMPONENT = 6
DIGITS = 5


def project(settings: dict[str, Any], code: str, features: Path, out: Path) -> None:
    """Write a record of random triples of novel classes, projected by LDA to two dimensions.

    The plane of the panel ``held_out`` is fitted on other images of the same classes; that of
    ``in_sample`` on the plotted images themselves, as the paper did, and so it shows classes
    apart even where features are noise. Classes and images depend on the data set and
    the projection seed, never on the model. Points are kept of the first draw, in units of the
    spread within classes; variance ratios of every draw.

    Raises
    ------
    UserError
        If the features cannot be read, there are too few classes or images, or features of
        different images are all alike.
    """
    started = time.monotonic()
    source = Features(features, settings)
    embedded, labels = source.split("novel")
    n_fit = _images_to_fit(labels, settings)
    drawn = list(draws(labels, settings, n_fit))
    panels: dict[str, list[Float[np.ndarray, "class image 2"]]] = {"held_out": [], "in_sample": []}
    for draw in drawn:
        shown = embedded[draw.shown]
        for name, fitted_on in (("held_out", embedded[draw.others]), ("in_sample", shown)):
            try:
                panels[name].append(discriminant_plane(fitted_on, shown))
            except LinAlgError:
                raise UserError(
                    f"{features}: features of novel classes {draw.classes.tolist()} vary in fewer "
                    "than two directions, or not within classes, so they have no plane; the run "
                    "failed to learn, look into the log in its record"
                ) from None
    records.write(
        out,
        "projection",
        settings,
        code=code,
        sources=source.record.sources,
        device="cpu",
        wall_s=time.monotonic() - started,
        values={
            "classes": drawn[0].classes.tolist(),
            "n_fit": n_fit,
            **{
                name: {
                    "points": in_units_of_spread(points[0]).round(DIGITS).tolist(),
                    "ratios": [float(f"{variance_ratio(one):.{DIGITS}g}") for one in points],
                }
                for name, points in panels.items()
            },
        },
    )


@dataclass(frozen=True)
class Draw:
    """Labels of random classes (class,), and indices of images to show and of others to fit on.

    Both are (class, image), disjoint, and in random order.
    """

    classes: NDArray[np.int64]
    shown: NDArray[np.int64]
    others: NDArray[np.int64]


def draws(labels: NDArray[np.int64], settings: dict[str, Any], n_fit: int) -> Iterator[Draw]:
    """The draws, each from an address of its own; ``n_fit`` does not change what is shown."""
    stream = f"{settings['dataset']} projection"
    end_shown = settings["n_images"]
    for index in range(settings["n_draws"]):
        random = generator(settings["projection_seed"], stream, index)
        classes = random.choice(np.unique(labels), settings["n_classes"], replace=False)
        images = np.stack(
            [
                random.permutation(np.flatnonzero(labels == one))[: end_shown + n_fit]
                for one in classes
            ]
        )
        yield Draw(classes, images[:, :end_shown], images[:, end_shown:])


def discriminant_plane(
    fitted_on: Float[np.ndarray, "class image_to_fit feature"],
    shown: Float[np.ndarray, "class image feature"],
) -> Float[np.ndarray, "class image 2"]:
    """Shown images on the two directions that divide classes best among those fitted on.

    Directions maximise the variance between classes relative to that within them (Fisher,
    1936), among principal components of the images fitted on. Those stand in for shrinkage.
    Shrunk besides, as scikit-learn's ``eigen`` solver does it, weakly separated classes are lost:
    it takes the variance between them from two covariances that are not shrunk alike.

    Raises
    ------
    LinAlgError
        If features vary in fewer than two directions, or not within classes.
    """
    mean = fitted_on.mean((0, 1))
    axes = principal_axes((fitted_on - mean).reshape(-1, fitted_on.shape[-1]))
    n_axes = axes.shape[1]
    scores = ((fitted_on - mean) @ axes).astype(np.float64)
    centres = scores.mean(1)
    residuals = (scores - centres[:, None]).reshape(-1, n_axes)
    _, directions = eigh(
        centres.T @ centres / len(centres),
        residuals.T @ residuals / len(residuals),
        subset_by_index=(n_axes - 2, n_axes - 1),
    )
    points: NDArray[np.float64] = ((shown - mean) @ axes) @ directions[:, ::-1]
    return points


def principal_axes(
    centred: Float[np.ndarray, "image feature"],
) -> Float[np.ndarray, "feature component"]:
    """Orthonormal principal axes, largest variance first, from the smaller matrix of products.

    Raises
    ------
    LinAlgError
        If there are fewer than two.
    """
    n_images, n_features = centred.shape
    wide = n_features > n_images
    products = centred @ centred.T if wide else centred.T @ centred
    wanted = min(COMPONENTS, n_images // IMAGES_PER_COMPONENT, n_features)
    variances, vectors = eigh(products, subset_by_index=(len(products) - wanted, len(products) - 1))
    # Below this, a variance is what rounding left of zero.
    kept = variances > variances[-1] * len(products) * np.finfo(products.dtype).eps
    if kept.sum() < 2:
        raise LinAlgError("fewer than two principal axes")
    variances, vectors = variances[kept][::-1], vectors[:, kept][:, ::-1]
    axes: NDArray[Any] = centred.T @ vectors / np.sqrt(variances) if wide else vectors
    return axes


def variance_ratio(points: Float[np.ndarray, "class image feature"]) -> float:
    """Mean variance within classes by the mean squared distance of their centres from the mean.

    ``sum_ij ||p_ij - mu_i||^2 / n / sum_i ||mu_i - mu||^2`` for n images of each class: the
    variance ratio of section 4.1 with N read as the number of all images, by which it is a ratio
    of variances. With N images per class, as printed, it is as many times as large as there
    are classes. Lower is better separated; the scale of the points does not matter.
    """
    centres = points.mean(1)
    within = np.square(points - centres[:, None]).sum() / points.shape[1]
    return float(within / np.square(centres - centres.mean(0)).sum())


def in_units_of_spread(
    points: Float[np.ndarray, "class image 2"],
) -> Float[np.ndarray, "class image 2"]:
    """Points around the mean of all, in standard deviations within classes along an axis.

    Directions of LDA have no scale of their own. In these units clusters of all models are
    equally large, so how far apart they lie can be compared on shared axes. One unit
    serves both axes, as else the variance ratio would change. LDA leaves signs open as well: the
    first class lies to the upper right.
    """
    centres = points.mean(1)
    spread = np.sqrt(np.square(points - centres[:, None]).mean())
    signs = np.where(centres[0] < centres.mean(0), -1.0, 1.0)
    scaled: NDArray[np.float64] = (points - centres.mean(0)) * signs / spread
    return scaled


def _images_to_fit(labels: NDArray[np.int64], settings: dict[str, Any]) -> int:
    """How many images of each class there are to fit on; refuses what cannot be drawn."""
    n_classes, n_images, n_fit = (settings[key] for key in ("n_classes", "n_images", "n_fit"))
    names, counts = np.unique(labels, return_counts=True)
    change = "change it under projection in config.yaml, or in the scale's own file"
    if n_classes > len(names):
        raise UserError(
            f"n_classes: {n_classes} is more than the {len(names)} novel classes that there are; "
            f"{change}"
        )
    if n_images + PROJECTED_IMAGES > counts.min():
        raise UserError(
            f"n_images: {n_images} images to show + at least {PROJECTED_IMAGES} to fit on = "
            f"{n_images + PROJECTED_IMAGES} images of a class, but class "
            f"{names[counts.argmin()]} has {counts.min()}; {change}"
        )
    return int(min(n_fit, counts.min() - n_images))
