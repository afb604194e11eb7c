"""CIFAR-FS (Bertinetto et al., 2019): the classes of CIFAR-100 split 64 / 16 / 20, 600 images each.

The authors' archive and CIFAR-100's own python archive, packed or extracted, hold the same
pixels under the same file names. The images of a class stand in the order of those names,
so every form leads to the same packed arrays.
"""

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Protocol

import numpy as np

from pipeline.config.datasets import CIFAR_FS_SIZE as IMAGE_SIZE
from pipeline.config.datasets import IMAGES_PER_CLASS
from pipeline.data.archives import Files, open_files, read
from pipeline.data.images import Pixels, decode
from pipeline.data.listing import check_names, naming
from pipeline.data.packed import Origin
from pipeline.data.packing import read_class_split
from pipeline.data.pickled_arrays import Array, integers, text
from pipeline.data.unpickling import load_table
from pipeline.errors import UserError

MAX_IMAGE_BYTES = 1 << 20
MAX_PICKLE_BYTES = 1 << 28


class NamedImage(NamedTuple):
    stem: str  # its file name in CIFAR, without the suffix
    pixels: Pixels  # (32, 32, 3)


class Archive(Protocol):
    """One of the forms in which CIFAR-FS is handed on."""

    @property
    def form(self) -> str: ...

    def check(self, classes: dict[str, list[str]]) -> None:
        """Refuse an archive whose classes are not these."""

    def images(self, name: str) -> list[NamedImage]:
        """All images of a class, in any order."""


@dataclass(frozen=True)
class CifarFS:
    """The source of CIFAR-FS, to be packed."""

    archive: Archive
    classes: dict[str, list[str]]
    images_per_class: int = IMAGES_PER_CLASS
    image_size: int = IMAGE_SIZE
    one_reader = False  # small enough for each process to read

    @classmethod
    def open(
        cls,
        path: Path,
        classes: dict[str, list[str]] | None = None,
        images_per_class: int = IMAGES_PER_CLASS,
    ) -> "CifarFS":
        """Find out which form ``path``, a file or a folder, has; check its classes.

        Raises
        ------
        UserError
            If it has no known form, or other classes than the authors' lists
            (``splits/cifar_fs.csv``), which ``classes`` replaces in tests.
        """
        if classes is None:
            classes = read_class_split(Path(__file__).parent / "splits" / "cifar_fs.csv")
        archive = _recognise(path)
        archive.check(classes)
        return cls(archive, classes, images_per_class)

    @property
    def origin(self) -> Origin:
        return Origin(form=self.archive.form, variant=self.archive.form)

    def images(self, name: str) -> Pixels:
        """The images of a class, (image, 32, 32, 3), in the order of CIFAR's file names."""
        # Equal names are told apart by their pixels, so the order never depends on the form.
        ordered = sorted(
            self.archive.images(name), key=lambda image: (image.stem, image.pixels.tobytes())
        )
        pixels = np.array([image.pixels for image in ordered], dtype=np.uint8)
        return pixels.reshape(-1, IMAGE_SIZE, IMAGE_SIZE, 3)  # a shape even for no image at all

    def __str__(self) -> str:
        return f"CIFAR-FS from {self.archive}"


def source(_settings: dict[str, Any], raw: Path | None) -> CifarFS:
    """The source to pack from the archive or folder ``raw``; nothing else can be set."""
    if raw is None:
        raise UserError("CIFAR-FS is packed from an archive or a folder: name it with --raw PATH.")
    return CifarFS.open(raw)


def _recognise(path: Path) -> Archive:
    if files := open_files(path):
        # An archive and the folder around an extracted one have one folder more.
        for root in ("cifar100/", "cifar-100-python/", ""):
            if any(name.startswith(f"{root}data/") for name in files.names):
                return AuthorsArchive(files, root)
            if f"{root}meta" in files.names:
                return OfficialArchive(files, root)
    raise UserError(
        f"{path} is not CIFAR-FS or is damaged. Give cifar100.zip (the authors' archive), "
        "cifar-100-python.tar.gz, or the folder that one of them was extracted to."
    )


