"""Packing: the images of any source, laid down once as plain arrays that training maps.

Nothing depends on the order in which processes finish: each class has its place in the
file, and the statistics are sums of whole numbers.
"""

import csv
import hashlib
import math
import multiprocessing
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.data.duplicates import Digests, find_duplicates
from pipeline.data.packed import (
    KNOWN_VARIANTS,
    PASSPORT,
    SPLITS,
    Origin,
    Passport,
    class_labels,
    fingerprint,
    images_file,
    labels_file,
)
from pipeline.errors import UserError
from pipeline.files import replacing, write_json

Levels = NDArray[np.int64]  # (channel, 256): how many pixels have each level


class Source(Protocol):
    """Where images come from: pure, read class by class in any order, in any process."""

    @property
    def image_size(self) -> int: ...

    @property
    def images_per_class(self) -> int: ...

    @property
    def classes(self) -> dict[str, list[str]]:
        """The class names of each split, in the order of their labels."""

    @property
    def origin(self) -> Origin: ...

    @property
    def one_reader(self) -> bool:
        """Whether it lies in one stream, which each process more would read all over again."""

    def images(self, name: str) -> NDArray[np.uint8]:
        """All images of one class, (image, height, width, 3)."""


def read_class_split(table: Path) -> dict[str, list[str]]:
    """The classes of each split from a table with the columns ``class`` and ``split``."""
    classes: dict[str, list[str]] = {split: [] for split in SPLITS}
    with table.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            classes[row["split"]].append(row["class"])
    return classes


def pack(source: Source, dataset: str, out: Path, workers: int) -> Passport:
    """Write every image of ``source`` to the folder ``out``, the passport last.

    The bytes are the same for any number of workers. Memory holds one class per worker.

    Raises
    ------
    UserError
        If a split is empty, a class stands in it twice or in two splits, a class has the
        wrong number or size of images, or the disk has not enough room.
    MemoryError
        Also where a worker was killed.
    """
    check_class_split(dataset, source.classes)
    _check_room(source, out)
    # From here on an earlier pack in this folder is not whole any more.
    (out / PASSPORT).unlink(missing_ok=True)
    with _crew(source, 1 if source.one_reader else workers) as write_classes:
        tallies = {split: _pack_split(source, split, out, write_classes) for split in SPLITS}
    origin, found = source.origin, fingerprint(out)
    mean, std = channel_statistics(tallies["base"].levels)
    passport = Passport(
        version=2,
        dataset=dataset,
        source=str(source),
        origin=origin.model_copy(update={"variant": KNOWN_VARIANTS.get(found, origin.variant)}),
        image_size=source.image_size,
        images_per_class=source.images_per_class,
        classes=source.classes,
        fingerprint=found,
        channel_mean=mean,
        channel_std=std,
        duplicates=find_duplicates(
            {split: tally.digests for split, tally in tallies.items()},
            source.classes,
            source.images_per_class,
        ),
    )
    write_json(out / PASSPORT, passport.model_dump(mode="json"))
    return passport


def check_class_split(dataset: str, classes: dict[str, list[str]]) -> None:
    """Base, validation and novel classes must all be there, and no class twice."""
    if set(classes) != set(SPLITS):
        raise UserError(
            f"{dataset}: the class splits are {sorted(classes)}, must be {', '.join(SPLITS)}."
        )
    for split, names in classes.items():
        if not names:
            raise UserError(f"{dataset}: the split {split} has no class, must have at least one.")
    homes = Counter(name for names in classes.values() for name in names)
    for name, count in homes.items():
        if count > 1:
            splits = [split for split in SPLITS for other in classes[split] if other == name]
            raise UserError(
                f"{dataset}: class {name!r} is listed {count} times ({', '.join(splits)}), "
                "must be in one split and once."
            )


Triple = tuple[float, float, float]


