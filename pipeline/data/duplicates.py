"""Images that are there twice: real data sets have some, and a split may leak into another."""

import numpy as np
from numpy.typing import NDArray

from pipeline.data.packed import SPLITS, Duplicates, Place

MAX_PAIRS = 100

Digests = NDArray[np.uint8]  # (image, 32): the sha256 of each image's pixels


def find_duplicates(
    digests: dict[str, Digests], classes: dict[str, list[str]], images_per_class: int
) -> Duplicates:
    """Pair each image with the first of the same pixels, in the order of splits and labels.

    Of the pairs the first ``MAX_PAIRS`` are listed, those across splits before the others.
    """
    first: dict[bytes, Place] = {}
    within: list[tuple[Place, Place]] = []
    across: list[tuple[Place, Place]] = []
    for split in SPLITS:
        for index, row in enumerate(digests[split]):
            label, number = divmod(index, images_per_class)
            place = (split, classes[split][label], number)
            earlier = first.setdefault(row.tobytes(), place)
            if earlier is not place:
                (within if earlier[0] == split else across).append((earlier, place))
    return Duplicates(
        within_splits=len(within),
        across_splits=len(across),
        pairs=(across + within)[:MAX_PAIRS],
    )
