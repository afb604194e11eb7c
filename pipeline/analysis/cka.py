"""Linear CKA of several models at once, from Gram matrices that are never whole in memory."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from pipeline.machine import send

# Bytes of Gram blocks at a time; the features themselves stay on disk.
MEMORY = 2**30
# Features at a time: rows this short stay in a CPU's cache until they are multiplied.
CHUNK = 1024
# Rows of Gram blocks at a time, which are summed in float64: float32 would lose digits.
ROWS = 64
# Variation of inner products below this share of the squared norms is taken for rounding.
PRECISION = 1e-5


def stratified_folds(labels: NDArray[np.int64], n_folds: int) -> list[NDArray[np.int64]]:
    """Indices of the images of each fold, by position within the class.

    Every class, and the whole, is spread evenly: numbers of images differ by at most one.
    """
    fold = np.empty(len(labels), dtype=np.int64)
    fold[np.argsort(labels, kind="stable")] = np.arange(len(labels)) % n_folds
    return [np.flatnonzero(fold == one) for one in range(n_folds)]


class Centred:
    """One model's features less their mean, read a piece at a time."""

    def __init__(self, features: NDArray[np.float32], device: torch.device) -> None:
        """``features`` (image, feature) may be a memory map."""
        self.features = np.asarray(features)
        # An infinity of each sign is no reason to warn: the mean says it.
        with np.errstate(invalid="ignore"):
            mean = self.features.mean(0, dtype=np.float64)
        self.finite = bool(np.isfinite(mean).all())
        self.mean = send(torch.from_numpy(mean.astype(np.float32)), device)

    def piece(self, images: NDArray[np.int64], columns: slice) -> Float[Tensor, "image column"]:
        rows = torch.from_numpy(self.features[images, columns])
        return send(rows, self.mean.device).sub_(self.mean[columns])


@dataclass(frozen=True)
class Similarities:
    """Linear CKA of all pairs of models; NaN where a model's features do not vary."""

    plain: Float[Tensor, "model model"]
    debiased: Float[Tensor, "model model"]
    # Debiased, of each fold's own images.
    by_fold: Float[Tensor, "fold model model"]


def similarities(
    models: Sequence[Centred], folds: Sequence[NDArray[np.int64]], memory: int = MEMORY
) -> Similarities:
    """Linear CKA of all pairs of models (Kornblith et al. 2019), from their Gram matrices.

    Parameters
    ----------
    models
        Of the same images in the same order.
    folds
        Indices of each fold's images, at least 4; together all images.
    memory
        Bytes that the blocks of Gram matrices may take. Results differ by rounding alone.
    """
    sums = _sums(models, folds, memory)
    inner = sums.inner.sum((0, 1))
    by_fold = [
        debiased(sums.inner[fold, fold], sums.rows[fold, :, place], sums.diagonal[:, place])
        for fold, place in enumerate(sums.places)
    ]
    return Similarities(
        # Features are centred, so their Gram matrices are.
        plain=_normalised(inner + sums.diagonal @ sums.diagonal.T),
        debiased=debiased(inner, sums.rows.sum(0), sums.diagonal),
        by_fold=torch.stack(by_fold),
    )


def debiased(
    inner: Float[Tensor, "model model"],
    rows: Float[Tensor, "model image"],
    diagonal: Float[Tensor, "model image"],
) -> Float[Tensor, "model model"]:
    """CKA from the unbiased estimator of HSIC (Song et al. 2012, equation 5).

    It does not change when all images move alike, so a fold needs no mean of its own.

    Parameters
    ----------
    inner, rows
        Of Gram matrices without their diagonals: inner products of each two, sums of rows.
    diagonal
        Squared norms of the images, which say what is rounding.
    """
    n = rows.shape[1]
    totals = rows.sum(1)
    hsic = inner + torch.outer(totals, totals) / ((n - 1) * (n - 2)) - 2 / (n - 2) * rows @ rows.T
    hsic /= n * (n - 3)
    return _normalised(hsic, (PRECISION * diagonal.mean(1)) ** 2)


def _normalised(
    hsic: Float[Tensor, "model model"], least: Float[Tensor, " model"] | float = 0.0
) -> Float[Tensor, "model model"]:
    """CKA from HSIC of all pairs of models; NaN for one that is no more like itself than least."""
    own = hsic.diagonal()
    norms = own.where(own > least, torch.nan).sqrt()
    return hsic / norms[:, None] / norms


@dataclass(frozen=True)
class _Sums:
    """What CKA needs of the Gram matrices of all models, diagonals apart, in float64.

    Diagonals are kept apart because they can outweigh all other entries by far.
    """

    # Inner products of two models' matrices, by the folds that rows and columns are in.
    inner: Float[Tensor, "fold fold model model"]
    # Sums of each image's row, by the fold that columns are in.
    rows: Float[Tensor, "fold model image"]
    diagonal: Float[Tensor, "model image"]
    # Where the images of each fold are: here, they stand together.
    places: list[slice]


def _sums(models: Sequence[Centred], folds: Sequence[NDArray[np.int64]], memory: int) -> _Sums:
    """Each block of a Gram matrix is computed once, and dropped when all pairs have it."""
    order = np.concatenate(folds)
    ends = np.cumsum([len(fold) for fold in folds]).tolist()
    places = [slice(end - len(fold), end) for end, fold in zip(ends, folds, strict=True)]
    # Two generations of float32 blocks: one is dropped only when the next is there.
    size = max(1, math.isqrt(memory // (2 * 4 * len(models))))
    blocks = [
        (fold, slice(start, min(start + size, place.stop)))
        for fold, place in enumerate(places)
        for start in range(place.start, place.stop, size)
    ]
    options: dict[str, Any] = {"dtype": torch.float64, "device": models[0].mean.device}
    inner = torch.zeros(len(folds), len(folds), len(models), len(models), **options)
    rows = torch.zeros(len(folds), len(models), len(order), **options)
    diagonal = torch.zeros(len(models), len(order), **options)
    for index, (fold, i) in enumerate(blocks):
        for other, j in blocks[index:]:
            products = _products(models, order[i], order[j])
            if i == j:
                diagonal[:, i] = products.diagonal(dim1=1, dim2=2)
                products.triu_(1)
            # Each two images are met once, and are two entries of a Gram matrix.
            for start in range(0, products.shape[1], ROWS):
                exact = products[:, start : start + ROWS].double().transpose(0, 1)
                inner[fold, other] += 2 * (exact @ exact.mT).sum(0)
                rows[fold, :, j] += exact.sum(0)
                rows[other, :, i][:, start : start + ROWS] += exact.sum(2).T
    return _Sums(inner.cpu(), rows.cpu(), diagonal.cpu(), places)


def _products(
    models: Sequence[Centred], left: NDArray[np.int64], right: NDArray[np.int64]
) -> Float[Tensor, "model left right"]:
    """Inner products of two blocks of images, for each model."""
    result = torch.zeros(len(models), len(left), len(right), device=models[0].mean.device)
    for block, model in zip(result, models, strict=True):
        for start in range(0, model.features.shape[1], CHUNK):
            columns = slice(start, start + CHUNK)
            block.addmm_(model.piece(left, columns), model.piece(right, columns).T)
    return result
