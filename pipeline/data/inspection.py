"""Is it the file? What can be told of a download by looking at it."""

import re
import shutil
import tarfile
import zipfile
from pathlib import Path

import pooch

from pipeline.data.mirrors import RemoteFile


class RefusedError(Exception):
    """A mirror does not give the file; the message is the reason."""


def find_fault(path: Path, file: RemoteFile) -> str | None:
    """What shows that ``path`` is not ``file``; None if nothing does."""
    if not path.is_file():
        return "not a file" if path.exists() else "absent"
    with path.open("rb") as content:
        start = content.read(4096).lstrip()
    if start.lower().startswith((b"<!doctype html", b"<html")):
        return name_page(start)
    size = path.stat().st_size
    if file.size not in (None, size):
        return f"{size} bytes, not {file.size}"
    if file.known_hash is None:
        return None if _is_archive(path) else "neither a zip nor a tar archive"
    algorithm, _, expected = file.known_hash.partition(":")
    found = pooch.file_hash(str(path), algorithm)
    return None if found == expected else f"its {algorithm} is {found}, not {expected}"


def _is_archive(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path) or tarfile.is_tarfile(path)
    except Exception:  # damaged bytes make the readers raise almost anything
        return False


def check_room(folder: Path, needed: int) -> None:
    """Refuse what does not fit on the disk; raises RefusedError."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise RefusedError(f"it needs {needed} more bytes, and {folder} has {free} free")


def name_page(start: bytes) -> str:
    """What a web page in place of the file says, by its title."""
    found = re.search(rb"<title[^>]*>(.*?)</title>", start, re.IGNORECASE | re.DOTALL)
    title = printable(found[1].decode(errors="replace"))[:80] if found else ""
    return f"an HTML page ({title}), not the file" if title else "an HTML page, not the file"


def printable(text: str) -> str:
    """On one line; a server has no say over the terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
