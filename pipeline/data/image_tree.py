"""Mini-ImageNet as image files by class: already chosen, or to be chosen from ILSVRC-2012.

A file's class is the folder it lies in, or else the start of its name. Which files of a class
belong is clear where it has just as many as it should; otherwise image lists must say.
"""

import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import PurePosixPath

import numpy as np

from pipeline.config.datasets import Filter
from pipeline.data.archives import Files, read
from pipeline.data.image_lists import ImageLists
from pipeline.data.images import Pixels, decode
from pipeline.data.listing import check_names
from pipeline.data.packed import Origin
from pipeline.data.pickled_splits import WNID
from pipeline.errors import UserError

MAX_IMAGE_BYTES = 1 << 26
SPLIT_FOLDERS = {
    "train": "base",
    "val": "validation",
    "validation": "validation",
    "test": "novel",
}
_FLAT = re.compile(r"(n\d{8})(\d{8}|_\d+)\.")  # file names that begin with their class
_RAVI = re.compile(r"n\d{8}(\d{8})\.")  # class and number, as in the lists
_ILSVRC = re.compile(r"n\d{8}_(\d+)\.")  # class and number, as in ILSVRC-2012

Members = dict[str, list[str]]  # class -> its files

BY_RANK = (
    "Images were chosen from ILSVRC-2012 by rank: image i of the lists was read as the i-th image "
    "of its class by the number in its ILSVRC name. That this was the authors' order is likely "
    "but not established."
)
CONVERTED = "Greyscale and CMYK photographs were converted to RGB."


def members_by_class(files: Files) -> Members:
    """The files that belong to some class of ImageNet, by class; files of other kinds are left."""
    members: Members = defaultdict(list)
    for name in files.names:
        path = PurePosixPath(name)
        if WNID.fullmatch(path.parent.name):
            members[path.parent.name].append(name)
        elif flat := _FLAT.match(path.name):
            members[flat[1]].append(name)
    return dict(members)


def _by_stem(file: str) -> tuple[str, str]:
    return PurePosixPath(file).stem, file


class ImageTree:
    """The image files of every class, in the order of their names, or of those in the lists.

    ``others`` are folders of further classes, which were not looked into.
    """

    one_reader = False

    def __init__(
        self,
        files: Files,
        members: Members,
        others: list[str],
        find_lists: Callable[[], ImageLists | None],
        classes: dict[str, list[str]],
        images_per_class: int,
        image_size: int,
        resize: Filter,
    ) -> None:
        self._files, self.classes = files, classes
        self._image_size, self._resize = image_size, resize
        self._check_places(members)
        names = [name for names in classes.values() for name in names]
        ours = {name: members[name] for name in names if name in members}
        self._lists = ""  # by whose ranks images are chosen
        if all(len(found) == images_per_class for found in ours.values()):
            check_names(str(files.path), {*members, *others}, names, "mini-ImageNet")
            self._chosen = {name: sorted(found, key=_by_stem) for name, found in ours.items()}
        else:
            check_names(str(files.path), ours, names, "mini-ImageNet")
            self._chosen = self._choose(ours, find_lists(), images_per_class)

    @property
    def origin(self) -> Origin:
        if self._lists:
            form, notes = "ILSVRC-2012 by rank", [f"{BY_RANK} The lists are {self._lists}."]
        else:
            form, notes = "images by class", []
        return Origin(form=form, variant=form, resize=self._resize, notes=[*notes, CONVERTED])

    def images(self, name: str) -> Pixels:
        """The images of a class, (image, height, width, 3), in the order of their names."""
        size = self._image_size
        pixels = [
            decode(
                read(self._files, file, MAX_IMAGE_BYTES),
                f"{self._files.path}: {file}",
                size,
                self._resize,
            )
            for file in self._chosen[name]
        ]
        return np.array(pixels, np.uint8).reshape(-1, size, size, 3)

    def _check_places(self, members: Members) -> None:
        """Refuse a class in two folders, or in the folder of another split."""
        homes = {name: split for split, names in self.classes.items() for name in names}
        folders = {
            name: {PurePosixPath(file).parent for file in files} for name, files in members.items()
        }
        for name, places in folders.items():
            if len(places) > 1 and name in homes:
                raise UserError(
                    f"{self._files.path}: class {name} lies in {len(places)} folders: "
                    f"{', '.join(sorted(map(str, places)))}. Name the folder that holds "
                    "mini-ImageNet, or the training images of ILSVRC-2012, alone."
                )
        splits = {
            name: SPLIT_FOLDERS[place.parent.name]
            for name, places in folders.items()
            for place in places
            if name in homes and place.parent.name in SPLIT_FOLDERS
        }
        if len(set(splits.values())) > 1:
            for name, split in splits.items():
                if split != homes[name]:
                    raise UserError(
                        f"{self._files.path}: class {name} lies under {split}, is one of "
                        f"{homes[name]} by Ravi and Larochelle. Get the data set again."
                    )

    def _choose(self, members: Members, lists: ImageLists | None, images_per_class: int) -> Members:
        """What the lists take of each class, in the order of the names there."""
        if lists is None:
            name, found = next(
                (name, found) for name, found in members.items() if len(found) != images_per_class
            )
            raise UserError(
                f"{self._files.path}: class {name} has {len(found)} images, must have "
                f"{images_per_class}. If it is ILSVRC-2012, put the lists of Ravi and Larochelle, "
                "train.csv, val.csv and test.csv, beside it, or name their folder as image_lists."
            )
        chosen = {}
        for name in members:
            listed = sorted(lists.names[name], key=_by_stem)
            by_stem = {PurePosixPath(file).stem: file for file in sorted(members[name])}
            if all(PurePosixPath(file).stem in by_stem for file in listed):
                chosen[name] = [by_stem[PurePosixPath(file).stem] for file in listed]
            else:
                chosen[name] = self._ranked(name, listed, members[name], str(lists))
                self._lists = str(lists)
        return chosen

    def _ranked(self, name: str, listed: list[str], files: list[str], lists: str) -> list[str]:
        """The listed images of a class of ILSVRC-2012, by their rank."""
        matches = [(_ILSVRC.match(PurePosixPath(file).name), file) for file in files]
        in_order = [file for _, file in sorted((int(m[1]), file) for m, file in matches if m)]
        ranks = [int(match[1]) for file in listed if (match := _RAVI.match(file))]
        if len(in_order) != len(files) or len(ranks) != len(listed):
            stems = {PurePosixPath(file).stem for file in files}
            missing = next(file for file in listed if PurePosixPath(file).stem not in stems)
            raise UserError(
                f"{self._files.path}: class {name} has no image {missing}, which {lists} "
                "name, and is not as in ILSVRC-2012 either (n01532829_5.JPEG). Get images and "
                "lists from the same place."
            )
        if beyond := [rank for rank in ranks if not 1 <= rank <= len(in_order)]:
            raise UserError(
                f"{self._files.path}: class {name} has {len(in_order)} images, but image "
                f"{beyond[0]} is listed by {lists}. Give all training images of "
                "ILSVRC-2012, or a mini-ImageNet whose images are chosen already."
            )
        return [in_order[rank - 1] for rank in ranks]
