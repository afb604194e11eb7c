"""A packed data set for the eye: some images of every class, and its passport in words."""

from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.data.description import facts
from pipeline.data.packed import Packed, Passport, Place
from pipeline.files import replacing

GAP = 2  # pixels between images
PAIRS_SHOWN = 5


def contact_sheet(packed: Packed, split: str, out: Path, columns: int = 12) -> None:
    """Write a PNG with a row for each class of a split, in the order of labels.

    A row shows images at even distances in the class, the first one included; the same
    arrays always give the same pixels.
    """
    passport = packed.passport
    size, each = passport.image_size, passport.images_per_class
    columns = min(columns, each)
    rows = len(passport.classes[split])
    places = np.arange(columns) * each // columns
    images = packed.images(split)
    step = size + GAP
    sheet = np.full((rows * step + GAP, columns * step + GAP, 3), 255, np.uint8)
    for row in range(rows):
        for column, place in enumerate(places):
            top, left = GAP + row * step, GAP + column * step
            sheet[top : top + size, left : left + size] = images[row * each + place]
    with replacing(out) as temporary:
        Image.fromarray(sheet).save(temporary, "PNG")


def describe(passport: Passport) -> str:
    """The passport in words, several lines."""
    twins = passport.duplicates
    lines = list(facts(passport).items())
    lines += [("note", note) for note in passport.origin.notes]
    lines += [
        ("same pixels", f"{_place(first)} = {_place(second)}")
        for first, second in twins.pairs[:PAIRS_SHOWN]
    ]
    if twins.within_splits + twins.across_splits > PAIRS_SHOWN:
        lines.append(("", f"... {len(twins.pairs)} of them are listed in the passport"))
    return "\n".join([passport.dataset, *(f"{name:11}  {text}" for name, text in lines)])


def _place(place: Place) -> str:
    split, name, number = place
    return f"{split}/{name}/{number}"
