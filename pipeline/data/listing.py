"""What an archive lists, checked before any of it is read; and errors that name the file."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

from pipeline.errors import UserError

MAX_FILES = 2_000_000  # ILSVRC-2012 has 1.3 million
MAX_TOTAL_BYTES = 1 << 38

T = TypeVar("T")
_AGAIN = "Get the data set again."


class Entry(NamedTuple):
    """What an archive lists."""

    name: str
    size: int
    is_plain: bool  # neither a link nor a device


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Name the file in every error, since damaged bytes make readers raise almost anything."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{where} cannot be read ({type(error).__name__}: {error}). Get the data set again."
        ) from error


def checked(path: Path, listed: Iterable[tuple[Entry, T]]) -> dict[str, T]:
    """What is listed, by name. Raises UserError for what is not safe to read."""
    found: dict[str, T] = {}
    total = 0
    for entry, what in listed:
        name = entry.name.removeprefix("./")
        parts = name.split("/")
        if ".." in parts or "" in parts or "\\" in name or re.match("[A-Za-z]:", name):
            raise UserError(f"{path}: the name {entry.name!r} leads out of the archive. {_AGAIN}")
        if any(part.startswith(".") or part == "__MACOSX" for part in parts):
            continue
        if not entry.is_plain:
            raise UserError(f"{path}: {name} is a link or a device, must be a file. {_AGAIN}")
        if name in found:
            raise UserError(f"{path}: {name} is there twice. {_AGAIN}")
        found[name] = what
        total += entry.size
        if len(found) > MAX_FILES or total > MAX_TOTAL_BYTES:
            raise UserError(
                f"{path} has more than {MAX_FILES} files or {MAX_TOTAL_BYTES} bytes, the most it "
                "may have. Name the folder or archive that holds the data set alone."
            )
    return found


def found_in(members: dict[str, T], name: str) -> T:
    if name not in members:
        raise FileNotFoundError("there is no such file")
    return members[name]


def check_names(where: str, found: Iterable[str], expected: Iterable[str], of: str) -> None:
    """Refuse names that are not those expected, each as often."""
    # As lists: of a dictionary Counter would take the values.
    counts, wanted = Counter(list(found)), Counter(list(expected))
    extra, missing = sorted((counts - wanted).elements()), sorted((wanted - counts).elements())
    if extra or missing:
        raise UserError(
            f"{where} does not name the classes of {of}: "
            f"not among them or once too often: {', '.join(extra) or 'none'}; "
            f"missing: {', '.join(missing) or 'none'}. Get the data set again."
        )
