"""CIFAR-FS (Bertinetto et al., 2019): the classes of CIFAR-100 split 64 / 16 / 20, 600 images each.

The authors' archive and CIFAR-100's own python archive, packed or extracted, hold the same
pixels under the same file names. The images of a class stand in the order of those names,
so every form leads to the same packed arrays.
"""

import io
import os
import pickle
import tarfile
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import BITSPERSAMPLE, TiffImageFile

from pipeline.data.packing import read_class_split
from pipeline.errors import UserError

IMAGE_SIZE = 32
MAX_IMAGE_BYTES = 1 << 20
MAX_PICKLE_BYTES = 1 << 28

Pixels = NDArray[np.uint8]


class NamedImage(NamedTuple):
    stem: str  # its file name in CIFAR, without the suffix
    pixels: Pixels  # (32, 32, 3)


class Archive(Protocol):
    """One of the forms in which CIFAR-FS is handed on."""

    def check(self, classes: dict[str, list[str]]) -> None:
        """Refuse an archive whose classes are not these."""

    def images(self, name: str) -> list[NamedImage]:
        """All images of a class, in any order."""


@dataclass(frozen=True)
class CifarFS:
    """The source of CIFAR-FS, to be packed."""

    archive: Archive
    classes: dict[str, list[str]]
    images_per_class: int = 600
    image_size: int = IMAGE_SIZE

    @classmethod
    def open(
        cls, path: Path, classes: dict[str, list[str]] | None = None, images_per_class: int = 600
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
    with _naming(str(path)):
        if path.is_file() and zipfile.is_zipfile(path):
            return AuthorsArchive(ZipOfFiles(path))
        if path.is_file() and tarfile.is_tarfile(path):
            return OfficialArchive(path)
    for folder in (path, path / "cifar100", path / "cifar-100-python"):
        if (folder / "data").is_dir():
            return AuthorsArchive(FolderOfFiles(folder))
        if (folder / "meta").is_file():
            return OfficialArchive(folder)
    raise UserError(
        f"{path} is not CIFAR-FS or is damaged. Give cifar100.zip (the authors' archive), "
        "cifar-100-python.tar.gz, or the folder that one of them was extracted to."
    )


class ZipOfFiles:
    """What lies under ``cifar100/`` in a zip: read in memory, never extracted."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def _zip(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(self.path)

    def __getstate__(self) -> dict[str, Path]:
        return {"path": self.path}  # an open file cannot go to another process

    def data_files(self) -> list[str]:
        inside = (name for name in self._zip.namelist() if name.startswith("cifar100/data/"))
        return [name.removeprefix("cifar100/") for name in inside if not name.endswith("/")]

    def open(self, name: str) -> IO[bytes]:
        return self._zip.open(f"cifar100/{name}")


class FolderOfFiles:
    """The folder ``cifar100`` that the authors' archive is extracted to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def data_files(self) -> list[str]:
        return [
            (Path(folder) / name).relative_to(self.path).as_posix()
            for folder, _, names in os.walk(self.path / "data")
            for name in names
        ]

    def open(self, name: str) -> IO[bytes]:
        return (self.path / name).open("rb")


@dataclass(frozen=True)
class AuthorsArchive:
    """``data/<class>/<image>`` and the class lists ``splits/bertinetto/{train,val,test}.txt``."""

    files: ZipOfFiles | FolderOfFiles

    def check(self, classes: dict[str, list[str]]) -> None:
        for split, stem in {"base": "train", "validation": "val", "novel": "test"}.items():
            name = f"splits/bertinetto/{stem}.txt"
            listed = self._read(name).decode(errors="replace").split()
            _check_names(f"{self.files.path}: {name}", listed, classes[split])
        _check_names(f"{self.files.path}: data/", list(self._members), _all(classes))

    def images(self, name: str) -> list[NamedImage]:
        return [
            NamedImage(
                PurePosixPath(member).stem,
                decode_image(self._read(member), f"{self.files.path}: {member}"),
            )
            for member in self._members[name]
        ]

    @cached_property
    def _members(self) -> dict[str, list[str]]:
        """The image files of each class; hidden files, which desktops leave, do not count."""
        members = defaultdict(list)
        for name in self.files.data_files():
            _, *folders, file = name.split("/")
            if file.startswith("."):
                continue
            if len(folders) != 1:
                raise UserError(
                    f"{self.files.path}: {name} is out of place, images lie at "
                    "data/<class>/<image>. Remove it or get the data set again."
                )
            members[folders[0]].append(name)
        return dict(members)

    def _read(self, name: str) -> bytes:
        where = f"{self.files.path}: {name}"
        with _naming(where), self.files.open(name) as file:
            data = file.read(MAX_IMAGE_BYTES + 1)
        if len(data) > MAX_IMAGE_BYTES:
            raise UserError(f"{where} has more than {MAX_IMAGE_BYTES} bytes, the most it may have.")
        return data

    def __str__(self) -> str:
        return f"the authors' archive {self.files.path}"


@cache
def _formats() -> list[str]:
    """All that Pillow reads, except EPS: to read one would run Ghostscript."""
    Image.init()
    return sorted(Image.OPEN.keys() - {"EPS"})


def decode_image(data: bytes, where: str) -> Pixels:
    """The pixels of one image file, (32, 32, 3); nothing is converted or rescaled.

    Raises
    ------
    UserError
        If it is damaged, or anything but 32x32 RGB with 8 bits a channel.
    """
    with _naming(where), Image.open(io.BytesIO(data), formats=_formats()) as image:
        # Pillow cuts 16 bits to 8 without a word; these files' own headers tell.
        bits = 8
        if image.format == "PNG":
            bits = max(8, data[24])
        elif isinstance(image, TiffImageFile):
            bits = max(image.tag_v2.get(BITSPERSAMPLE, (8,)))
        found = f"{image.width}x{image.height} {image.mode} of {bits} bits"
        expected = f"{IMAGE_SIZE}x{IMAGE_SIZE} RGB of 8 bits"
        if found != expected:
            raise UserError(f"{where} is {found}, must be {expected}. Get the data set again.")
        return np.asarray(image)


@dataclass(frozen=True)
class OfficialArchive:
    """CIFAR-100's python archive, or its folder: the pickles ``train``, ``test`` and ``meta``."""

    path: Path

    def check(self, classes: dict[str, list[str]]) -> None:
        _check_names(f"{self.path}: meta", self._class_names, _all(classes))

    def images(self, name: str) -> list[NamedImage]:
        return self._images.get(self._class_names.index(name), [])

    def __getstate__(self) -> dict[str, Any]:
        # A worker reads the images for itself: sending them would cost more.
        return {key: value for key, value in vars(self).items() if key != "_images"}

    @cached_property
    def _class_names(self) -> list[str]:
        with _naming(f"{self.path}: meta"):
            return [name.decode() for name in self._load("meta")[b"fine_label_names"]]

    @cached_property
    def _images(self) -> dict[int, list[NamedImage]]:
        """The images of each class: views of the two big arrays."""
        images = defaultdict(list)
        for part in ("train", "test"):
            with _naming(f"{self.path}: {part}"):
                table = self._load(part)
                planes = table[b"data"].reshape(-1, 3, IMAGE_SIZE, IMAGE_SIZE)
                if planes.dtype != np.uint8:
                    raise ValueError(f"its data are {planes.dtype}, must be uint8")
                rows = zip(
                    table[b"fine_labels"],
                    table[b"filenames"],
                    planes.transpose(0, 2, 3, 1),
                    strict=True,
                )
                for label, name, pixels in rows:
                    images[label].append(NamedImage(PurePosixPath(name.decode()).stem, pixels))
        return dict(images)

    def _load(self, part: str) -> Any:
        if self.path.is_dir():
            with (self.path / part).open("rb") as file:
                return PlainUnpickler(file, encoding="bytes").load()
        with tarfile.open(self.path) as tar:
            # In the archive's order and no further than needed: there is no index to seek by.
            for member in tar:
                if member.name != f"cifar-100-python/{part}":
                    continue
                if member.size > MAX_PICKLE_BYTES:
                    raise ValueError(f"{member.size} bytes, must be under {MAX_PICKLE_BYTES}")
                if pickled := tar.extractfile(member):
                    return PlainUnpickler(pickled, encoding="bytes").load()
        raise FileNotFoundError("there is no such member")

    def __str__(self) -> str:
        return f"the CIFAR-100 python archive {self.path}"


class PlainUnpickler(pickle.Unpickler):
    """Reads plain containers and numpy arrays; whatever else a pickle asks for is refused.

    Both places of numpy's own functions are known: before numpy 2 and since.
    """

    def find_class(self, module: str, name: str) -> Any:
        allowed: dict[str, Any] = {
            "numpy.core.multiarray._reconstruct": _RECONSTRUCT,
            "numpy._core.multiarray._reconstruct": _RECONSTRUCT,
            "numpy.ndarray": np.ndarray,
            "numpy.dtype": np.dtype,
        }
        if f"{module}.{name}" not in allowed:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, only plain containers and numpy arrays are read"
            )
        return allowed[f"{module}.{name}"]


_RECONSTRUCT: Any = np.empty(0).__reduce__()[0]


def _all(classes: dict[str, list[str]]) -> list[str]:
    return [name for names in classes.values() for name in names]


def _check_names(where: str, found: Iterable[str], expected: Iterable[str]) -> None:
    extra = sorted((Counter(found) - Counter(expected)).elements())
    missing = sorted((Counter(expected) - Counter(found)).elements())
    if extra or missing:
        raise UserError(
            f"{where} does not name the classes of CIFAR-FS: "
            f"not among them or once too often: {', '.join(extra) or 'none'}; "
            f"missing: {', '.join(missing) or 'none'}. Get the data set again."
        )


@contextmanager
def _naming(where: str) -> Iterator[None]:
    """Name the file in every error, since damaged bytes make readers raise almost anything."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{where} cannot be read ({type(error).__name__}: {error}). Get the data set again."
        ) from error
