"""Every form of CIFAR-FS leads to the same arrays; damaged and hostile ones are refused by name."""

import pickle
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import raw_data
from raw_data import Files, Payload, Pixels, encode, python2_pickle, write_folder

from pipeline.data.cifar_fs import CifarFS
from pipeline.data.cifar_fs import source as source_of
from pipeline.data.packed import SPLITS, Packed
from pipeline.data.packing import pack
from pipeline.errors import UserError

CLASSES = {"base": ["cattle", "apple"], "validation": ["sea"], "novel": ["worm"]}
LISTS = {"base": "train", "validation": "val", "novel": "test"}
NAMES = sorted(name for names in CLASSES.values() for name in names)
REAL_ARCHIVE = Path(__file__).parents[3] / "shared" / "data" / "cifar100.zip"

# Some classes hold images under a name of another language, as CIFAR does. The first two
# stems sort otherwise with their suffix: "-" comes before ".", and "." before "_".
STEMS = ["bos_s_7", "bos_s_7-b", "bos_s_10", "wurm_s_000002", "bos_s_7_c", "apple_s_1"]


def pixels(name: str, stem: str) -> Pixels:
    rng = np.random.default_rng(list(f"{name}/{stem}".encode()))
    return rng.integers(256, size=(32, 32, 3), dtype=np.uint8)


def authors_files(form: str = "PNG") -> Files:
    """The files under ``cifar100/``."""
    images = {
        f"data/{name}/{stem}.{form.lower()}": encode(pixels(name, stem), form)
        for name in NAMES
        for stem in STEMS
    }
    lists = {
        f"splits/bertinetto/{LISTS[split]}.txt": "\n".join(names).encode() + b"\n"
        for split, names in CLASSES.items()
    }
    return images | lists


def official_files() -> Files:
    """The pickles: images of all classes mixed, the last stem of each class in ``test``."""
    files = {"meta": python2_pickle({"fine_label_names": NAMES, "coarse_label_names": ["all"]})}
    for part, stems in {"train": STEMS[:-1], "test": STEMS[-1:]}.items():
        rows = [(name, stem) for stem in stems for name in NAMES]
        planes = [pixels(name, stem).transpose(2, 0, 1).reshape(-1) for name, stem in rows]
        table = {
            "filenames": [f"{stem}.png" for _, stem in rows],
            "fine_labels": [NAMES.index(name) for name, _ in rows],
            "data": np.stack(planes),
        }
        files[part] = python2_pickle(table)
    return files


def write_zip(path: Path, files: Files) -> Path:
    return raw_data.write_zip(path, {f"cifar100/{name}": data for name, data in files.items()})


def write_tar(path: Path, files: Files) -> Path:
    inside = {f"cifar-100-python/{name}": data for name, data in files.items()}
    return raw_data.write_tar(path, inside)


def open_tiny(path: Path) -> CifarFS:
    return CifarFS.open(path, CLASSES, images_per_class=len(STEMS))


FORMS: dict[str, Callable[[Path], Path]] = {
    "zip": lambda at: write_zip(at / "archive", authors_files()),
    **{
        f"zip of {form}": lambda at, form=form: write_zip(at / "c.zip", authors_files(form))
        for form in ("WEBP", "BMP", "PPM", "TGA", "TIFF")
    },
    "folder": lambda at: write_folder(at / "cifar100", authors_files()),
    "folder around it": lambda at: write_folder(at / "x" / "cifar100", authors_files()).parent,
    "tar": lambda at: write_tar(at / "archive", official_files()),
    "tar in another order": lambda at: write_tar(
        at / "c.tar.gz", dict(reversed(official_files().items()))
    ),
    "pickles": lambda at: write_folder(at / "py", official_files()),
    "pickles' parent": lambda at: write_folder(at / "cifar-100-python", official_files()).parent,
}


