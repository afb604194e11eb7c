"""The files of a folder, a zip or a tar, read where they are: nothing is extracted to disk.

Every listing is checked before a file is read: no name leads out of its archive, nothing is a
link or stands there twice, and number and size have bounds. Links in a folder are the user's
own, and are followed.
"""

import os
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, Protocol

from pipeline.data.extents import Extent
from pipeline.data.listing import Entry, checked, found_in, naming
from pipeline.errors import UserError

MAX_DEPTH = 8  # folders inside each other

Choice = Callable[[str], bool]


class Files(Protocol):
    """The files under ``path`` by name; hidden ones, which desktops leave, do not count."""

    path: Path

    @property
    def in_any_order(self) -> bool:
        """Whether a file can be read without all that stand before it."""

    @property
    def names(self) -> list[str]: ...

    def size(self, name: str) -> int:
        """In bytes; FileNotFoundError where there is no such file, as for ``open``."""

    def open(self, name: str) -> AbstractContextManager[IO[bytes]]: ...

    def extent(self, name: str) -> Extent | None:
        """Where the file lies on disk byte by byte, if it does."""


def _every(_: str) -> bool:
    return True


def _none(_: str) -> bool:
    return False


def open_files(path: Path, folders: Choice = _every, tars: Choice = _none) -> Files | None:
    """The files of a folder, a zip or a tar, named from ``path`` on; None if it is none of these.

    A folder in a folder is entered if its name is among ``folders``. A plain tar inside counts
    as a folder of its name without the suffix, if that is among ``tars``.

    Raises
    ------
    UserError
        If an archive is damaged or not safe to read.
    """
    with naming(str(path)):
        if path.is_dir():
            return OpenFiles(path, _in_folder(path, folders, tars))
        if path.is_file() and _is_plain_tar(path):
            return OpenFiles(path, _in_tar(Extent(str(path), 0, path.stat().st_size), tars))
        for kind, is_kind in ((ZippedFiles, zipfile.is_zipfile), (PackedTar, tarfile.is_tarfile)):
            if path.is_file() and is_kind(path):
                files: ZippedFiles | PackedTar = kind(path)
                _ = files.names  # its listing is checked
                return files
    return None


def read(files: Files, name: str, limit: int) -> bytes:
    """The whole of a file; UserError if it is damaged or has more than ``limit`` bytes."""
    where = f"{files.path}: {name}"
    with naming(where), files.open(name) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise UserError(f"{where} has more than {limit} bytes, the most it may have.")
    return data


class OpenFiles:
    """Files that lie on disk byte by byte: in a folder, in a tar, in a tar inside one of them."""

    in_any_order = True

    def __init__(self, path: Path, found: Iterable[tuple[Entry, Extent]]) -> None:
        self.path = path
        self._extents = checked(path, found)

    @property
    def names(self) -> list[str]:
        return list(self._extents)

    def size(self, name: str) -> int:
        return self.extent(name).size

    def open(self, name: str) -> IO[bytes]:
        return self.extent(name).open()

    def extent(self, name: str) -> Extent:
        return found_in(self._extents, name)


class ZippedFiles:
    """The files of a zip, packed or not."""

    in_any_order = True

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def _zip(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(self.path)

    @cached_property
    def _members(self) -> dict[str, zipfile.ZipInfo]:
        listed = (
            (
                Entry(info.filename, info.file_size, not stat.S_ISLNK(info.external_attr >> 16)),
                info,
            )
            for info in self._zip.infolist()
            if not info.is_dir()
        )
        return checked(self.path, listed)

    def __getstate__(self) -> dict[str, Path]:
        return {"path": self.path}  # an open file cannot go to another process

    @property
    def names(self) -> list[str]:
        return list(self._members)

    def size(self, name: str) -> int:
        return found_in(self._members, name).file_size

    def open(self, name: str) -> IO[bytes]:
        return self._zip.open(found_in(self._members, name))

    def extent(self, _name: str) -> None:
        return None


class PackedTar:
    """The files of a compressed tar, which has no order but from front to back."""

    in_any_order = False

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def _members(self) -> dict[str, tarfile.TarInfo]:
        with tarfile.open(self.path) as tar:
            return checked(self.path, ((_tar_entry(m), m) for m in tar if not m.isdir()))

    @property
    def names(self) -> list[str]:
        return list(self._members)

    def size(self, name: str) -> int:
        return found_in(self._members, name).size

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        with tarfile.open(self.path) as tar:
            file = tar.extractfile(found_in(self._members, name))
            assert file is not None  # only plain files are listed
            yield file

    def extent(self, _name: str) -> None:
        return None


def _is_plain_tar(path: Path) -> bool:
    try:
        tarfile.open(path, "r:").close()
    except tarfile.TarError:
        return False
    return True


def _in_folder(
    folder: Path, folders: Choice, tars: Choice, inside: str = "", depth: int = 0
) -> Iterator[tuple[Entry, Extent]]:
    with os.scandir(folder / inside) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            name = f"{inside}{entry.name}"
            if entry.is_dir():
                if depth < MAX_DEPTH and not entry.name.startswith(".") and folders(entry.name):
                    yield from _in_folder(folder, folders, tars, f"{name}/", depth + 1)
                continue
            extent = Extent(entry.path, 0, entry.stat().st_size)
            yield from _entries(Entry(name, extent.size, entry.is_file()), extent, tars)


def _in_tar(extent: Extent, tars: Choice) -> Iterator[tuple[Entry, Extent]]:
    with extent.open() as file, tarfile.open(fileobj=file, mode="r:") as tar:
        for member in tar:
            if not member.isdir():
                place = Extent(extent.path, extent.offset + member.offset_data, member.size)
                yield from _entries(_tar_entry(member), place, tars)


def _entries(entry: Entry, extent: Extent, tars: Choice) -> Iterator[tuple[Entry, Extent]]:
    """A file, or the files of a tar that counts as a folder."""
    name = entry.name.rpartition("/")[2]
    if not (entry.is_plain and name.endswith(".tar") and tars(name.removesuffix(".tar"))):
        yield entry, extent
        return
    for inner, place in _in_tar(extent, _none):
        yield inner._replace(name=entry.name.removesuffix(".tar") + "/" + inner.name), place


def _tar_entry(member: tarfile.TarInfo) -> Entry:
    return Entry(member.name, member.size, member.isreg() and not member.issparse())