@dataclass(frozen=True)
class AuthorsArchive:
    """``data/<class>/<image>`` and the class lists ``splits/bertinetto/{train,val,test}.txt``."""

    files: Files
    root: str
    form = "authors' archive"

    def check(self, classes: dict[str, list[str]]) -> None:
        for split, stem in {"base": "train", "validation": "val", "novel": "test"}.items():
            name = f"{self.root}splits/bertinetto/{stem}.txt"
            listed = read(self.files, name, MAX_IMAGE_BYTES).decode(errors="replace").split()
            check_names(f"{self.files.path}: {name}", listed, classes[split], "CIFAR-FS")
        where = f"{self.files.path}: {self.root}data/"
        check_names(where, self._members, _all(classes), "CIFAR-FS")

    def images(self, name: str) -> list[NamedImage]:
        return [
            NamedImage(
                PurePosixPath(member).stem,
                decode(
                    read(self.files, member, MAX_IMAGE_BYTES),
                    f"{self.files.path}: {member}",
                    IMAGE_SIZE,
                ),
            )
            for member in self._members[name]
        ]

    @cached_property
    def _members(self) -> dict[str, list[str]]:
        """The image files of each class."""
        members = defaultdict(list)
        for name in self.files.names:
            if not name.startswith(f"{self.root}data/"):
                continue
            _, *folders, _ = name.removeprefix(self.root).split("/")
            if len(folders) != 1:
                raise UserError(
                    f"{self.files.path}: {name} is out of place, images lie at "
                    "data/<class>/<image>. Remove it or get the data set again."
                )
            members[folders[0]].append(name)
        return dict(members)

    def __str__(self) -> str:
        return f"the authors' archive {self.files.path}"


@dataclass(frozen=True)
class OfficialArchive:
    """CIFAR-100's python archive, or its folder: the pickles ``train``, ``test`` and ``meta``."""

    files: Files
    root: str
    form = "python archive"

    def check(self, classes: dict[str, list[str]]) -> None:
        where = f"{self.files.path}: {self.root}meta"
        with naming(where):
            names = [text(name) for name in self._load("meta")["fine_label_names"]]
        check_names(where, names, _all(classes), "CIFAR-FS")

    def images(self, name: str) -> list[NamedImage]:
        return self._images.get(name, [])

    def __getstate__(self) -> dict[str, Any]:
        # A worker reads the images for itself: sending them would cost more.
        return {key: value for key, value in vars(self).items() if key != "_images"}

    @cached_property
    def _images(self) -> dict[str, list[NamedImage]]:
        """The images of each class: views of the two big arrays."""
        names = [text(name) for name in self._load("meta")["fine_label_names"]]
        images = defaultdict(list)
        for part in ("train", "test"):
            with naming(f"{self.files.path}: {self.root}{part}"):
                table = self._load(part)
                planes = _planes(table["data"])
                rows = zip(integers(table["fine_labels"]), table["filenames"], planes, strict=True)
                for label, file, pixels in rows:
                    stem = PurePosixPath(text(file)).stem
                    images[names[label]].append(NamedImage(stem, pixels))
        return dict(images)

    def _load(self, part: str) -> dict[str, Any]:
        name = f"{self.root}{part}"
        size = self.files.size(name)
        if size > MAX_PICKLE_BYTES:
            raise ValueError(f"{size} bytes, must be under {MAX_PICKLE_BYTES}")
        with self.files.open(name) as file:
            return load_table(file, size)

    def __str__(self) -> str:
        return f"the CIFAR-100 python archive {self.files.path}"


def _planes(data: object) -> Pixels:
    """Rows of red, green and blue planes as images, (image, 32, 32, 3)."""
    if not isinstance(data, Array) or data.dtype != np.uint8:
        raise ValueError("its data are no array of uint8")
    planes: Pixels = data.values().reshape(-1, 3, IMAGE_SIZE, IMAGE_SIZE)
    return planes.transpose(0, 2, 3, 1)


def _all(classes: dict[str, list[str]]) -> list[str]:
    return [name for names in classes.values() for name in names]
