"""Each data set comes from the first mirror that gives it, whole, and what is there is kept."""

import hashlib
import io
import re
import shutil
import tarfile
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pipeline.__main__ import main
from pipeline.data import mirrors, transfer
from pipeline.data.download import fetch, link
from pipeline.data.mirrors import DOWNLOADS, Downloads, Mirror, RemoteFile, of_dataset
from pipeline.errors import UserError
from tests.faults.server import Answer, Server, server

__all__ = ["server"]


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(zipfile.ZipInfo("cifar100/readme.txt"), "x" * 3000)
    return buffer.getvalue()


def tar_archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        file.addfile(tarfile.TarInfo("cifar-100-python/meta"))
    return buffer.getvalue()


GOOD = archive()
MD5 = f"md5:{hashlib.md5(GOOD).hexdigest()}"
SHA256 = f"sha256:{hashlib.sha256(GOOD).hexdigest()}"


def downloads(*files: RemoteFile) -> Downloads:
    """Mirrors of one file each, named after it."""
    return Downloads(tuple(Mirror(file.name, (file,)) for file in files))


def get(destination: Path, *files: RemoteFile) -> Path:
    return fetch(downloads(*files), destination, pause_s=0)


@pytest.mark.parametrize("known_hash", [None, MD5, SHA256])
@pytest.mark.parametrize("size", [None, len(GOOD)])
def test_a_good_file_is_put_in_place(
    tmp_path: Path, server: Server, known_hash: str | None, size: int | None
) -> None:
    file = server.file("a.zip", Answer(GOOD), known_hash=known_hash, size=size)
    path = get(tmp_path / "raw" / "cifar_fs", file)
    assert path == tmp_path / "raw" / "cifar_fs" / "archive"
    assert path.read_bytes() == GOOD
    assert list(path.parent.iterdir()) == [path]
    assert not list((tmp_path / "raw" / ".partial").iterdir())


def test_a_tar_passes_where_no_hash_is_known(tmp_path: Path, server: Server) -> None:
    body = tar_archive()
    assert get(tmp_path / "tiny", server.file("a", Answer(body))).read_bytes() == body


def test_a_mirror_of_several_files_gives_a_folder(tmp_path: Path, server: Server) -> None:
    files = tuple(server.file(name, Answer(GOOD)) for name in ("train.zip", "test.zip"))
    place = fetch(Downloads((Mirror("both", files),)), tmp_path / "tiny")
    assert {path.name: path.read_bytes() for path in place.iterdir()} == {
        "train.zip": GOOD,
        "test.zip": GOOD,
    }
    requests = len(server.requests)
    assert fetch(Downloads((Mirror("both", files),)), tmp_path / "tiny") == place
    assert len(server.requests) == requests


def test_mirrors_are_asked_in_order_and_no_more_than_needed(tmp_path: Path, server: Server) -> None:
    files = [
        server.file(name, Answer(GOOD, status))
        for name, status in (("a", 404), ("b", 200), ("c", 200))
    ]
    get(tmp_path / "tiny", *files)
    assert [request.path for request in server.requests] == ["/a", "/b"]


def test_what_came_outlives_the_folder_that_snakemake_empties(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "CHUNK_BYTES", 1000)
    file = server.file("a.zip", Answer(GOOD, sends=1000), Answer(b"", 403))
    destination = tmp_path / "raw" / "tiny"
    with pytest.raises(
        UserError, match=r"What came is kept in .*raw/\.partial/tiny, to go on from"
    ):
        get(destination, file)
    shutil.rmtree(destination, ignore_errors=True)
    server.file("a.zip", Answer(GOOD))
    assert get(destination, file).read_bytes() == GOOD
    assert server.ranges("a.zip") == [None, "bytes=1000-", "bytes=1000-"]


def test_a_file_in_place_is_kept_without_asking(tmp_path: Path, server: Server) -> None:
    first = server.file("a", Answer(GOOD), known_hash="md5:" + 32 * "0")
    second = server.file("b", Answer(GOOD), known_hash=SHA256)
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "archive").write_bytes(GOOD)
    assert get(tmp_path / "tiny", first, second).read_bytes() == GOOD
    assert not server.requests
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


