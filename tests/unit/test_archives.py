"""Folders, zips and tars are read in place; what could harm is refused before it is read."""

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from raw_data import Files, tar_of, write_folder, write_tar, write_zip

from pipeline.data.archives import open_files, read
from pipeline.errors import UserError

FILES: Files = {"a/one.txt": b"first", "a/b/two.bin": bytes(70_000), "three": b""}


def plain_tar(path: Path, files: Files) -> Path:
    return write_tar(path, files, "w")


def packed_tar(path: Path, files: Files) -> Path:
    return write_tar(path, files, "w:gz")


WRITERS = [write_folder, write_zip, plain_tar, packed_tar]


@pytest.mark.parametrize("write", WRITERS)
def test_every_file_comes_back(tmp_path: Path, write: Callable[[Path, Files], Path]) -> None:
    files = open_files(write(tmp_path / "raw", FILES))
    assert files is not None
    assert sorted(files.names) == sorted(FILES)
    for name, data in FILES.items():
        assert read(files, name, 1 << 20) == data
        assert files.size(name) == len(data)
        extent = files.extent(name)
        assert (extent is None) == (write in (write_zip, packed_tar))
        if extent is not None:
            whole = Path(extent.path).read_bytes()
            assert whole[extent.offset : extent.offset + extent.size] == data
    assert files.in_any_order == (write is not packed_tar)
    with pytest.raises(UserError, match=r"raw: four cannot be read .*no such file"):
        read(files, "four", 10)
    with pytest.raises(UserError, match="raw: a/one.txt has more than 4 bytes, the most"):
        read(files, "a/one.txt", 4)


@pytest.mark.parametrize("write", WRITERS)
def test_hidden_files_do_not_count(tmp_path: Path, write: Callable[[Path, Files], Path]) -> None:
    litter = {".DS_Store": b"", "a/._one.txt": b"", ".git/x": b"", "__MACOSX/a/one.txt": b""}
    files = open_files(write(tmp_path / "raw", FILES | litter))
    assert files is not None
    assert sorted(files.names) == sorted(FILES)


def test_a_window_on_a_file_ends_where_it_should(tmp_path: Path) -> None:
    files = open_files(plain_tar(tmp_path / "raw", FILES))
    assert files is not None
    with files.open("a/one.txt") as file:
        assert file.read(100) == b"first"
        assert file.read() == b""
        assert file.seek(-3, io.SEEK_END) == 2
        assert file.readline() == b"rst"
        file.seek(1)
        assert (file.read(1), file.seek(1, io.SEEK_CUR), file.read()) == (b"i", 3, b"st")


def test_a_tar_inside_counts_as_a_folder_if_it_is_wanted(tmp_path: Path) -> None:
    outer: Files = {"x/in.tar": tar_of(FILES), "other.tar": tar_of({"unread": b"?"}), "y": b"y"}
    for write in (write_folder, plain_tar):
        files = open_files(write(tmp_path / write.__name__, outer), tars=lambda name: name == "in")
        assert files is not None
        inside = {f"x/in/{name}": data for name, data in FILES.items()}
        assert sorted(files.names) == sorted([*inside, "other.tar", "y"])
        for name, data in inside.items():
            assert read(files, name, 1 << 20) == data


def test_only_wanted_folders_are_entered(tmp_path: Path) -> None:
    path = write_folder(tmp_path, {"a/x": b"", "b/x": b"", "c/a/x": b""})
    (tmp_path / "b").chmod(0)
    files = open_files(path, folders=lambda name: name != "b")
    (tmp_path / "b").chmod(0o755)
    assert files is not None
    assert sorted(files.names) == ["a/x", "c/a/x"]


def test_links_in_a_folder_are_followed(tmp_path: Path) -> None:
    write_folder(tmp_path / "elsewhere", {"one": b"1", "loop/two": b"2"})
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a").symlink_to(tmp_path / "elsewhere")
    files = open_files(tmp_path / "raw")
    assert files is not None
    assert read(files, "a/one", 9) == b"1"
    # A folder inside itself has an end all the same.
    (tmp_path / "elsewhere" / "loop" / "again").symlink_to(tmp_path / "elsewhere")
    files = open_files(tmp_path / "raw")
    assert files is not None
    assert "a/loop/again/one" in files.names


def tar_with(path: Path, change: Callable[[tarfile.TarInfo], None], mode: str) -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        member = tarfile.TarInfo("a/file")
        change(member)
        archive.addfile(member, io.BytesIO(bytes(member.size)))
    return path


def kind(code: bytes, target: str = "/etc/passwd") -> Callable[[tarfile.TarInfo], None]:
    def change(member: tarfile.TarInfo) -> None:
        member.type, member.linkname = code, target

    return change


def name(text: str) -> Callable[[tarfile.TarInfo], None]:
    def change(member: tarfile.TarInfo) -> None:
        member.name = text

    return change


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (kind(tarfile.SYMTYPE), "raw: a/file is a link or a device"),
        (kind(tarfile.LNKTYPE), "raw: a/file is a link or a device"),
        (kind(tarfile.CHRTYPE), "raw: a/file is a link or a device"),
        (kind(tarfile.FIFOTYPE), "raw: a/file is a link or a device"),
        (name("../file"), r"raw: the name '\.\./file' leads out of the archive"),
        (name("a/../../file"), "leads out of the archive"),
        (name("/etc/file"), r"raw: the name '/etc/file' leads out of the archive"),
        (name("C:/file"), "leads out of the archive"),
        (name("a\\..\\file"), "leads out of the archive"),
    ],
)
def test_a_tar_that_could_harm_is_refused(
    tmp_path: Path, change: Callable[[tarfile.TarInfo], None], message: str, mode: str
) -> None:
    with pytest.raises(UserError, match=message):
        open_files(tar_with(tmp_path / "raw", change, mode))


@pytest.mark.parametrize("path", ["../file", "/etc/file", "a/../../file", "C:/file"])
def test_a_zip_that_leads_out_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(UserError, match="leads out of the archive"):
        open_files(write_zip(tmp_path / "raw", {path: b""}))


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("a/file")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "raw", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(UserError, match="raw: a/file is a link or a device"):
        open_files(tmp_path / "raw")


def test_a_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "raw", "w") as archive:
        for _ in range(2):
            archive.addfile(tarfile.TarInfo("a/file"))
    with pytest.raises(UserError, match="raw: a/file is there twice"):
        open_files(tmp_path / "raw")


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(("limit", "value"), [("MAX_FILES", 2), ("MAX_TOTAL_BYTES", 70_000)])
def test_number_and_size_have_bounds(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write: Callable[[Path, Files], Path],
    limit: str,
    value: int,
) -> None:
    path = write(tmp_path / "raw", FILES)
    monkeypatch.setattr(f"pipeline.data.listing.{limit}", value)
    with pytest.raises(UserError, match="raw has more than .* the most it may have"):
        open_files(path)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_a_cut_tar_is_refused_by_name(tmp_path: Path, mode: str) -> None:
    path = write_tar(tmp_path / "raw", FILES, mode)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match="raw cannot be read .*Get the data set again"):
        open_files(path)


def test_what_is_no_archive_is_none(tmp_path: Path) -> None:
    (tmp_path / "page").write_text("<html>")
    assert open_files(tmp_path / "page") is None
    assert open_files(tmp_path / "absent") is None
