"""Every form of mini-ImageNet leads to the same arrays; what does not fit is refused by name."""

import io
import pickle
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from raw_data import (
    Files,
    Payload,
    Pixels,
    encode,
    python2_pickle,
    tar_of,
    write_folder,
    write_tar,
    write_zip,
)

from pipeline.data import image_lists
from pipeline.data.image_lists import RAVI_LAROCHELLE
from pipeline.data.mini_imagenet import MiniImagenet
from pipeline.data.mini_imagenet import source as source_of
from pipeline.data.packed import SPLITS, Packed, Passport
from pipeline.data.packing import pack, read_class_split
from pipeline.errors import UserError

CLASSES = {
    "base": ["n01532829", "n01558993"],
    "validation": ["n01855672"],
    "novel": ["n01930112"],
}
N_IMAGES = 3
LISTS = {"base": "train", "validation": "val", "novel": "test"}
REAL_LISTS = Path(__file__).parents[3] / "shared" / "data" / "mini-imagenet-splits"
# Which images of a class of ILSVRC-2012 the lists take, counted from 1; it has more.
RANKS = [2, 3, 6]
N_ILSVRC = 7

Images = dict[str, Pixels]  # class -> (image, 84, 84, 3)
Pickle = Callable[[object], bytes]


def random_images(seed: int, n_images: int = N_IMAGES) -> Images:
    rng = np.random.default_rng(seed)
    names = [name for names in CLASSES.values() for name in names]
    return {name: rng.integers(256, size=(n_images, 84, 84, 3), dtype=np.uint8) for name in names}


def python3_pickle(protocol: int) -> Pickle:
    return lambda value: pickle.dumps(value, protocol=protocol)


# How images are handed on; the names of files lead nowhere but to their classes.


def cache(images: Images, dump: Pickle = python2_pickle, validation: str = "val") -> Files:
    """The images of the classes are mixed, as a cache may have them."""
    files = {}
    for split, names in CLASSES.items():
        n = len(names)
        rows = {name: list(range(i, n * len(images[name]), n)) for i, name in enumerate(names)}
        data = np.stack([images[name] for name in names], axis=1).reshape(-1, 84, 84, 3)
        stem = validation if split == "validation" else LISTS[split]
        table = {"image_data": data, "class_dict": rows}
        files[f"mini-imagenet-cache-{stem}.pkl"] = dump(table)
    return files


def category_split(
    images: Images, dump: Pickle = python2_pickle, named: bool = False, as_array: bool = False
) -> Files:
    files: Files = {"miniImageNet_category_split_train_phase_val.pickle": b"not read"}
    first = {"base": 0, "validation": 64, "novel": 80}
    for split, names in CLASSES.items():
        labels = [first[split] + i for i, name in enumerate(names) for _ in images[name]]
        table: dict[str, Any] = {
            "data": np.concatenate([images[name] for name in names]),
            "labels": np.array(labels) if as_array else labels,
        }
        if named:
            table["catname2label"] = {name: first[split] + i for i, name in enumerate(names)}
        stem = "train_phase_train" if split == "base" else LISTS[split]
        files[f"miniImageNet_category_split_{stem}.pickle"] = dump(table)
    return files


def ravi_name(name: str, number: int) -> str:
    return f"{name}{number:08d}.jpg"


def tree(images: Images, place: str = "{name}/{file}") -> Files:
    return {
        place.format(name=name, file=ravi_name(name, i), split=LISTS[split]): encode(image)
        for split, names in CLASSES.items()
        for name in names
        for i, image in enumerate(images[name], start=1)
    }


def lists(numbers: list[int]) -> Files:
    return {
        f"{LISTS[split]}.csv": "".join(
            ["filename,label\n"]
            + [f"{ravi_name(name, i)},{name}\n" for name in names for i in numbers]
        ).encode()
        for split, names in CLASSES.items()
    }


