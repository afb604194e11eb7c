"""Files that are whole or absent: written beside their place, flushed, renamed."""

import errno
import fcntl
import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from glob import escape
from io import FileIO
from pathlib import Path
from typing import Any

from pipeline.errors import UserError


@contextmanager
def replacing(path: Path, needs: int | None = None) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; it becomes ``path``, or is gone after a failure.

    The suffix is kept, since some writers choose their format by it. An earlier file at
    ``path`` stays intact until the new one is complete and on disk. ``needs`` is as in
    ``disk_faults``.

    Raises
    ------
    UserError
        If the disk is full or the place cannot be written.
    """
    with disk_faults(path, needs):
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_remains(path)
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix
        )
        temporary = Path(name)
        try:
            _lock(handle)
            yield temporary
            # mkstemp makes files private; results are as readable as any other file.
            temporary.chmod(0o666 & ~_umask())
            move(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
            os.close(handle)


def clear_remains(path: Path) -> None:
    """Remove what processes that were killed while they wrote ``path`` left beside it.

    Whoever still writes holds a lock on its file; where there are no locks, nothing is removed.
    """
    for remains in path.parent.glob(f".{escape(path.stem)}-*{escape(path.suffix)}"):
        with suppress(OSError), remains.open("r+b") as file:
            if _lock(file.fileno()):
                remains.unlink()


def move(source: Path, path: Path) -> None:
    """Let a complete file, or a folder of them, take its place once it is on disk."""
    flush(source)
    source.replace(path)
    flush(path.parent)


def flush(path: Path) -> None:
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


@contextmanager
def alone(lock: Path, doing: str, *, waits: bool = False) -> Iterator[None]:
    """Let one process at a time do something; ``lock`` is a file that says which one does.

    Another process is refused, or it ``waits`` and says for whom on stdout. The system opens the
    lock of a process that died. Where the file system knows no locks, that is said on stdout,
    and nobody is kept out.

    Raises
    ------
    UserError
        If another process is at it, or the place cannot be written.
    """
    with disk_faults(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = _locked(lock, doing, waits)
    with file:
        try:
            with disk_faults(lock):
                file.truncate(0)
                file.write(f"process {os.getpid()} on {platform.node()}".encode())
            yield
        finally:
            lock.unlink(missing_ok=True)


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


def require_writable(folder: Path) -> None:
    """Refuse a folder that cannot be written, before the hours after which that would be met.

    One that is not there yet is not made: the nearest above it is tried. Nothing is left.

    Raises
    ------
    UserError
        If no file can be made there, or the disk is full.
    """
    with disk_faults(folder):
        nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        with tempfile.TemporaryFile(dir=nearest, buffering=0) as file:
            file.write(b"1")


def write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON with sorted keys; a NaN is refused, since other readers cannot parse it."""
    write_text(path, json.dumps(value, sort_keys=True, indent=1, allow_nan=False) + "\n")


def sha256(path: Path) -> str:
    """Of a file's content, which is read block by block."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
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


def _locked(lock: Path, doing: str, waits: bool) -> FileIO:
    """The lock, open as long as it is held."""
    while True:
        with ExitStack() as closing:
            file = closing.enter_context(lock.open("ab+", buffering=0))
            try:
                if not _lock(file.fileno()):
                    print(f"{lock.parent} knows no locks: start this only once", flush=True)
            except BlockingIOError:
                file.seek(0)
                holder = file.read(500).decode(errors="replace") or "another process"
                if not waits:
                    raise UserError(
                        f"{doing}: {holder} is at it already, and holds {lock}. "
                        "Wait until it is done, or end it; then run the same command again"
                    ) from None
                print(f"{doing}: {holder} is at it already: waiting for it", flush=True)
                _lock(file.fileno(), waits)
            # Its last holder may have removed it in between, and others lock a new one.
            if os.fstat(file.fileno()).st_nlink:
                closing.pop_all()
                return file


def _lock(descriptor: int, waits: bool = False) -> bool:
    """Lock a file, until it is closed; False where the file system knows no locks.

    Raises
    ------
    BlockingIOError
        If another process has locked it, and this one does not wait.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
