"""Packing gives back every pixel and label, the same bytes for any number of workers."""

import dataclasses
import hashlib
import json
import math
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.data.packed import KNOWN_VARIANTS, Origin, Packed
from pipeline.data.packing import channel_statistics, pack, read_class_split
from pipeline.errors import UserError

CLASSES = {"base": ["oak", "ant", "fig"], "validation": ["owl"], "novel": ["bee", "yew"]}


@dataclasses.dataclass(frozen=True)
class Noise:
    """A source of random images; ``flaws`` replace the images of some classes."""

    classes: dict[str, list[str]]
    images_per_class: int = 4
    image_size: int = 5
    flaws: dict[str, NDArray[np.uint8]] = dataclasses.field(default_factory=dict, repr=False)
    origin = Origin(form="noise", variant="white", resize="box", notes=["It is noise."])
    one_reader = False

    def images(self, name: str) -> NDArray[np.uint8]:
        if name in self.flaws:
            return self.flaws[name]
        rng = np.random.default_rng(list(name.encode()))
        shape = (self.images_per_class, self.image_size, self.image_size, 3)
        return rng.integers(256, size=shape, dtype=np.uint8)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


names = st.text("abc_7é ", min_size=1, max_size=4)


@settings(max_examples=30, deadline=None)
@given(
    names=st.lists(names, min_size=3, max_size=8, unique=True),
    images_per_class=st.integers(1, 4),
    image_size=st.integers(1, 6),
)
def test_every_pixel_and_label_comes_back(
    names: list[str], images_per_class: int, image_size: int
) -> None:
    classes = {"base": names[:-2], "validation": names[-2:-1], "novel": names[-1:]}
    source = Noise(classes, images_per_class, image_size)
    with tempfile.TemporaryDirectory() as folder:
        passport = pack(source, "noise", Path(folder), workers=1)
        packed = Packed.open(Path(folder))
        assert packed.passport == passport
        for split, members in classes.items():
            labels = packed.labels(split)
            assert len(packed.images(split)) == len(labels) == passport.n_images(split)
            for label, name in enumerate(members):
                np.testing.assert_array_equal(
                    packed.images(split)[labels == label], source.images(name)
                )
        packed.verify()


class Fatal(Noise):
    """Kills the process that reads it, as a system short of memory does."""

    def images(self, name: str) -> NDArray[np.uint8]:
        if name == "fig":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().images(name)


def test_a_killed_worker_counts_as_memory_that_does_not_suffice(tmp_path: Path) -> None:
    with pytest.raises(MemoryError, match="a process that packs was killed"):
        pack(Fatal(CLASSES), "fatal", tmp_path, workers=2)
    assert not (tmp_path / "passport.json").exists()