FOREIGN = {
    "a cut file": (lambda place: place.write_bytes(GOOD[:-1]), f"{len(GOOD) - 1} bytes, not"),
    "an empty file": (lambda place: place.touch(), "0 bytes, not"),
    "a folder": (lambda place: place.mkdir(), "not a file"),
    "a page": (lambda place: place.write_text("<html>log in</html>"), "an HTML page, not the file"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_something_else_in_place_is_refused_and_left_alone(
    tmp_path: Path, server: Server, kind: str
) -> None:
    make, fault = FOREIGN[kind]
    file = server.file("a", Answer(GOOD), known_hash=MD5, size=len(GOOD))
    place = tmp_path / "tiny" / "archive"
    place.parent.mkdir()
    make(place)
    before = place.stat().st_size, place.stat().st_mtime_ns
    with pytest.raises(UserError) as caught:
        get(place.parent, file)
    message = str(caught.value)
    assert message.startswith(f"{place} is not what belongs there:\n  a: {fault}")
    assert f"    {server.url}/a ({MD5}, {len(GOOD)} bytes)\n" in message
    assert message.endswith("put one of these in its place, and run the same command again.")
    assert (place.stat().st_size, place.stat().st_mtime_ns) == before
    assert not server.requests


def test_an_incomplete_folder_in_place_is_refused(tmp_path: Path, server: Server) -> None:
    files = tuple(server.file(name, Answer(GOOD)) for name in ("train.zip", "test.zip"))
    place = tmp_path / "tiny" / "archive"
    place.mkdir(parents=True)
    (place / "train.zip").write_bytes(GOOD)
    with pytest.raises(UserError, match=r"both: test\.zip: absent"):
        fetch(Downloads((Mirror("both", files),)), place.parent)


def test_the_command_line_downloads_and_says_from_where(
    tmp_path: Path,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = {"tiny": downloads(server.file("a.zip", Answer(GOOD)))}
    monkeypatch.setattr(mirrors, "DOWNLOADS", known)
    assert main(["fetch", "--dataset", "tiny", "--out", str(tmp_path / "tiny")]) == 0
    assert (tmp_path / "tiny" / "archive").read_bytes() == GOOD
    assert f"a.zip from {server.url}/a.zip" in capsys.readouterr().out
    assert main(["fetch", "--dataset", "big", "--out", str(tmp_path / "big")]) == 1
    assert "no download for the data set big; Allowed: tiny" in capsys.readouterr().err


def test_a_data_set_without_a_download_is_refused_by_name() -> None:
    with pytest.raises(
        UserError,
        match=r"no download for the data set omniglot; Allowed: cifar_fs, mini_imagenet\. A copy",
    ):
        of_dataset("omniglot")


@pytest.mark.parametrize("dataset", DOWNLOADS)
def test_every_place_is_well_formed(dataset: str) -> None:
    known = of_dataset(dataset)
    names = [mirror.name for mirror in known.mirrors]
    assert len(set(names)) == len(names)
    urls = [file.url for mirror in known.mirrors for file in mirror.files]
    assert len(set(urls)) == len(urls)
    for mirror in known.mirrors:
        # Both become names of files and folders.
        for name in (mirror.name, *(file.name for file in mirror.files)):
            assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]+", name)
            assert not name.endswith((".partial", ".json", ".lock"))
        assert len({file.name for file in mirror.files}) == len(mirror.files)
        for file in mirror.files:
            assert urlsplit(file.url).scheme == "https"
            assert file.known_hash is None or re.fullmatch(r"md5:[0-9a-f]{32}", file.known_hash)


@pytest.mark.parametrize("dataset", DOWNLOADS)
def test_the_first_place_can_be_checked_and_its_size_is_known(dataset: str) -> None:
    first, *rest = of_dataset(dataset).mirrors
    assert first.size is not None
    hashes = [all(file.known_hash for file in mirror.files) for mirror in (first, *rest)]
    assert hashes == sorted(hashes, reverse=True)


def test_cifar_fs_comes_first_from_its_authors() -> None:
    [file] = of_dataset("cifar_fs").mirrors[0].files
    assert file.known_hash == "md5:eb9058c3a382ffc7106e4002c42a8d85"
    assert file.size == 169_001_437


def test_mini_imagenet_says_what_to_ask_of_image_net_and_where_to_put_it() -> None:
    [images] = [way for way in of_dataset("mini_imagenet").by_hand if "image-net.org" in way]
    for part in (
        "ILSVRC2012_img_train.tar (md5:1d675b47d978889d74fa0da5fadfb00e, 138 GB)",
        "train.csv, val.csv and test.csv beside it",
        "set the path to the .tar",
    ):
        assert part in images


def test_a_link_replaces_a_link_but_never_a_download(tmp_path: Path) -> None:
    first, second, place = tmp_path / "first", tmp_path / "second", tmp_path / "raw" / "archive"
    first.write_text("1")
    second.mkdir()
    for own in (first, second):
        link(own, place)
        assert place.resolve() == own
    place.unlink()
    place.write_text("downloaded")
    with pytest.raises(UserError, match="archive is already there, as a file of its own"):
        link(first, place)
    assert place.read_text() == "downloaded"
    with pytest.raises(UserError, match="there is no .*nowhere: correct the data set's path"):
        link(tmp_path / "nowhere", place)


def test_a_link_where_none_can_be_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, file = tmp_path / "own", tmp_path / "file"
    own.write_text("1")
    file.write_text("2")
    arguments = ["fetch", "--dataset", "cifar_fs", "--path", str(own), "--out", str(file / "raw")]
    assert main(arguments) == 1
    expected = r"error: cannot write .*file/raw/archive: Not a directory\. Free some space"
    assert re.match(expected, capsys.readouterr().err)
    assert file.read_text() == "2"