@pytest.fixture(scope="module")
def fingerprint(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("oracle")
    return pack(open_tiny(FORMS["zip"](folder)), "tiny", folder / "packed", workers=1).fingerprint


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_arrays(tmp_path: Path, form: str, fingerprint: str) -> None:
    passport = pack(open_tiny(FORMS[form](tmp_path)), "tiny", tmp_path / "packed", workers=1)
    assert passport.fingerprint == fingerprint
    packed = Packed.open(tmp_path / "packed")
    for split, names in CLASSES.items():
        expected = [pixels(name, stem) for name in names for stem in sorted(STEMS)]
        np.testing.assert_array_equal(packed.images(split), expected)


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_a_source_in_use_travels_to_other_processes(tmp_path: Path, form: str) -> None:
    source = open_tiny(FORMS[form](tmp_path))
    images = source.images("sea")
    # The archive is open here, and must not be sent.
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy.images("sea"), images)
    assert len(pickle.dumps(source)) < 10_000


def test_images_of_one_name_are_ordered_by_their_pixels(tmp_path: Path) -> None:
    files = authors_files()
    twin = pixels("sea", "twin")
    for first, second in (("png", "webp"), ("webp", "png")):
        files[f"data/sea/{STEMS[0]}.{second}"] = encode(twin, second.upper())
        files[f"data/sea/{STEMS[0]}.{first}"] = encode(pixels("sea", STEMS[0]), first.upper())
        images = open_tiny(write_zip(tmp_path / first, files)).images("sea")
        twins = [pixels("sea", STEMS[0]), twin]
        place = sorted(STEMS).index(STEMS[0])
        np.testing.assert_array_equal(
            images[place : place + 2], sorted(twins, key=lambda image: image.tobytes())
        )


def test_hidden_files_of_desktops_do_not_count(tmp_path: Path) -> None:
    litter = {"data/.DS_Store": b"x", "data/sea/._bos_s_7.png": b"x", "readme.txt": b"x"}
    source = open_tiny(write_folder(tmp_path / "cifar100", authors_files() | litter))
    assert len(source.images("sea")) == len(STEMS)


def png_of_16_bits() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", 32, 32, 16, 2, 0, 0, 0)
    rows = zlib.compress(bytes(32 * (1 + 32 * 6)))
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def tiff_of_16_bits() -> bytes:
    # Tags: width, height, bits, compression, colours, strip, samples, rows, bytes.
    values = {256: 32, 257: 32, 258: 0, 259: 1, 262: 2, 273: 0, 277: 3, 278: 32, 279: 32 * 32 * 6}
    end = 8 + 2 + 12 * len(values) + 4
    values |= {258: end, 273: end + 6}
    entries = [
        struct.pack("<HHII", tag, 3 if tag == 258 else 4, 3 if tag == 258 else 1, value)
        for tag, value in values.items()
    ]
    head = b"II*\0" + struct.pack("<IH", 8, len(values)) + b"".join(entries) + bytes(4)
    return head + struct.pack("<HHH", 16, 16, 16) + bytes(values[279])