def channel_statistics(levels: Levels) -> tuple[Triple, Triple]:
    """Mean and population standard deviation of red, green and blue, in [0, 1].

    Whole numbers up to the last square root and division, so the order of summing is no matter.
    """

    def moments(counts: list[int]) -> tuple[float, float]:
        n = sum(counts)
        total = sum(level * count for level, count in enumerate(counts))
        squares = sum(level**2 * count for level, count in enumerate(counts))
        return total / (255 * n), math.sqrt(n * squares - total**2) / (255 * n)

    red, green, blue = (moments(channel.tolist()) for channel in levels)
    return (red[0], green[0], blue[0]), (red[1], green[1], blue[1])


class _Place(NamedTuple):
    """Where the images of a class go."""

    name: str
    file: Path
    offset: int


class _Tally(NamedTuple):
    """What is counted of images while they are at hand."""

    levels: Levels
    digests: Digests


WriteClasses = Callable[[Iterable[_Place]], Iterator[_Tally]]


def _shape(source: Source, split: str) -> tuple[int, int, int, int]:
    n_images = len(source.classes[split]) * source.images_per_class
    return n_images, source.image_size, source.image_size, 3


def _check_room(source: Source, out: Path) -> None:
    """Refuse a disk too full for the arrays; each replaces its forerunner when it is complete."""
    needed, more = 0, 0
    for split in SPLITS:
        size = math.prod(_shape(source, split))
        needed = max(needed, more + size)
        earlier = out / images_file(split)
        more += size - (earlier.stat().st_size if earlier.exists() else 0)
    place = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise UserError(
            f"packing to {out} needs {needed} bytes, but only {free} are free on its disk. "
            "Free some space, then run the same command again."
        )


def _pack_split(source: Source, split: str, out: Path, write_classes: WriteClasses) -> _Tally:
    names = source.classes[split]
    shape = _shape(source, split)
    with replacing(out / images_file(split)) as temporary:
        with temporary.open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            start = file.tell()
            file.truncate(start + math.prod(shape))
        stride = math.prod(shape) // len(names)
        places = [_Place(name, temporary, start + i * stride) for i, name in enumerate(names)]
        tallies = list(write_classes(places))
    with replacing(out / labels_file(split)) as temporary:
        np.save(temporary, class_labels(len(names), source.images_per_class))
    levels = np.sum([tally.levels for tally in tallies], axis=0)
    return _Tally(levels, np.concatenate([tally.digests for tally in tallies]))


def _write_class(source: Source, place: _Place) -> _Tally:
    pixels = np.ascontiguousarray(source.images(place.name))
    _check_images(source, place.name, pixels)
    # Not through a memory map: there, a full disk kills the process instead of raising.
    with place.file.open("r+b") as file:
        file.seek(place.offset)
        file.write(pixels.data)
    levels = [np.bincount(channel, minlength=256) for channel in pixels.reshape(-1, 3).T]
    digests = b"".join(hashlib.sha256(image.data).digest() for image in pixels)
    return _Tally(np.stack(levels), np.frombuffer(digests, np.uint8).reshape(-1, 32))


def _check_images(source: Source, name: str, pixels: NDArray[np.uint8]) -> None:
    if len(pixels) != source.images_per_class:
        raise UserError(
            f"{source}: class {name!r} has {len(pixels)} images, "
            f"must have {source.images_per_class}. Get the data set again."
        )
    expected = (source.image_size, source.image_size, 3)
    if pixels.shape[1:] != expected or pixels.dtype != np.uint8:
        raise UserError(
            f"{source}: the images of class {name!r} are {pixels.dtype} {pixels.shape[1:]}, "
            f"must be uint8 {expected}."
        )


@contextmanager
def _crew(source: Source, workers: int) -> Iterator[WriteClasses]:
    """What writes classes and yields their levels in order; a worker gets the source once."""
    if workers == 1:
        yield partial(map, partial(_write_class, source))
        return
    # Spawned, not forked: a fork of a process with threads can hang.
    with ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_equip, initargs=(source,)
    ) as pool:
        try:
            yield partial(pool.map, _write_class_in_worker)
        except BrokenProcessPool:
            # Who kills one of several equal processes is, nearly always, a system short of memory.
            raise MemoryError("a process that packs was killed") from None


_worker_source: Source


def _equip(source: Source) -> None:
    global _worker_source
    _worker_source = source


def _write_class_in_worker(place: _Place) -> _Tally:
    return _write_class(_worker_source, place)
