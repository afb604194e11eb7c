"""Mini-ImageNet: 100 classes of ILSVRC-2012 with 600 images each, 84 pixels wide.

The classes are split 64 / 16 / 20 by Ravi and Larochelle (2017). The data set is handed on in
several forms; under the same names their pixels differ, since each was resized on its own.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from pipeline.config.datasets import IMAGES_PER_CLASS, Filter
from pipeline.config.datasets import MINI_IMAGENET_SIZE as IMAGE_SIZE
from pipeline.data.archives import Files, open_files
from pipeline.data.image_lists import find_lists
from pipeline.data.image_tree import ImageTree, members_by_class
from pipeline.data.images import Pixels
from pipeline.data.packed import SPLITS, Origin
from pipeline.data.packing import read_class_split
from pipeline.data.pickled_splits import LAYOUTS, WNID, Layout, PickledSplits
from pipeline.errors import UserError

KNOWN_FORMS = (
    "Known forms, as a folder, zip or tar: the cached pickles "
    "mini-imagenet-cache-{train,val,test}.pkl; the pickles "
    "miniImageNet_category_split_{train_phase_train,val,test}.pickle; images by class "
    "(<class>/<image>, such as n01532829/n0153282900000005.jpg, or such images without folders); "
    "the training images of ILSVRC-2012 (ILSVRC2012_img_train.tar or its folders) with the lists "
    "train.csv, val.csv and test.csv of Ravi and Larochelle beside it."
)


class Form(Protocol):
    """One of the forms in which mini-ImageNet is handed on, checked against the class split."""

    classes: dict[str, list[str]]

    @property
    def origin(self) -> Origin: ...

    @property
    def one_reader(self) -> bool: ...

    def images(self, name: str) -> Pixels:
        """The images of a class, (image, 84, 84, 3)."""


@dataclass(frozen=True)
class MiniImagenet:
    """The source of mini-ImageNet, to be packed."""

    path: Path
    form: Form
    images_per_class: int = IMAGES_PER_CLASS
    image_size: int = IMAGE_SIZE

    @classmethod
    def open(
        cls,
        path: Path,
        image_lists: Path | None = None,
        resize: Filter = "lanczos",
        classes: dict[str, list[str]] | None = None,
        images_per_class: int = IMAGES_PER_CLASS,
    ) -> "MiniImagenet":
        """Find out which form ``path``, a file or a folder, has; check its classes.

        Images of another size are resized by ``resize``; the default is what MAML's released
        code does (Finn et al., 2017). Where classes have more images than belong, image lists
        are looked for in the folder ``image_lists``, or else in and beside ``path``.

        Raises
        ------
        UserError
            If it has no known form, or more than one, or other classes than those of Ravi and
            Larochelle (``splits/mini_imagenet.csv``), which ``classes`` replaces in tests.
        """
        if classes is None:
            classes = read_class_split(Path(__file__).parent / "splits" / "mini_imagenet.csv")
        ours = {name for names in classes.values() for name in names}
        others: list[str] = []

        def wanted(folder: str) -> bool:
            if WNID.fullmatch(folder) and folder not in ours:
                others.append(folder)  # most of ILSVRC-2012: not even looked into
                return False
            return True

        files = open_files(path, folders=wanted, tars=lambda name: name in ours)
        members = members_by_class(files) if files else {}
        pickles = _find_pickles(files) if files else None
        if files is None or not (pickles or members):
            raise UserError(f"{path} is not mini-ImageNet or is damaged. {KNOWN_FORMS}")
        form: Form
        if pickles is None:
            _check_order(files)
            lists = partial(find_lists, image_lists, files, classes, images_per_class)
            form = ImageTree(
                files, members, others, lists, classes, images_per_class, IMAGE_SIZE, resize
            )
        elif members:
            raise UserError(
                f"{path} holds {pickles[0].form} and also images by class, such as "
                f"{next(iter(members.values()))[0]}. Name the folder or archive of one of them."
            )
        else:
            form = PickledSplits(files, *pickles, classes, images_per_class, IMAGE_SIZE)
        return cls(path, form, images_per_class)

    @property
    def classes(self) -> dict[str, list[str]]:
        return self.form.classes

    @property
    def origin(self) -> Origin:
        return self.form.origin

    @property
    def one_reader(self) -> bool:
        return self.form.one_reader

    def images(self, name: str) -> Pixels:
        """The images of a class, (image, 84, 84, 3)."""
        return self.form.images(name)

    def __str__(self) -> str:
        return f"mini-ImageNet from {self.origin.form}, {self.path}"


def source(settings: dict[str, Any], raw: Path | None) -> MiniImagenet:
    """The source to pack from the archive or folder ``raw``."""
    if raw is None:
        raise UserError(
            "mini-ImageNet is packed from an archive or a folder: name it with --raw PATH."
        )
    lists = settings["image_lists"]
    return MiniImagenet.open(
        raw, None if lists is None else Path(lists).expanduser(), settings["resize"]
    )


def _find_pickles(files: Files) -> tuple[Layout, dict[str, str]] | None:
    """The layout of the pickles that are there, and where the one of each split lies."""
    places: dict[str, list[str]] = {}
    for name in files.names:
        places.setdefault(PurePosixPath(name).name, []).append(name)
    known = {layout: [name for name in layout.files if name in places] for layout in LAYOUTS}
    whole = [layout for layout, found in known.items() if len(found) == len(SPLITS)]
    if not any(known.values()):
        return None
    if not whole:
        layout = max(known, key=lambda layout: len(known[layout]))
        missing = [name for name in layout.files if name not in places]
        raise UserError(
            f"{files.path} holds some of the {layout.form}, but no {' and no '.join(missing)}. "
            "Put all three beside each other."
        )
    if len(whole) > 1:
        raise UserError(
            f"{files.path} holds both {' and '.join(layout.form for layout in whole)}. "
            "Name a folder that holds one of them alone."
        )
    for name in whole[0].files:
        if len(places[name]) > 1:
            raise UserError(
                f"{files.path} holds {name} {len(places[name])} times: "
                f"{', '.join(places[name])}. Name the folder of one of them."
            )
    return whole[0], {
        split: places[name][0] for split, name in zip(SPLITS, whole[0].files, strict=True)
    }


def _check_order(files: Files) -> None:
    if not files.in_any_order:
        raise UserError(
            f"{files.path} is a compressed tar, from which images cannot be read one by one. "
            "Extract it, or decompress it to a plain tar, and name what comes out."
        )
