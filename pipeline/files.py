"""Files that are whole or absent: written beside their place, flushed, renamed."""

import errno
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; it becomes ``path``, or is gone after a failure.

    The suffix is kept, since some writers choose their format by it. An earlier file at
    ``path`` stays intact until the new one is complete and on disk.

    Raises
    ------
    UserError
        If the disk is full or the place cannot be written.
    """
    with disk_faults(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix
        )
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            # mkstemp makes files private; results are as readable as any other file.
            temporary.chmod(0o666 & ~_umask())
            move(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def move(source: Path, path: Path) -> None:
    """Let a complete file, or a folder of them, take its place once it is on disk."""
    _flush(source)
    source.replace(path)
    _flush(path.parent)


@contextmanager
def disk_faults(path: Path, needs: int | None = None) -> Iterator[None]:
    """Tell the user of a disk that is full or cannot be written, while ``path`` is written.

    ``needs`` is how many bytes it takes in all, where that is known.

    Raises
    ------
    UserError
        In place of the system's error; any other error passes.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FAULTS:
            raise
        size = "" if needs is None else f", it needs {needs} bytes"
        raise UserError(
            f"cannot write {path}{size}: {error.strerror}. "
            "Free some space or make the folder writable, then run the same command again; "
            "earlier results are intact."
        ) from error


def write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON with sorted keys; a NaN is refused, since other readers cannot parse it."""
    write_text(path, json.dumps(value, sort_keys=True, indent=1, allow_nan=False) + "\n")


# A limit on the size of files (EFBIG) is met as a full disk is; the last two are a file that
# stands where a folder must be.
_DISK_FAULTS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EEXIST,
    errno.ENOTDIR,
}


def _flush(path: Path) -> None:
    """Ask the system to put a file or a folder's entries on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot flush a folder.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
