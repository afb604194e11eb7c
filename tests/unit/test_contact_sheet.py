"""The contact sheet shows every class of a split; the passport's words say what matters."""

from pathlib import Path

import numpy as np
from PIL import Image
from test_packing import CLASSES, Noise

from pipeline.data.contact_sheet import GAP, contact_sheet, describe
from pipeline.data.packed import Packed
from pipeline.data.packing import pack


def packed(folder: Path, images_per_class: int = 4) -> Packed:
    pack(Noise(CLASSES, images_per_class), "noise", folder, workers=1)
    return Packed.open(folder)


def test_every_class_has_a_row_of_its_images(tmp_path: Path) -> None:
    data = packed(tmp_path / "data", images_per_class=7)
    contact_sheet(data, "base", tmp_path / "base.png", columns=3)
    with Image.open(tmp_path / "base.png") as image:
        sheet = np.asarray(image)
    assert sheet.shape == (3 * (5 + GAP) + GAP, 3 * (5 + GAP) + GAP, 3)
    for row in range(3):
        for column, place in enumerate([0, 2, 4]):
            top, left = GAP + row * (5 + GAP), GAP + column * (5 + GAP)
            np.testing.assert_array_equal(
                sheet[top : top + 5, left : left + 5], data.images("base")[7 * row + place]
            )
    assert (sheet[:GAP] == 255).all()


def test_the_same_data_give_the_same_file(tmp_path: Path) -> None:
    data = packed(tmp_path / "data")
    for name in ("one.png", "two.png"):
        contact_sheet(data, "novel", tmp_path / name)
    one = (tmp_path / "one.png").read_bytes()
    assert one == (tmp_path / "two.png").read_bytes()
    with Image.open(tmp_path / "one.png") as sheet:
        assert sheet.width == 4 * (5 + GAP) + GAP  # no image twice


def test_the_passport_is_put_in_words(tmp_path: Path) -> None:
    source = Noise(CLASSES)
    flaws = {"owl": source.images("owl"), "bee": source.images("owl")}
    passport = pack(Noise(CLASSES, flaws=flaws), "noise", tmp_path, workers=1)
    words = describe(passport)
    for part in (
        "noise\nimages       5x5 pixels, 4 a class",
        passport.source,
        "noise; variant: white",
        "3 base (12 images), 1 validation (4 images), 2 novel (8 images)",
        "by box",
        "It is noise.",
        "0 pairs of images within a split, 4 across splits",
        "validation/owl/0 = novel/bee/0",
        passport.fingerprint,
    ):
        assert part in words
    assert "listed in the passport" not in words


def test_the_words_say_when_there_are_more_identical_images(tmp_path: Path) -> None:
    black = {"owl": np.zeros((9, 5, 5, 3), np.uint8)}
    passport = pack(Noise(CLASSES, 9, flaws=black), "noise", tmp_path, workers=1)
    words = describe(passport)
    assert words.count("validation/owl/0 = ") == 5
    assert "... 8 of them are listed in the passport" in words
