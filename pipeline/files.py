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
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix
        )
        os.close(handle)
        temporary = Path(name)
        yield temporary
        _flush(temporary)
        # mkstemp makes files private; results are as readable as any other file.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        _flush(path.parent)
    except OSError as error:
        if error.errno in _DISK_FAULTS:
            raise UserError(
                f"cannot write {path}: {error.strerror}. "
                "Free some space or make the folder writable, then run the same command again; "
                "earlier results are intact."
            ) from error
        raise
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON with sorted keys; a NaN is refused, since other readers cannot parse it."""
    write_text(path, json.dumps(value, sort_keys=True, indent=1, allow_nan=False) + "\n")


_DISK_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


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
