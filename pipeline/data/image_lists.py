"""Which images of which classes: the lists train.csv, val.csv and test.csv.

Ravi and Larochelle (2017) published theirs beside "Optimization as a model for few-shot
learning": the columns filename and label, 600 images of each of 100 classes.
"""

import csv
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.data.archives import Files, read
from pipeline.data.listing import naming
from pipeline.errors import UserError

FILES = {"base": "train.csv", "validation": "val.csv", "novel": "test.csv"}
MAX_BYTES = 1 << 24

RAVI_LAROCHELLE = {
    "base": "498519cd8e49ce97ed26a4a3638966698ae41ab35e9c68538319fc9b46ba7d2f",
    "validation": "5658a59921ca027ee76af92949869c5d6f41d77592ff3b18db325a9d10c893b9",
    "novel": "2b7cfa78342995761a572a8158e539bc4e0a80f9bbd7d00c1e17a460fbbb93fa",
}


@dataclass(frozen=True)
class ImageLists:
    """The file names of the images of each class."""

    where: str
    names: dict[str, list[str]]  # class -> file names
    are_ravi_larochelle: bool  # by their sha256

    def __str__(self) -> str:
        whose = "the Ravi-Larochelle lists" if self.are_ravi_larochelle else "lists of your own"
        return f"{whose} in {self.where}"


def find_lists(
    own: Path | None, files: Files, classes: dict[str, list[str]], images_per_class: int
) -> ImageLists | None:
    """The lists in the folder ``own``; else those among ``files``, or beside them, if any are.

    Raises
    ------
    UserError
        If one of the three is missing, or they do not give each class of the split its number
        of images.
    """
    texts: dict[str, bytes]
    if own is not None:
        where = str(own)
        texts = {split: _read(own / name) for split, name in FILES.items()}
    elif inside := _find_inside(files):
        where = f"{files.path}"
        texts = {split: read(files, name, MAX_BYTES) for split, name in inside.items()}
    else:
        beside = files.path.resolve().parent
        if not all((beside / name).is_file() for name in FILES.values()):
            return None
        where = str(beside)
        texts = {split: _read(beside / name) for split, name in FILES.items()}
    names: dict[str, list[str]] = {}
    for split, content in texts.items():
        listed = f"{where}: {FILES[split]}"
        names |= _parse(content, listed, classes[split], images_per_class)
    digests = {split: hashlib.sha256(content).hexdigest() for split, content in texts.items()}
    return ImageLists(where, names, digests == RAVI_LAROCHELLE)


def _find_inside(files: Files) -> dict[str, str] | None:
    """The three lists in one folder of an archive, the one highest up."""
    names = set(files.names)
    for name in sorted(names, key=lambda name: (name.count("/"), name)):
        folder = PurePosixPath(name).parent
        found = {split: str(folder / file) for split, file in FILES.items()}
        if name == found["base"] and names.issuperset(found.values()):
            return found
    return None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}). image_lists must be a folder with "
            f"{', '.join(FILES.values())}, by Ravi and Larochelle."
        ) from error
    if len(content) > MAX_BYTES:
        raise UserError(f"{path} has more than {MAX_BYTES} bytes, the most it may have.")
    return content


def _parse(
    content: bytes, where: str, classes: list[str], images_per_class: int
) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {name: [] for name in classes}
    with naming(where):
        rows = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        if rows.fieldnames is None or not {"filename", "label"} <= set(rows.fieldnames):
            raise ValueError(f"its columns are {rows.fieldnames}, must be filename and label")
        for row in rows:
            if row["label"] not in names:
                raise UserError(
                    f"{where} lists {row['filename']} of class {row['label']}, which is none of "
                    "that split. Get the lists of Ravi and Larochelle."
                )
            names[row["label"]].append(row["filename"])
    for name, files in names.items():
        if len(set(files)) != images_per_class or len(files) != images_per_class:
            raise UserError(
                f"{where} lists {len(set(files))} different images of class {name} in "
                f"{len(files)} rows, must be {images_per_class}. "
                "Get the lists of Ravi and Larochelle."
            )
    return names