def test_bytes_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    source = Noise(CLASSES)
    pack(source, "noise", tmp_path / "one", workers=1)
    pack(source, "noise", tmp_path / "two", workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_fault_in_a_worker_is_told_by_name(tmp_path: Path) -> None:
    source = Noise(CLASSES, flaws={"bee": np.zeros((3, 5, 5, 3), np.uint8)})
    with pytest.raises(UserError, match="class 'bee' has 3 images, must have 4"):
        pack(source, "noise", tmp_path, workers=2)


def test_passport_tells_what_the_data_are(tmp_path: Path) -> None:
    source = Noise(CLASSES)
    passport = pack(source, "noise", tmp_path, workers=1)
    assert (passport.dataset, passport.source) == ("noise", repr(source))
    assert passport.classes == CLASSES
    assert (passport.image_size, passport.images_per_class) == (5, 4)

    digest = hashlib.sha256()
    for split, members in CLASSES.items():
        n = 4 * len(members)
        digest.update(f"{split}.npy |u1 ({n}, 5, 5, 3)\n".encode())
        digest.update(b"".join(source.images(name).tobytes() for name in members))
        digest.update(f"{split}_labels.npy <i8 ({n},)\n".encode())
        digest.update((np.arange(n, dtype="<i8") // 4).tobytes())
    assert passport.fingerprint == digest.hexdigest()


def test_a_disk_too_full_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def free(n_bytes: int) -> None:
        usage = shutil._ntuple_diskusage(10**9, 10**9 - n_bytes, n_bytes)  # type: ignore[attr-defined]
        monkeypatch.setattr("shutil.disk_usage", lambda _: usage)

    needed = 6 * 4 * 5 * 5 * 3
    free(needed - 1)
    out = tmp_path / "not" / "yet"
    with pytest.raises(
        UserError, match=rf"yet needs {needed} bytes, but only {needed - 1} are free"
    ):
        pack(Noise(CLASSES), "noise", out, workers=1)
    assert not out.exists()
    free(needed)
    pack(Noise(CLASSES), "noise", out, workers=1)
    # Arrays that are there already are replaced one by one: the largest needs its room twice.
    free(3 * 4 * 5 * 5 * 3)
    pack(Noise(CLASSES), "noise", out, workers=1)
    free(3 * 4 * 5 * 5 * 3 - 200)
    with pytest.raises(UserError, match="are free"):
        pack(Noise(CLASSES), "noise", out, workers=1)


def test_identical_images_are_counted_and_named(tmp_path: Path) -> None:
    plain = Noise(CLASSES)
    fig, owl, bee = plain.images("fig"), plain.images("owl"), plain.images("bee")
    fig[3] = fig[1]
    owl[0] = fig[1]
    bee[2] = owl[3]
    source = Noise(CLASSES, flaws={"fig": fig, "owl": owl, "bee": bee})
    found = pack(source, "noise", tmp_path, workers=2).duplicates
    assert (found.within_splits, found.across_splits) == (1, 2)
    assert found.pairs == [
        (("base", "fig", 1), ("validation", "owl", 0)),
        (("validation", "owl", 3), ("novel", "bee", 2)),
        (("base", "fig", 1), ("base", "fig", 3)),
    ]
    assert Packed.open(tmp_path).passport.duplicates == found


def test_of_many_identical_images_some_are_named(tmp_path: Path) -> None:
    black = {name: np.zeros((60, 5, 5, 3), np.uint8) for name in ("owl", "bee")}
    found = pack(Noise(CLASSES, 60, flaws=black), "noise", tmp_path, workers=1).duplicates
    assert (found.within_splits, found.across_splits) == (59, 60)
    assert len(found.pairs) == 100


def test_a_source_in_one_stream_has_one_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Noise, "one_reader", True)
    monkeypatch.delattr("pipeline.data.packing.ProcessPoolExecutor")
    pack(Noise(CLASSES), "noise", tmp_path, workers=2)


def test_a_known_fingerprint_names_the_variant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pack(Noise(CLASSES), "noise", tmp_path, workers=1)
    assert first.origin == Noise.origin
    monkeypatch.setitem(KNOWN_VARIANTS, first.fingerprint, "the known one")
    second = pack(Noise(CLASSES), "noise", tmp_path, workers=1)
    assert second.origin == Noise.origin.model_copy(update={"variant": "the known one"})


def test_statistics_are_those_of_the_base_classes(tmp_path: Path) -> None:
    passport = pack(Noise(CLASSES), "noise", tmp_path, workers=1)
    base = np.load(tmp_path / "base.npy") / 255
    np.testing.assert_allclose(passport.channel_mean, base.mean(axis=(0, 1, 2)), rtol=1e-14)
    np.testing.assert_allclose(passport.channel_std, base.std(axis=(0, 1, 2)), rtol=1e-14)


def test_statistics_are_exact_where_floating_point_cancels() -> None:
    # 10^12 pixels at level 254 and one at 255: the variance is about 10^-12 levels squared.
    levels = np.zeros((3, 256), dtype=np.int64)
    levels[:, 254], levels[:, 255] = 10**12, 1
    mean, std = channel_statistics(levels)
    assert mean == (254.000000000001 / 255,) * 3
    np.testing.assert_allclose(std, math.sqrt(1e12) / (1e12 + 1) / 255, rtol=1e-14)


def test_class_split_is_read_in_order(tmp_path: Path) -> None:
    table = tmp_path / "split.csv"
    table.write_text("class,split\noak,base\nyew,novel\nant,base\nowl,validation\n")
    expected = {"base": ["oak", "ant"], "validation": ["owl"], "novel": ["yew"]}
    assert read_class_split(table) == expected


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (CLASSES | {"novel": ["bee", "ant"]}, r"class 'ant' is listed 2 times \(base, novel\)"),
        (CLASSES | {"novel": ["bee", "bee"]}, r"class 'bee' is listed 2 times \(novel, novel\)"),
        (CLASSES | {"validation": []}, "the split validation has no class"),
        ({"base": ["ant"], "novel": ["bee"]}, "must be base, validation, novel"),
    ],
)
def test_class_splits_that_are_refused(
    tmp_path: Path, classes: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        pack(Noise(classes), "noise", tmp_path, workers=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((5, 5, 5, 3), np.uint8), "class 'owl' has 5 images, must have 4"),
        (np.zeros((0, 5, 5, 3), np.uint8), "class 'owl' has 0 images, must have 4"),
        (np.zeros((4, 6, 5, 3), np.uint8), r"class 'owl' are uint8 \(6, 5, 3\)"),
        (np.zeros((4, 5, 5), np.uint8), r"class 'owl' are uint8 \(5, 5\)"),
        (np.zeros((4, 5, 5, 3), np.int16), "class 'owl' are int16"),
    ],
)
def test_images_that_are_refused(tmp_path: Path, images: NDArray[np.uint8], message: str) -> None:
    with pytest.raises(UserError, match=message):
        pack(Noise(CLASSES, flaws={"owl": images}), "noise", tmp_path, workers=1)