GREY = np.full((32, 32, 3), 7, dtype=np.uint8)
BAD_IMAGES = {
    "zero bytes": (b"", "cannot be read"),
    "text": (b"<html>quota exceeded</html>", "cannot be read"),
    "cut": (encode(pixels("sea", "cut"))[:1500], "cannot be read"),
    "flipped": (encode(GREY)[:60] + b"\xff\xff" + encode(GREY)[62:], "cannot be read"),
    "wide": (encode(np.zeros((32, 33, 3), np.uint8)), "33x32 RGB of 8 bits, must be 32x32"),
    "greyscale": (encode(GREY, mode="L"), "32x32 L of 8 bits, must be 32x32 RGB"),
    "palette": (encode(GREY, mode="P"), "32x32 P of 8 bits, must be 32x32 RGB"),
    "transparent": (encode(GREY, mode="RGBA"), "32x32 RGBA of 8 bits, must be 32x32 RGB"),
    "CMYK": (encode(GREY, "JPEG", "CMYK"), "32x32 CMYK of 8 bits, must be 32x32 RGB"),
    "16 bits": (png_of_16_bits(), "32x32 RGB of 16 bits, must be 32x32 RGB of 8 bits"),
    "TIFF of 16 bits": (tiff_of_16_bits(), "RGB of 16 bits, must be 32x32 RGB of 8 bits"),
    "PostScript": (encode(GREY, "EPS"), "UnidentifiedImageError"),
    "huge": (bytes((1 << 20) + 1), "more than 1048576 bytes"),
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
@pytest.mark.parametrize("write", [write_zip, write_folder])
def test_a_bad_image_is_refused_by_name(
    tmp_path: Path, kind: str, write: Callable[[Path, Files], Path]
) -> None:
    data, message = BAD_IMAGES[kind]
    bad = {f"data/sea/{STEMS[0]}.png": data}
    source = open_tiny(write(tmp_path / "cifar100", authors_files() | bad))
    with pytest.raises(
        UserError, match=rf"cifar100: (cifar100/)?data/sea/{STEMS[0]}\.png.*{message}"
    ):
        source.images("sea")


def test_a_damaged_zip_member_is_refused_by_name(tmp_path: Path) -> None:
    files = authors_files()
    path = write_zip(tmp_path / "cifar100.zip", files)
    image = files[f"data/sea/{STEMS[0]}.png"]
    path.write_bytes(path.read_bytes().replace(image, image[:-1] + b"?"))
    with pytest.raises(UserError, match=rf"data/sea/{STEMS[0]}\.png cannot be read.*CRC"):
        open_tiny(path).images("sea")


def test_a_class_short_of_an_image_is_refused(tmp_path: Path) -> None:
    files = authors_files()
    del files[f"data/worm/{STEMS[0]}.png"]
    source = open_tiny(write_zip(tmp_path / "cifar100.zip", files))
    with pytest.raises(UserError, match="class 'worm' has 5 images, must have 6"):
        pack(source, "tiny", tmp_path / "packed", workers=1)


def test_a_class_without_rows_in_the_pickles_is_refused(tmp_path: Path) -> None:
    table = {"filenames": [], "fine_labels": [], "data": np.zeros((0, 3072), np.uint8)}
    emptied = {"train": python2_pickle(table), "test": python2_pickle(table)}
    source = open_tiny(write_folder(tmp_path, official_files() | emptied))
    with pytest.raises(UserError, match="class 'cattle' has 0 images, must have 6"):
        pack(source, "tiny", tmp_path / "packed", workers=1)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"splits/bertinetto/val.txt": b"sea\napple\n"},
            r"val\.txt does not .* too often: apple; missing: none",
        ),
        (
            {"splits/bertinetto/train.txt": b"apple\napple\n"},
            r"train\.txt does not .* too often: apple; missing: cattle",
        ),
        (
            {"splits/bertinetto/test.txt": b"\xff\n"},
            r"test\.txt does not .* missing: worm",
        ),
        ({"data/bed/bed_s_1.png": b""}, "data/ does not .* too often: bed; missing: none"),
        ({"data/stray.png": b""}, r"data/stray\.png is out of place"),
        ({"data/sea/../sea/x.png": b""}, r"data/sea/\.\./sea/x\.png' leads out of the archive"),
    ],
)
def test_archives_of_other_classes_are_refused(
    tmp_path: Path, changed: Files, message: str
) -> None:
    path = write_zip(tmp_path / "cifar100.zip", authors_files() | changed)
    with pytest.raises(UserError, match=message):
        open_tiny(path)


@pytest.mark.parametrize(
    ("without", "message"),
    [
        ("data/worm/", "data/ does not .* missing: worm"),
        ("splits/bertinetto/val.txt", r"splits/bertinetto/val\.txt cannot be read"),
    ],
)
@pytest.mark.parametrize("write", [write_zip, write_folder])
def test_archives_that_miss_something_are_refused(
    tmp_path: Path, without: str, message: str, write: Callable[[Path, Files], Path]
) -> None:
    files = {name: data for name, data in authors_files().items() if not name.startswith(without)}
    path = write(tmp_path / "cifar100", files)
    with pytest.raises(UserError, match=message):
        open_tiny(path)


def test_pickles_of_other_classes_are_refused(tmp_path: Path) -> None:
    cifar10 = {"meta": python2_pickle({"fine_label_names": [*NAMES[1:], "ship"]})}
    path = write_tar(tmp_path / "c.tar.gz", official_files() | cifar10)
    with pytest.raises(UserError, match=r"meta does not .* too often: ship; missing: apple"):
        open_tiny(path)


