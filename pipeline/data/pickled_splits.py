"""Mini-ImageNet as one pickle per split: an array of all its images, and which class each has.

Pickles that lie on disk as they are stay there and are mapped; out of a zip or a compressed
tar one split at a time is read into memory, in one process.
"""

import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.archives import Files
from pipeline.data.images import Pixels
from pipeline.data.listing import check_names, naming
from pipeline.data.packed import SPLITS, Origin
from pipeline.data.pickled_arrays import Array, integers, text
from pipeline.data.unpickling import Backing, load_table
from pipeline.errors import UserError

WNID = re.compile(r"n\d{8}")  # what ImageNet calls its classes

Rows = dict[str, NDArray[np.int64]]  # class name -> the places of its images, ascending


def _rows_of_cache(table: dict[str, Any], _split: str) -> Rows:
    return {text(name): np.sort(integers(rows)) for name, rows in table["class_dict"].items()}


def _rows_of_labels(table: dict[str, Any], split: str) -> Rows:
    """The classes in the order of their labels: by their names, if the pickle has them."""
    labels = integers(table["labels"])
    found = np.unique(labels).tolist()
    names = {label: text(name) for name, label in table.get("catname2label", {}).items()}
    if not all(WNID.fullmatch(names.get(label, "")) for label in found):
        names = {label: f"{split}-{place}" for place, label in enumerate(found)}
    return {names[label]: np.flatnonzero(labels == label) for label in found}


class Layout(NamedTuple):
    """How a distribution names its files and what they hold."""

    form: str
    variant: str
    files: tuple[str, str, str]  # of the base, validation and novel classes
    images: str  # the key of the array, uint8 (image, 84, 84, 3)
    rows: Callable[[dict[str, Any], str], Rows]


_PHASES = "miniImageNet_category_split_"
LAYOUTS = (
    # The cache of Ren et al. (2018), "Meta-Learning for Semi-Supervised Few-Shot Classification".
    Layout(
        "cached pickles",
        "reference",
        (
            "mini-imagenet-cache-train.pkl",
            "mini-imagenet-cache-val.pkl",
            "mini-imagenet-cache-test.pkl",
        ),
        "image_data",
        _rows_of_cache,
    ),
    # The same under the names that learn2learn gives to its copy.
    Layout(
        "learn2learn's cached pickles",
        "learn2learn",
        (
            "mini-imagenet-cache-train.pkl",
            "mini-imagenet-cache-validation.pkl",
            "mini-imagenet-cache-test.pkl",
        ),
        "image_data",
        _rows_of_cache,
    ),
    # Gidaris and Komodakis (2018), used by MetaOptNet. Two more files hold other images of the
    # base classes and are not read.
    Layout(
        "category-split pickles",
        "category-split",
        (f"{_PHASES}train_phase_train.pickle", f"{_PHASES}val.pickle", f"{_PHASES}test.pickle"),
        "data",
        _rows_of_labels,
    ),
)


class PickledSplits:
    """Three pickles, recognised by their names and checked against the class split."""

    def __init__(
        self,
        files: Files,
        layout: Layout,
        members: dict[str, str],
        classes: dict[str, list[str]],
        images_per_class: int,
        image_size: int,
    ) -> None:
        self._files, self._layout, self._members = files, layout, members
        self._shape = (image_size, image_size, 3)
        self._loaded: tuple[str, Array] | None = None
        self._rows = {split: self._read_rows(split) for split in SPLITS}
        # Without names of their own, classes are numbered: only counts can be checked.
        self.are_named = any(WNID.fullmatch(name) for rows in self._rows.values() for name in rows)
        self.classes = classes if self.are_named else {s: list(r) for s, r in self._rows.items()}
        for split in SPLITS:
            self._check(split, classes[split], images_per_class)

    @property
    def origin(self) -> Origin:
        unnamed = (
            "The pickles do not name their classes: a class is named by its split and its place "
            "among the labels there, and only counts were checked against the class split."
        )
        return Origin(
            form=self._layout.form,
            variant=self._layout.variant,
            notes=[] if self.are_named else [unnamed],
        )

    @cached_property
    def one_reader(self) -> bool:
        return any(self._files.extent(name) is None for name in self._members.values())

    def images(self, name: str) -> Pixels:
        """The images of a class, (image, height, width, 3), in the order of the pickle."""
        split = next(split for split in SPLITS if name in self._rows[split])
        if self._loaded is None or self._loaded[0] != split:
            self._loaded = None  # two splits at once would take too much memory
            with naming(self._where(split)):
                self._loaded = split, self._table(split)[self._layout.images]
        # Mapped for one class at a time: pages of a map count as used memory.
        pixels: Pixels = self._loaded[1].values()[self._rows[split][name]]
        return pixels

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_loaded": None}  # each process maps or reads for itself

    def _where(self, split: str) -> str:
        return f"{self._files.path}: {self._members[split]}"

    def _table(self, split: str, skip_large: bool = False) -> dict[str, Any]:
        name = self._members[split]
        extent = self._files.extent(name)
        backing = Backing(Path(extent.path), extent.offset) if extent else None
        with self._files.open(name) as file:
            return load_table(file, self._files.size(name), backing, skip_large)

    def _read_rows(self, split: str) -> Rows:
        with naming(self._where(split)):
            table = self._table(split, skip_large=True)
            images, rows = table[self._layout.images], self._layout.rows(table, split)
            if not isinstance(images, Array) or images.dtype != np.uint8:
                raise ValueError(f"{self._layout.images} is no array of uint8")
            if images.shape[1:] != self._shape:
                raise ValueError(f"its images are {images.shape[1:]}, must be {self._shape}")
            places = np.concatenate([*rows.values(), np.empty(0, np.int64)])
            if not np.array_equal(np.sort(places), np.arange(images.shape[0])):
                raise ValueError("its images do not each belong to one class")
        return rows

    def _check(self, split: str, names: list[str], images_per_class: int) -> None:
        found = self._rows[split]
        if self.are_named:
            check_names(self._where(split), found, names, "this split")
        elif len(found) != len(names):
            raise UserError(
                f"{self._where(split)} has {len(found)} classes, must have {len(names)}. "
                "Get the data set again."
            )
        for name, rows in found.items():
            if len(rows) != images_per_class:
                raise UserError(
                    f"{self._where(split)}: class {name!r} has {len(rows)} images, must have "
                    f"{images_per_class}. Get the data set again."
                )