def test_an_interrupted_pack_leaves_no_passport_and_no_torn_file(tmp_path: Path) -> None:
    pack(Noise(CLASSES), "noise", tmp_path, workers=1)
    base = (tmp_path / "base.npy").read_bytes()
    flawed = Noise(CLASSES, flaws={"fig": np.zeros((1, 5, 5, 3), np.uint8)})
    with pytest.raises(UserError):
        pack(flawed, "noise", tmp_path, workers=1)
    assert (tmp_path / "base.npy").read_bytes() == base
    assert not any(file.name.startswith(".") for file in tmp_path.iterdir())
    with pytest.raises(UserError, match=r"passport\.json.*snakemake --cores all --force"):
        Packed.open(tmp_path)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def lengthen(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")


def reshape(file: Path) -> None:
    np.save(file, np.load(file)[1:])


@pytest.mark.parametrize("damage", [Path.unlink, cut, empty, lengthen, reshape])
@pytest.mark.parametrize("name", ["base.npy", "novel_labels.npy"])
def test_a_torn_array_is_refused_by_name(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    pack(Noise(CLASSES), "noise", tmp_path, workers=1)
    damage(tmp_path / name)
    with pytest.raises(UserError, match=rf"{name} cannot be used.*snakemake --cores all --force"):
        Packed.open(tmp_path)


def test_labels_out_of_order_are_refused(tmp_path: Path) -> None:
    pack(Noise(CLASSES), "noise", tmp_path, workers=1)
    file = tmp_path / "base_labels.npy"
    np.save(file, np.load(file)[::-1])
    with pytest.raises(UserError, match="labels are not in order"):
        Packed.open(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 1},
        {"image_size": "5"},
        {"images_per_class": 0},
        {"classes": {"base": ["ant"]}},
        {"colour": "red"},
    ],
)
def test_a_passport_of_another_make_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    pack(Noise(CLASSES), "noise", tmp_path, workers=1)
    file = tmp_path / "passport.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(
        UserError, match=rf"(?s)passport\.json cannot be used.*{next(iter(change))}"
    ):
        Packed.open(tmp_path)


def test_verify_finds_a_single_changed_pixel(tmp_path: Path) -> None:
    pack(Noise(CLASSES), "noise", tmp_path, workers=1)
    file = tmp_path / "novel.npy"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    packed = Packed.open(tmp_path)
    with pytest.raises(UserError, match="fingerprint"):
        packed.verify()


def test_packed_images_cannot_be_written_to(tmp_path: Path) -> None:
    pack(Noise(CLASSES), "noise", tmp_path, workers=1)
    images = Packed.open(tmp_path).images("base")
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0
