"""Downloads: each data set from the first mirror that gives it whole, and in place only then."""

import shutil
from contextlib import suppress
from pathlib import Path

from pipeline.data.inspection import RefusedError, check_room, find_fault
from pipeline.data.mirrors import Downloads, Mirror
from pipeline.data.mirrors import of_dataset as of_dataset
from pipeline.data.transfer import download
from pipeline.errors import UserError
from pipeline.files import alone, disk_faults, move


def fetch(downloads: Downloads, destination: Path, pause_s: float = 1.0) -> Path:
    """Download a data set to ``destination / "archive"``; what is there already is kept.

    It is a file, or a folder of files where a mirror gives several. What has come of them is
    kept in ``.partial`` beside ``destination``: Snakemake empties the folder itself before it
    tries again. A server that fails is asked again after ``pause_s`` seconds, then after twice
    as long; then comes the next mirror. Of two processes one downloads and one waits.

    Raises
    ------
    UserError
        If no mirror gives it, with the reason of each; if something that none of them would
        give lies in its place; or if the disk is full or cannot be written.
    """
    place = destination / "archive"
    parts = destination.parent / ".partial" / destination.name
    with disk_faults(place, downloads.mirrors[0].size):
        if _is_present(downloads, place):
            return place
        with alone(parts.with_name(f"{parts.name}.lock"), f"downloading {place}", waits=True):
            if not _is_present(downloads, place):
                _bring(downloads, place, parts, pause_s)
    return place


def link(own: Path, place: Path) -> None:
    """Let ``place`` be the user's own copy, which is neither copied nor changed.

    Raises
    ------
    UserError
        If there is no such file or folder, a download stands in its place, or the disk is full
        or cannot be written.
    """
    if not own.exists():
        raise UserError(
            f"there is no {own}: correct the data set's path in config.yaml, "
            "or set it to null to download the data"
        )
    with disk_faults(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.is_symlink():
            place.unlink()
        elif place.exists():
            raise UserError(
                f"{place} is already there, as a file of its own: remove it to use {own} instead"
            )
        place.symlink_to(own.resolve())


def _bring(downloads: Downloads, place: Path, parts: Path, pause_s: float) -> None:
    failures = []
    for mirror in downloads.mirrors:
        try:
            whole = _collect(mirror, parts / mirror.name, pause_s)
        except RefusedError as error:
            print(f"{mirror.name}: {error}", flush=True)
            failures.append(_describe(mirror, str(error)))
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        move(whole, place)
        shutil.rmtree(parts)
        return
    with suppress(OSError):
        parts.rmdir()
    raise UserError(
        "\n".join(
            [
                f"cannot download {place}. Every mirror failed:",
                *failures,
                *_advice(downloads, place),
            ]
        )
        + (f"\nWhat came is kept in {parts}, to go on from." if parts.exists() else "")
    )


def _collect(mirror: Mirror, folder: Path, pause_s: float) -> Path:
    """All files of a mirror in ``folder``; returns the file, or the folder of several."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if mirror.size is not None:
            check_room(folder, mirror.size - sum(part.stat().st_size for part in folder.iterdir()))
        for file in mirror.files:
            path = folder / file.name
            if find_fault(path, file) is None:
                continue
            print(f"{path.name} from {file.url}", flush=True)
            try:
                download(file, path, pause_s)
            except RefusedError as error:
                raise RefusedError(f"{file.name}: {error}") from error
    finally:
        with suppress(OSError):
            folder.rmdir()  # if there is nothing to go on from
    return folder if mirror.several else folder / mirror.files[0].name


def _describe(mirror: Mirror, fault: str) -> str:
    return "\n".join([f"  {mirror.name}: {fault}", *(f"    {file}" for file in mirror.files)])


def _advice(downloads: Downloads, place: Path) -> list[str]:
    return [
        f"Get one of these by another way and put it at {place} under that name (several files: "
        "under their own names into a folder of that name), or set the data set's path in "
        "config.yaml to where it is. Then run the same command again.",
        *(f"Or, by hand: {way}." for way in downloads.by_hand),
    ]


def _is_present(downloads: Downloads, place: Path) -> bool:
    """Whether ``place`` is what a mirror gives; raises UserError if it is anything else."""
    if not place.exists():
        return False
    faults = []
    for mirror in downloads.mirrors:
        fault = _find_fault(mirror, place)
        if fault is None:
            return True
        faults.append(_describe(mirror, fault))
    raise UserError(
        f"{place} is not what belongs there:\n"
        + "\n".join(faults)
        + "\nRemove it, or put one of these in its place, and run the same command again."
    )


def _find_fault(mirror: Mirror, place: Path) -> str | None:
    if not mirror.several:
        return find_fault(place, mirror.files[0])
    for file in mirror.files:
        if fault := find_fault(place / file.name, file):
            return f"{file.name}: {fault}"
    return None