@pytest.mark.parametrize("part", ["meta", "train", "test"])
@pytest.mark.parametrize("write", [write_tar, write_folder])
def test_a_hostile_pickle_is_refused_and_not_executed(
    tmp_path: Path, part: str, write: Callable[[Path, Files], Path]
) -> None:
    marker = tmp_path / "executed"
    hostile = pickle.dumps(Payload(marker), protocol=2)
    path = write(tmp_path / "cifar", official_files() | {part: hostile})
    with pytest.raises(UserError, match=rf"{part} cannot be read.*asks for \w+\.mkdir"):
        open_tiny(path).images("sea")
    assert not marker.exists()
    pickle.loads(hostile)
    assert marker.exists()


@pytest.mark.parametrize(
    "table",
    [
        ["no table"],
        {"filenames": ["a.png"], "data": np.zeros((1, 3072), np.uint8)},
        {"filenames": [], "fine_labels": [0], "data": np.zeros((1, 3072), np.uint8)},
        {"filenames": ["a.png"], "fine_labels": [0], "data": np.zeros((1, 3071), np.uint8)},
        {"filenames": ["a.png"], "fine_labels": [0], "data": np.zeros((1, 3072), np.int16)},
    ],
)
def test_damaged_tables_are_refused_by_name(tmp_path: Path, table: object) -> None:
    path = write_folder(tmp_path, official_files() | {"test": python2_pickle(table)})
    with pytest.raises(UserError, match="test cannot be read"):
        open_tiny(path).images("sea")


def test_a_tar_without_a_part_is_refused_by_name(tmp_path: Path) -> None:
    files = official_files()
    del files["test"]
    source = open_tiny(write_tar(tmp_path / "c.tar.gz", files))
    with pytest.raises(UserError, match=r"test cannot be read.*no such file"):
        source.images("sea")


def test_a_tar_member_of_undue_size_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_tiny(write_tar(tmp_path / "c.tar.gz", official_files()))
    monkeypatch.setattr("pipeline.data.cifar_fs.MAX_PICKLE_BYTES", 1000)
    with pytest.raises(UserError, match=r"train cannot be read.* bytes, must be under 1000"):
        source.images("sea")


def test_a_cut_tar_is_refused(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "c.tar.gz", official_files())
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(UserError, match=r"c\.tar\.gz cannot be read"):
        open_tiny(path)


@pytest.mark.parametrize("kind", ["absent", "empty folder", "page"])
def test_what_is_no_archive_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "resources"
    if kind == "empty folder":
        path.mkdir()
    if kind == "page":
        path.write_text("<html>please confirm</html>")
    with pytest.raises(UserError, match="resources is not CIFAR-FS or is damaged"):
        open_tiny(path)


def test_the_archive_must_be_named() -> None:
    with pytest.raises(UserError, match="--raw PATH"):
        source_of({}, None)


def test_a_cut_zip_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "cifar100.zip", authors_files())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="is not CIFAR-FS or is damaged"):
        open_tiny(path)


def test_the_authors_archive_packs_to_the_known_data_set(tmp_path: Path) -> None:
    if not REAL_ARCHIVE.exists():
        pytest.skip(f"the authors' archive is not at {REAL_ARCHIVE}")
    cifar_fs = source_of({}, REAL_ARCHIVE)
    # CIFAR-100 numbers its classes by the alphabet; these are the authors' validation classes.
    fine_names = sorted(name for names in cifar_fs.classes.values() for name in names)
    validation = [4, 7, 14, 15, 19, 26, 27, 32, 40, 47, 48, 55, 71, 73, 87, 89]
    assert cifar_fs.classes["validation"] == [fine_names[label] for label in validation]

    passport = pack(cifar_fs, "cifar_fs", tmp_path, workers=1)
    assert [passport.n_images(split) for split in SPLITS] == [38_400, 9_600, 12_000]
    # The constants of the whole CIFAR-100 training set, which the base classes come close to.
    mean = np.array([129.37731888, 124.10583864, 112.47758569])
    std = np.array([68.20947949, 65.43124043, 70.45866994])
    np.testing.assert_allclose(255 * np.array(passport.channel_mean), mean, atol=1.5)
    np.testing.assert_allclose(255 * np.array(passport.channel_std), std, atol=1.5)
    assert passport.fingerprint == (
        "f4c73d1489edc6df95af11e2866143313c6377f30328342f9cba53d7e2bd1956"
    )
    shutil.rmtree(tmp_path)  # pytest would keep these 184 MB for three runs
