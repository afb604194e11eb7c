"""Downloads: each file from the first mirror that gives it whole, and in place only then."""

import tarfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pooch
from requests.exceptions import HTTPError, RequestException

from pipeline.errors import UserError
from pipeline.files import replacing

ATTEMPTS = 3
TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Mirror:
    """A place to download from, and what is known of the file there."""

    url: str
    known_hash: str | None = None  # algorithm:hexdigest
    size: int | None = None  # bytes

    def __str__(self) -> str:
        size = "unknown size" if self.size is None else f"{self.size} bytes"
        return f"{self.url} ({self.known_hash or 'unknown hash'}, {size})"


@dataclass(frozen=True)
class RemoteFile:
    """A file of a data set. Mirrors may differ in form where the reader takes any of them."""

    name: str
    mirrors: tuple[Mirror, ...]


# The official archive comes first, since its hash is known. Both pack to the same arrays.
REMOTE_FILES = {
    "cifar_fs": (
        RemoteFile(
            "archive",
            (
                Mirror(
                    "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
                    "md5:eb9058c3a382ffc7106e4002c42a8d85",
                    169_001_437,
                ),
                Mirror("https://zenodo.org/record/7978538/files/cifar100.zip"),
            ),
        ),
    ),
}


def of_dataset(dataset: str) -> Sequence[RemoteFile]:
    """The files to download for a data set; raises UserError where none are known."""
    if dataset not in REMOTE_FILES:
        raise UserError(
            f"there is no download for the data set {dataset}, only for {', '.join(REMOTE_FILES)}. "
            f"Set datasets.{dataset}.path in config.yaml to a copy of your own."
        )
    return REMOTE_FILES[dataset]


def fetch(files: Sequence[RemoteFile], destination: Path, pause_s: float = 1.0) -> list[Path]:
    """Download ``files`` into the folder ``destination``; what is there already is kept.

    A server that fails is asked again after ``pause_s`` seconds, then after twice as long;
    then comes the next mirror.

    Raises
    ------
    UserError
        If no mirror gives a file, with the reason of each; or if something that none of
        them would give lies in its place.
    """
    return [_fetch(file, destination / file.name, pause_s) for file in files]


def link(own: Path, place: Path) -> None:
    """Let ``place`` be the user's own copy, which is neither copied nor changed.

    Raises
    ------
    UserError
        If there is no such file or folder, or a download stands in its place.
    """
    if not own.exists():
        raise UserError(
            f"there is no {own}: correct the data set's path in config.yaml, "
            "or set it to null to download the data"
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_symlink():
        place.unlink()
    elif place.exists():
        raise UserError(
            f"{place} is already there, as a file of its own: remove it to use {own} instead"
        )
    place.symlink_to(own.resolve())


def _fetch(file: RemoteFile, path: Path, pause_s: float) -> Path:
    if path.exists():
        _check_present(file, path)
        return path
    failures = []
    for mirror in file.mirrors:
        try:
            _download(mirror, path, pause_s)
            return path
        except (_RefusedError, RequestException) as error:
            failures.append(f"  {mirror}: {_reason(error)}")
    raise UserError(
        f"cannot download {path}. Every mirror failed:\n" + "\n".join(failures) + "\n"
        f"Get one of these files by another way, put it at {path} under that name, "
        "and run the same command again."
    )


class _RefusedError(Exception):
    """A download came through, but is not the file."""


def _download(mirror: Mirror, path: Path, pause_s: float) -> None:
    get = pooch.HTTPDownloader(chunk_size=1 << 20, timeout=TIMEOUT_S)
    with replacing(path) as temporary:
        for attempt in range(ATTEMPTS):
            try:
                get(mirror.url, str(temporary), None)
                break
            except RequestException as error:
                if attempt == ATTEMPTS - 1 or not _may_pass(error):
                    raise
                time.sleep(pause_s * 2**attempt)
        if fault := _fault(temporary, mirror):
            raise _RefusedError(fault)


def _may_pass(error: RequestException) -> bool:
    """Whether asking again may help: not where the server knows the file to be out of reach."""
    status = error.response.status_code if error.response is not None else None
    return status is None or status == 429 or status >= 500


def _reason(error: Exception) -> str:
    if isinstance(error, HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}"
    return str(error)


def _check_present(file: RemoteFile, path: Path) -> None:
    faults = [(mirror, _fault(path, mirror)) for mirror in file.mirrors]
    if all(fault for _, fault in faults):
        raise UserError(
            f"{path} is not a file that belongs there:\n"
            + "\n".join(f"  {mirror}: {fault}" for mirror, fault in faults)
            + "\nRemove it, or put one of these in its place, and run the same command again."
        )


def _fault(path: Path, mirror: Mirror) -> str | None:
    """What shows that the file at ``path`` is not the mirror's; None if nothing does."""
    with path.open("rb") as file:
        start = file.read(512).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "an HTML page, not the file"
    size = path.stat().st_size
    if mirror.size not in (None, size):
        return f"{size} bytes, not {mirror.size}"
    if mirror.known_hash is None:
        if zipfile.is_zipfile(path) or tarfile.is_tarfile(path):
            return None
        return "neither a zip nor a tar archive"
    algorithm, _, expected = mirror.known_hash.partition(":")
    found = pooch.file_hash(str(path), algorithm)
    return None if found == expected else f"its {algorithm} is {found}, not {expected}"
