"""Packed data sets: one array of images and one of labels per class split, and a passport.

Arrays are read through memory maps, so a data set larger than memory can be used and
processes share its pages.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    field_validator,
)

from pipeline.errors import UserError

SPLITS = ("base", "validation", "novel")
PASSPORT = "passport.json"
LABEL = np.dtype("<i8")


def images_file(split: str) -> str:
    return f"{split}.npy"


def labels_file(split: str) -> str:
    return f"{split}_labels.npy"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Origin(_Strict):
    """How a source came by its images: what has to be said beside numbers made from them."""

    form: str  # in which the data set was handed over
    variant: str  # "reference", or a name for pixels that may differ from the reference's
    resize: str | None = None  # the filter by which images of another size were resized
    notes: list[str] = []  # sentences, to be printed


# Variants that are known by the fingerprint of what they pack to.
KNOWN_VARIANTS = {
    # CIFAR-100 in the authors' class split.
    "f4c73d1489edc6df95af11e2866143313c6377f30328342f9cba53d7e2bd1956": "reference",
}

Place = tuple[str, str, int]  # split, class, place of the image in its class


class Duplicates(_Strict):
    """Images with the same pixels, each paired with the first one that has them."""

    within_splits: NonNegativeInt  # number of pairs
    across_splits: NonNegativeInt
    pairs: list[tuple[Place, Place]]  # across splits first; not all, if there are many


class Passport(_Strict):
    """What a packed data set is: where it came from, its classes and its fingerprint."""

    version: Literal[2]
    dataset: str
    source: str  # what the source says of itself
    origin: Origin
    image_size: PositiveInt
    images_per_class: PositiveInt
    classes: dict[str, list[str]]  # split -> class names; a label is a place in this list
    fingerprint: str
    channel_mean: tuple[float, float, float]  # of the base classes; red, green, blue in [0, 1]
    channel_std: tuple[float, float, float]
    duplicates: Duplicates

    @field_validator("classes")
    @classmethod
    def _has_every_split(cls, classes: dict[str, list[str]]) -> dict[str, list[str]]:
        if set(classes) != set(SPLITS):
            raise ValueError(f"the class splits must be {', '.join(SPLITS)}")
        return classes

    def n_images(self, split: str) -> int:
        return len(self.classes[split]) * self.images_per_class

    @property
    def sources(self) -> dict[str, str]:
        """What a record says of the images: which they are, and if they may not be the usual."""
        variant = self.origin.variant
        return {"images": self.fingerprint} | (
            {} if variant == "reference" else {"variant": variant}
        )


@dataclass(frozen=True)
class Packed:
    """A packed data set, opened for reading."""

    folder: Path
    passport: Passport

    @classmethod
    def open(cls, folder: Path, dataset: str | None = None) -> "Packed":
        """Open what ``pack`` wrote: types, shapes and labels are checked, pixels are not.

        Parameters
        ----------
        dataset
            Which one it must be; any if None.

        Raises
        ------
        UserError
            If a file is missing, torn or of another version, or it is another data set.
        """
        try:
            text = (folder / PASSPORT).read_text(encoding="utf-8")
            packed = cls(folder, Passport.model_validate_json(text))
        except (OSError, ValidationError, UnicodeDecodeError) as error:
            raise _unusable(folder / PASSPORT, str(error)) from error
        if dataset not in (None, packed.passport.dataset):
            raise UserError(f"{folder} holds {packed.passport.dataset}, not {dataset}; see --data")
        for split in SPLITS:
            packed.images(split)
            labels = class_labels(
                len(packed.passport.classes[split]), packed.passport.images_per_class
            )
            if not np.array_equal(packed.labels(split), labels):
                raise _unusable(folder / labels_file(split), "its labels are not in order")
        return packed

    def images(self, split: str) -> NDArray[np.uint8]:
        """The images of a split, (image, height, width, 3); read-only, mapped from disk."""
        size = self.passport.image_size
        shape = (self.passport.n_images(split), size, size, 3)
        return _map(self.folder / images_file(split), np.dtype(np.uint8), shape)

    def labels(self, split: str) -> NDArray[np.int64]:
        """The class of each image, (image,): its place in ``passport.classes[split]``."""
        return _map(self.folder / labels_file(split), LABEL, (self.passport.n_images(split),))

    def verify(self) -> None:
        """Read every byte and compare the fingerprint; raises UserError where it differs."""
        found = fingerprint(self.folder)
        if found != self.passport.fingerprint:
            reason = f"fingerprint {found}, the passport says {self.passport.fingerprint}"
            raise _unusable(self.folder, reason)


def class_labels(n_classes: int, images_per_class: int) -> NDArray[np.int64]:
    """The labels of a split, (image,): the images of a class stand together, classes in order."""
    return np.repeat(np.arange(n_classes, dtype=LABEL), images_per_class)


def fingerprint(folder: Path) -> str:
    """The sha256 of the images and labels of all splits, each led by its name, type and shape.

    Files are read block by block: a memory map would count as used memory.
    """
    digest = hashlib.sha256()
    for split in SPLITS:
        for name in (images_file(split), labels_file(split)):
            array = np.lib.format.open_memmap(folder / name, mode="r")
            digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
            with (folder / name).open("rb") as file:
                file.seek(array.offset)
                while block := file.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


def _map(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> np.memmap:
    try:
        array = np.lib.format.open_memmap(path, mode="r")
        spare_bytes = path.stat().st_size - array.offset - array.nbytes
    except (OSError, ValueError) as error:
        raise _unusable(path, str(error)) from error
    if array.dtype != dtype or array.shape != shape or spare_bytes:
        found = f"it holds {array.dtype} {array.shape} and {spare_bytes} bytes more"
        raise _unusable(path, f"{found}, the passport asks for {dtype} {shape}")
    return array


def _unusable(path: Path, reason: str) -> UserError:
    folder = path if path.is_dir() else path.parent
    return UserError(
        f"{path} cannot be used: {reason}. "
        f"Pack the data set again: snakemake --cores all --force {folder / PASSPORT}"
    )