def ilsvrc(images: Images, place: str = "{name}/{file}") -> Files:
    """Whole classes: numbers have gaps, and as text they sort otherwise."""
    files = {place.format(name="n02110063", file="n02110063_1.JPEG"): b"another class"}
    for name, chosen in images.items():
        ranks = RANKS[: len(chosen)]
        for rank in range(N_ILSVRC, 0, -1):
            image = chosen[ranks.index(rank)] if rank in ranks else np.zeros_like(chosen[0])
            files[place.format(name=name, file=f"{name}_{3 * rank**3}.JPEG")] = encode(image)
    return files


def tars_of_classes(images: Images) -> Files:
    whole = ilsvrc(images)
    return {
        f"{name}.tar": tar_of(
            {file.split("/")[1]: data for file, data in whole.items() if file.startswith(name)}
        )
        for name in images
    }


FORMS: dict[str, Callable[[Images, Path], Path]] = {
    "cache": lambda images, at: write_folder(at, cache(images)),
    "cache in a tar.gz": lambda images, at: write_tar(at / "m.tar.gz", cache(images)),
    "cache in a tar": lambda images, at: write_tar(at / "m.tar", cache(images), "w"),
    "cache in a zip": lambda images, at: write_zip(at / "m.zip", cache(images)),
    "cache in a folder of a tar": lambda images, at: write_tar(
        at / "m", {f"./x/{name}": data for name, data in cache(images).items()}, "w:xz"
    ),
    **{
        f"cache of protocol {protocol}": lambda images, at, protocol=protocol: write_folder(
            at, cache(images, python3_pickle(protocol))
        )
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
    "learn2learn": lambda images, at: write_folder(
        at, cache(images, python3_pickle(4), "validation")
    ),
    "category split": lambda images, at: write_folder(at, category_split(images)),
    "category split of names": lambda images, at: write_folder(
        at, category_split(images, named=True)
    ),
    "category split of Python 3": lambda images, at: write_zip(
        at / "m.zip", category_split(images, python3_pickle(3), as_array=True)
    ),
    "folders": lambda images, at: write_folder(at, tree(images, "images/{name}/{file}")),
    "folders by split": lambda images, at: write_folder(at, tree(images, "{split}/{name}/{file}")),
    "zip": lambda images, at: write_zip(at / "m.zip", tree(images, "m/data/{name}/{file}")),
    "tar": lambda images, at: write_tar(at / "m.tar", tree(images, "{split}/{name}/{file}"), "w"),
    "images without folders": lambda images, at: write_folder(
        at, tree(images, "images/{file}") | lists([1, 2, 3])
    ),
    "listed": lambda images, at: write_folder(
        at,
        lists([1, 2, 3]) | tree(images) | {f"{name}/{ravi_name(name, 9)}": b"" for name in images},
    ),
    "ILSVRC-2012": lambda images, at: write_folder(at, ilsvrc(images) | lists(RANKS)),
    "ILSVRC-2012, lists beside": lambda images, at: write_folder(
        write_folder(at, lists(RANKS)) / "train", ilsvrc(images)
    ),
    "ILSVRC-2012 in tars": lambda images, at: write_folder(
        at, tars_of_classes(images) | lists(RANKS)
    ),
    "ILSVRC-2012 in a tar of tars": lambda images, at: write_tar(
        write_folder(at, lists(RANKS)) / "ILSVRC2012_img_train.tar",
        tars_of_classes(images) | {"n02110063.tar": b"another class"},
        "w",
    ),
}


def open_tiny(path: Path, **options: Any) -> MiniImagenet:
    return MiniImagenet.open(path, classes=CLASSES, images_per_class=N_IMAGES, **options)


def pack_tiny(path: Path, out: Path, workers: int = 1) -> Passport:
    return pack(open_tiny(path), "tiny", out, workers)


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_every_pixel_and_label_comes_back_from_every_form(form: str, seed: int) -> None:
    images = random_images(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = FORMS[form](images, Path(folder) / "raw")
        passport = pack_tiny(path, Path(folder) / "packed")
        packed = Packed.open(Path(folder) / "packed")
        for split, names in CLASSES.items():
            expected = np.concatenate([images[name] for name in names])
            np.testing.assert_array_equal(packed.images(split), expected)
            np.testing.assert_array_equal(
                packed.labels(split), np.repeat(np.arange(len(names)), N_IMAGES)
            )
    if form.startswith("category split") and "names" not in form:
        assert passport.classes["base"] == ["base-0", "base-1"]
        assert "only counts were checked" in passport.origin.notes[0]
    else:
        assert passport.classes == CLASSES


ORIGINS = {
    "cache in a tar.gz": ("cached pickles", "reference", None),
    "learn2learn": ("learn2learn's cached pickles", "learn2learn", None),
    "category split": ("category-split pickles", "category-split", None),
    "folders": ("images by class", "images by class", "lanczos"),
    "ILSVRC-2012": ("ILSVRC-2012 by rank", "ILSVRC-2012 by rank", "lanczos"),
}


@pytest.mark.parametrize("form", ORIGINS)
def test_the_passport_says_where_the_pixels_come_from(tmp_path: Path, form: str) -> None:
    path = FORMS[form](random_images(0), tmp_path / "raw")
    origin = pack_tiny(path, tmp_path / "packed").origin
    assert (origin.form, origin.variant, origin.resize) == ORIGINS[form]
    assert ("not established" in " ".join(origin.notes)) == (form == "ILSVRC-2012")


@pytest.mark.parametrize("form", ["cache", "cache in a tar.gz", "folders", "zip"])
def test_bytes_do_not_depend_on_the_number_of_workers(tmp_path: Path, form: str) -> None:
    path = FORMS[form](random_images(1), tmp_path / "raw")
    one, two = (pack_tiny(path, tmp_path / str(n), workers=n) for n in (1, 2))
    assert one == two


def test_large_arrays_stay_in_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.data.unpickling.LARGE", 1000)
    images = random_images(2)
    for form in ("cache", "cache in a tar", "cache of protocol 5"):
        source = open_tiny(FORMS[form](images, tmp_path / form))
        np.testing.assert_array_equal(source.images("n01558993"), images["n01558993"])
        base = source.form._loaded[1].values()  # type: ignore[attr-defined]
        while not isinstance(base, np.memmap):
            base = base.base
        assert not source.one_reader
        assert len(pickle.dumps(source)) < 10_000
    assert open_tiny(FORMS["cache in a zip"](images, tmp_path / "zip")).one_reader


def test_raw_data_are_left_as_they_are(tmp_path: Path) -> None:
    path = FORMS["ILSVRC-2012 in a tar of tars"](random_images(3), tmp_path / "raw")
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    pack_tiny(path, tmp_path / "packed")
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == before


# Images of other sizes and kinds.


def photograph(width: int, height: int) -> Pixels:
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack([x, y, 255 - x], axis=2).astype(np.uint8)


def with_image(data: bytes, name: str = "n01855672") -> Files:
    return tree(random_images(4)) | {f"{name}/{ravi_name(name, 2)}": data}


@pytest.mark.parametrize("resize", ["lanczos", "bicubic", "bilinear", "nearest", "box"])
def test_images_of_another_size_are_resized_by_the_named_filter(
    tmp_path: Path, resize: str
) -> None:
    big = photograph(100, 133)
    path = write_folder(tmp_path, with_image(encode(big)))
    found = open_tiny(path, resize=resize).images("n01855672")[1]
    wanted = Image.fromarray(big).resize((84, 84), Image.Resampling[resize.upper()])
    np.testing.assert_array_equal(found, np.asarray(wanted))


def test_filters_differ(tmp_path: Path) -> None:
    path = write_folder(tmp_path, with_image(encode(photograph(100, 133))))
    found = [
        open_tiny(path, resize=resize).images("n01855672")[1].tobytes()
        for resize in ("lanczos", "bicubic", "bilinear", "nearest", "box")
    ]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_photographs_in_grey_and_in_four_inks_become_rgb(tmp_path: Path, mode: str) -> None:
    data = encode(photograph(84, 84), "JPEG", mode)
    path = write_folder(tmp_path, with_image(data))
    source = open_tiny(path)
    wanted = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(source.images("n01855672")[1], wanted)
    assert any("converted to RGB" in note for note in source.origin.notes)


def png_that_claims(size: int) -> bytes:
    whole = encode(photograph(84, 84))
    header = whole[12:16] + struct.pack(">II", size, size) + whole[24:29]
    return whole[:12] + header + struct.pack(">I", zlib.crc32(header)) + whole[33:]


BAD_IMAGES = {
    "zero bytes": (b"", "cannot be read"),
    "text": (b"<html>quota exceeded</html>", "cannot be read"),
    "cut": (encode(photograph(84, 84), "JPEG")[:-200], "cannot be read.*truncated"),
    "transparent": (encode(photograph(84, 84), mode="RGBA"), "is RGBA of 8 bits, PNG, must be RGB"),
    "palette": (encode(photograph(84, 84), mode="P"), "is P of 8 bits, PNG, must be RGB"),
    "ink in a TIFF": (encode(photograph(84, 84), "TIFF", "CMYK"), "CMYK in a JPEG"),
    # A decoder that believed these headers would fill 300 MB, and 30 GB.
    "bomb": (png_that_claims(10_000), "cannot be read .*DecompressionBomb"),
    "large bomb": (png_that_claims(100_000), "cannot be read .*DecompressionBomb"),
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
@pytest.mark.parametrize("write", [write_folder, write_zip])
def test_a_bad_image_is_refused_by_name(
    tmp_path: Path, kind: str, write: Callable[[Path, Files], Path]
) -> None:
    data, message = BAD_IMAGES[kind]
    source = open_tiny(write(tmp_path / "raw", with_image(data)))
    with pytest.raises(UserError, match=rf"raw: n01855672/n0185567200000002\.jpg.*{message}"):
        source.images("n01855672")


# What does not fit, by form.


def table_of(name: str, dump: Pickle = python2_pickle, **changes: Any) -> Files:
    """A cache in which one pickle has other contents."""
    files = cache(random_images(5), dump)
    table = pickle.loads(files[name], encoding="latin1")
    return files | {name: dump(table | changes)}


BASE = "mini-imagenet-cache-train.pkl"
NOVEL = "mini-imagenet-cache-test.pkl"
IMAGES = np.zeros((3, 84, 84, 3), np.uint8)

BAD_PICKLES: dict[str, tuple[Files, str]] = {
    "class of another split": (
        table_of(NOVEL, class_dict={"n01532829": [0, 1, 2]}),
        r"test\.pkl does not name .* too often: n01532829; missing: n01930112",
    ),
    "unknown class": (
        table_of(NOVEL, class_dict={"n01930112": [0, 1], "n99999999": [2]}),
        r"test\.pkl does not name .* too often: n99999999; missing: none",
    ),
    "wrong count": (
        table_of(BASE, class_dict={"n01532829": [0, 1], "n01558993": [2, 3, 4, 5]}),
        r"train\.pkl: class 'n01532829' has 2 images, must have 3",
    ),
    "image of two classes": (
        table_of(BASE, class_dict={"n01532829": [0, 1, 2], "n01558993": [2, 4, 5]}),
        r"train\.pkl cannot be read.*do not each belong to one class",
    ),
    "image that is not there": (
        table_of(NOVEL, class_dict={"n01930112": [1, 2, 3]}),
        r"test\.pkl cannot be read.*do not each belong to one class",
    ),
    "images to spare": (
        table_of(NOVEL, image_data=np.zeros((4, 84, 84, 3), np.uint8)),
        r"test\.pkl cannot be read.*do not each belong to one class",
    ),
    "other size": (
        table_of(NOVEL, image_data=np.zeros((3, 80, 80, 3), np.uint8)),
        r"test\.pkl cannot be read.*images are \(80, 80, 3\), must be \(84, 84, 3\)",
    ),
    "other type": (
        table_of(NOVEL, image_data=np.zeros((3, 84, 84, 3), np.float32)),
        r"test\.pkl cannot be read.*image_data is no array of uint8",
    ),
    "no array": (
        table_of(NOVEL, image_data=[1, 2]),
        r"test\.pkl cannot be read.*image_data is no array of uint8",
    ),
    "no table": (cache(random_images(5)) | {NOVEL: python2_pickle([1])}, "must hold a dictionary"),
    "other keys": (cache(random_images(5)) | {NOVEL: python2_pickle({"a": 1})}, "KeyError"),
    "cut": (
        cache(random_images(5)) | {NOVEL: cache(random_images(5))[NOVEL][:5000]},
        r"test\.pkl cannot be read.*ends too early",
    ),
    "page": (
        cache(random_images(5)) | {NOVEL: b"<!doctype html><html>quota exceeded</html>"},
        r"test\.pkl cannot be read.*only plain containers",
    ),
    "labels of more classes": (
        category_split(random_images(5))
        | {
            "miniImageNet_category_split_val.pickle": python2_pickle(
                {"data": IMAGES, "labels": [64, 64, 65]}
            )
        },
        r"split_val\.pickle has 2 classes, must have 1",
    ),
    "labels short of one": (
        category_split(random_images(5))
        | {
            "miniImageNet_category_split_val.pickle": python2_pickle(
                {"data": IMAGES, "labels": [64, 64]}
            )
        },
        r"split_val\.pickle cannot be read.*do not each belong to one class",
    ),
    "labels that are no numbers": (
        category_split(random_images(5))
        | {
            "miniImageNet_category_split_val.pickle": python2_pickle(
                {"data": IMAGES, "labels": ["a", "b", "c"]}
            )
        },
        r"split_val\.pickle cannot be read.*where whole numbers must be",
    ),
    "named labels of another split": (
        category_split(random_images(5), named=True)
        | {
            "miniImageNet_category_split_val.pickle": python2_pickle(
                {"data": IMAGES, "labels": [64] * 3, "catname2label": {"n01532829": 64}}
            )
        },
        r"split_val\.pickle does not name .* too often: n01532829; missing: n01855672",
    ),
    "one missing": (
        {name: data for name, data in cache(random_images(5)).items() if name != NOVEL},
        r"some of the .*cached pickles, but no mini-imagenet-cache-test\.pkl",
    ),
    "two forms": (
        cache(random_images(5)) | category_split(random_images(5)),
        "both cached pickles and category-split pickles",
    ),
    "pickles and images": (
        cache(random_images(5)) | tree(random_images(5)),
        r"cached pickles and also images by class, such as n01532829/",
    ),
    "one twice": (
        cache(random_images(5)) | {f"old/{NOVEL}": b""},
        r"mini-imagenet-cache-test\.pkl 2 times",
    ),
}


@pytest.mark.parametrize("kind", BAD_PICKLES)
def test_pickles_that_do_not_fit_are_refused(tmp_path: Path, kind: str) -> None:
    files, message = BAD_PICKLES[kind]
    with pytest.raises(UserError, match=message):
        open_tiny(write_folder(tmp_path, files))


@pytest.mark.parametrize("form", [cache, category_split])
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("write", [write_folder, write_tar, write_zip])
def test_a_hostile_pickle_is_refused_and_not_executed(
    tmp_path: Path, form: Callable[[Images], Files], split: str, write: Callable[..., Path]
) -> None:
    marker = tmp_path / "executed"
    hostile = pickle.dumps(Payload(marker), protocol=2)
    files = form(random_images(5))
    read = [name for name in files if "train_phase_val" not in name]
    path = write(tmp_path / "raw", files | {read[SPLITS.index(split)]: hostile})
    with pytest.raises(UserError, match=r"cannot be read.*asks for \w+\.mkdir"):
        open_tiny(path)
    assert not marker.exists()
    pickle.loads(hostile)
    assert marker.exists()


def without(files: Files, start: str) -> Files:
    return {name: data for name, data in files.items() if not name.startswith(start)}


TREE = tree(random_images(6), "{split}/{name}/{file}")
WHOLE = ilsvrc(random_images(6))
IMAGE = TREE["val/n01855672/n0185567200000001.jpg"]

BAD_TREES: dict[str, tuple[Files, str]] = {
    "class missing": (without(TREE, "test"), "does not name .* missing: n01930112"),
    "class to spare": (
        TREE | {f"test/n99999999/{i}.jpg": IMAGE for i in range(3)},
        "does not name .* too often: n99999999; missing: none",
    ),
    "wrong count": (
        TREE | {"val/n01855672/n0185567200000004.jpg": IMAGE},
        "class n01855672 has 4 images, must have 3.*put the lists",
    ),
    "class in two splits": (
        TREE | {"test/n01855672/n0185567200000004.jpg": IMAGE},
        "class n01855672 lies in 2 folders: test/n01855672, val/n01855672",
    ),
    "class of another split": (
        without(TREE, "val")
        | {f"test/n01855672/n018556720000000{i}.jpg": IMAGE for i in (1, 2, 3)},
        "class n01855672 lies under novel, is one of validation",
    ),
    "ILSVRC-2012 without lists": (WHOLE, "has 7 images, must have 3.*put the lists"),
    "listed image missing": (
        tree(random_images(6)) | lists([1, 2, 4]) | {"n01532829/n0153282900000009.jpg": IMAGE},
        r"class n01532829 has no image n0153282900000004\.jpg, which lists of your own",
    ),
    "class cut": (
        without(WHOLE, "n01855672/n01855672_10") | lists([1, 2, 7]),
        "class n01855672 has 6 images, but image 7 is listed",
    ),
    "rank from nought": (WHOLE | lists([0, 1, 2]), "class n01532829 has 7 images, but image 0"),
    "other names": (
        WHOLE | {"n01855672/picture.JPEG": IMAGE} | lists(RANKS),
        r"class n01855672 has no image n0185567200000002\.jpg.*not as in ILSVRC-2012",
    ),
    "list of another class": (
        WHOLE | lists(RANKS) | {"val.csv": b"filename,label\nx.jpg,n01532829\n"},
        r"val\.csv lists x\.jpg of class n01532829, which is none of that split",
    ),
    "list of too few": (
        WHOLE | lists(RANKS) | {"val.csv": b"filename,label\nx.jpg,n01855672\n"},
        r"val\.csv lists 1 different images of class n01855672 in 1 rows, must be 3",
    ),
    "list with one twice": (
        WHOLE | lists([2, 3, 3]),
        r"train\.csv lists 2 different images of class n01532829 in 3 rows",
    ),
    "list without header": (
        WHOLE | lists(RANKS) | {"val.csv": b"x.jpg,n01855672\n"},
        r"val\.csv cannot be read.*columns are .*, must be filename and label",
    ),
    "list that is no text": (
        WHOLE | lists(RANKS) | {"val.csv": b"\xff\xfe\0"},
        r"val\.csv cannot be read",
    ),
    "images of other names": (
        {"a/1.png": IMAGE, "b/1.png": IMAGE},
        r"is not mini-ImageNet or is damaged\. Known forms.*ILSVRC2012_img_train",
    ),
}


@pytest.mark.parametrize("kind", BAD_TREES)
@pytest.mark.parametrize("write", [write_folder, write_zip])
def test_trees_that_do_not_fit_are_refused(
    tmp_path: Path, kind: str, write: Callable[[Path, Files], Path]
) -> None:
    files, message = BAD_TREES[kind]
    with pytest.raises(UserError, match=message):
        open_tiny(write(tmp_path / "raw", files))


def test_images_in_a_compressed_tar_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is a compressed tar.*Extract it"):
        open_tiny(write_tar(tmp_path / "m.tar.gz", TREE))


def test_lists_can_lie_anywhere(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "raw", WHOLE)
    own = write_folder(tmp_path / "own", lists([1, 2, 3]))
    assert "lists of your own" in " ".join(open_tiny(path, image_lists=own).origin.notes)
    with pytest.raises(UserError, match=r"other/train\.csv cannot be read .*image_lists must be"):
        open_tiny(path, image_lists=tmp_path / "other")


def test_lists_that_are_too_long_are_refused_and_not_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_folder(tmp_path / "raw", WHOLE)
    own = write_folder(tmp_path / "own", lists([1, 2, 3]))
    longest = max(file.stat().st_size for file in own.iterdir())
    monkeypatch.setattr(image_lists, "MAX_BYTES", longest)
    assert open_tiny(path, image_lists=own).origin
    monkeypatch.setattr(image_lists, "MAX_BYTES", longest - 1)
    with pytest.raises(UserError, match=rf"own/\w+\.csv has more than {longest - 1} bytes"):
        open_tiny(path, image_lists=own)


def test_lists_are_found_beside_the_data_that_a_link_leads_to(tmp_path: Path) -> None:
    path = write_folder(write_folder(tmp_path / "own", lists(RANKS)) / "train", WHOLE)
    (tmp_path / "archive").symlink_to(path)
    images = open_tiny(tmp_path / "archive").images("n01930112")
    np.testing.assert_array_equal(images, random_images(6)["n01930112"])


def test_ranks_follow_numbers_not_texts(tmp_path: Path) -> None:
    files = {
        f"{name}/{name}_{number}.JPEG": encode(np.full((84, 84, 3), i, np.uint8))
        for names in CLASSES.values()
        for name in names
        for i, number in enumerate([2, 9, 10, 100, 1000], start=1)
    }
    path = write_folder(tmp_path, files | lists([1, 3, 5]))
    assert open_tiny(path).images("n01532829")[:, 0, 0, 0].tolist() == [1, 3, 5]


@pytest.mark.parametrize("kind", ["absent", "empty", "page", "cut zip", "cut tar"])
def test_what_is_no_mini_imagenet_is_refused_with_the_known_forms(
    tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "raw"
    if kind == "empty":
        path.mkdir()
    if kind == "page":
        path.write_text("<html>please confirm</html>")
    if kind == "cut zip":
        path.write_bytes(write_zip(path, TREE).read_bytes()[:-100])
    if kind == "cut tar":
        path.write_bytes(b"\x1f\x8b" + bytes(100))
    with pytest.raises(UserError, match="raw is not mini-ImageNet or is damaged. Known forms"):
        open_tiny(path)


def test_the_source_is_made_from_settings(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--raw PATH"):
        source_of({}, None)
    with pytest.raises(UserError, match=r"does not name the classes of mini-ImageNet.*n02110341"):
        source_of({"image_lists": None, "resize": "box"}, write_folder(tmp_path, TREE))


def test_the_class_split_is_that_of_ravi_and_larochelle() -> None:
    table = Path(__file__).parents[2] / "pipeline" / "data" / "splits" / "mini_imagenet.csv"
    classes = read_class_split(table)
    assert [len(classes[split]) for split in SPLITS] == [64, 16, 20]
    assert len({name for names in classes.values() for name in names}) == 100
    if not REAL_LISTS.exists():
        pytest.skip(f"the lists are not at {REAL_LISTS}")
    from pipeline.data.archives import open_files
    from pipeline.data.image_lists import find_lists

    files = open_files(REAL_LISTS)
    assert files is not None
    found = find_lists(None, files, classes, 600)
    assert found is not None
    assert found.are_ravi_larochelle
    assert len({file for names in found.names.values() for file in names}) == 60_000
    assert set(RAVI_LAROCHELLE) == set(SPLITS)
