"""Data sets: where images come from, and whose place they take."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pipeline.config.fields import Count, Index, Name, Strict

SPLIT_CLASSES = {"base": 64, "validation": 16, "novel": 20}
# Of the paper's data sets: images of a class, and pixels along a side
IMAGES_PER_CLASS = 600
CIFAR_FS_SIZE = 32
MINI_IMAGENET_SIZE = 84

Filter = Literal["lanczos", "bicubic", "bilinear", "nearest", "box"]


class CifarFS(Strict):
    """CIFAR-FS (Bertinetto et al., 2018): the 100 classes of CIFAR-100, split 64/16/20."""

    source: Literal["cifar_fs"]
    path: str | None = Field(
        None,
        description="Your own copy: the authors' archive (zip or folder) or CIFAR-100's python "
        "archive. Absent: it is downloaded.",
    )
    image_size: ClassVar[int] = CIFAR_FS_SIZE
    images_per_class: ClassVar[int] = IMAGES_PER_CLASS
    stands_for: ClassVar[str | None] = None


class MiniImagenet(Strict):
    """Mini-ImageNet (Vinyals et al., 2016), in the split of Ravi and Larochelle (2017)."""

    source: Literal["mini_imagenet"]
    path: str | None = Field(
        None,
        description="Your own copy, a folder or an archive: cached or category-split pickles, "
        "images by class, or the training images of ILSVRC-2012.",
    )
    image_lists: str | None = Field(
        None,
        description="The folder of train.csv, val.csv and test.csv by Ravi and Larochelle, which "
        "say what of ILSVRC-2012 belongs. Absent: they are looked for in and beside the data.",
    )
    resize: Filter = Field(
        "lanczos",
        description="The filter for images that are not 84 pixels wide and high; pickles hold "
        "resized ones. MAML's released code takes lanczos.",
    )
    image_size: ClassVar[int] = MINI_IMAGENET_SIZE
    images_per_class: ClassVar[int] = IMAGES_PER_CLASS
    stands_for: ClassVar[str | None] = None


class Synthetic(Strict):
    """Generated images, a stand-in that needs no download."""

    source: Literal["synthetic"]
    stands_for: Name = Field(description="The data set whose place it takes.")
    image_size: Annotated[int, Field(ge=16, strict=True)]
    images_per_class: Count
    seed: Index = 0
    path: ClassVar[None] = None


Dataset = Annotated[CifarFS | MiniImagenet | Synthetic, Field(discriminator="source")]
