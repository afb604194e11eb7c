"""A file is whole or absent, and an earlier one stays until the new one is on disk."""

import errno
import json
import os
import re
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from pipeline.errors import UserError
from pipeline.files import alone, replacing, require_writable, write_json, write_text

NAMES = ["record.json", "weights.safetensors", "novel.npy", "archive", "seed0.v2.json"]


@pytest.fixture
def umask() -> Iterator[None]:
    """Whatever a test sets, the mask is put back."""
    mask = os.umask(0o022)
    yield
    os.umask(mask)


def failing(number: int) -> NoReturn:
    raise OSError(number, os.strerror(number))


def write_half(path: Path, fault: BaseException) -> None:
    with replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise fault


@pytest.mark.parametrize("name", NAMES)
def test_the_new_file_appears_when_it_is_complete(name: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / "folders" / name
    with replacing(path) as temporary:
        temporary.write_bytes(b"whole")
        assert not path.exists()
        assert temporary.parent == path.parent
        assert temporary.suffix == path.suffix
    assert path.read_bytes() == b"whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "fault", [ValueError("wrong"), KeyboardInterrupt(), OSError(errno.EIO, "")]
)
def test_a_failure_leaves_the_earlier_file_and_nothing_else(
    fault: BaseException, tmp_path: Path
) -> None:
    path = tmp_path / "record.json"
    path.write_text("earlier")
    with pytest.raises(type(fault)) as raised:
        write_half(path, fault)
    assert raised.value is fault
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_no_file_where_there_was_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wrong"):
        write_half(tmp_path / "record.json", ValueError("wrong"))
    assert not list(tmp_path.iterdir())


def test_the_content_is_on_disk_before_it_takes_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "record.json"
    path.write_text("earlier")
    flushed = []

    def fsync(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        flushed.append((kind, path.read_text()))

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(path, "new")
    assert flushed == [("file", "earlier"), ("folder", "new")]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664)])
@pytest.mark.usefixtures("umask")
def test_permissions_are_those_of_any_other_file(mask: int, mode: int, tmp_path: Path) -> None:
    os.umask(mask)
    write_text(tmp_path / "ours", "")
    (tmp_path / "other").touch()
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == mode
    assert stat.S_IMODE((tmp_path / "other").stat().st_mode) == mode
    assert os.umask(mask) == mask


FULL = {
    errno.ENOSPC: "No space left on device",
    errno.EDQUOT: "Disk quota exceeded",
}


@pytest.mark.parametrize("number", FULL)
@pytest.mark.parametrize("when", ["writing", "flushing"])
def test_a_full_disk_is_said_and_loses_nothing(
    when: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "record.json"
    path.write_text("earlier")
    call: tuple[object, str] = (Path, "write_text") if when == "writing" else (os, "fsync")
    with monkeypatch.context() as disk:
        disk.setattr(*call, lambda *_, **__: failing(number))
        with pytest.raises(UserError, match=f"cannot write {path}: {FULL[number]}. Free some"):
            write_text(path, "new")
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
@pytest.mark.parametrize("call", [(tempfile, "mkstemp"), (Path, "mkdir"), (Path, "replace")])
def test_a_folder_that_cannot_be_written_is_named(
    call: tuple[object, str], number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "record.json"
    path.write_text("earlier")
    monkeypatch.setattr(*call, lambda *_, **__: failing(number))
    with pytest.raises(UserError, match=rf"cannot write {path}: .*make the folder writable"):
        write_text(path, "new")
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_tried_before_it_is_needed(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "new" / "folder"):
        require_writable(folder)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "folder"):
        with pytest.raises(UserError, match=f"cannot write {folder}: Not a directory. Free"):
            require_writable(folder)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EDQUOT])
def test_a_folder_that_takes_no_file_is_refused(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: failing(number))
    with pytest.raises(UserError, match=f"cannot write {tmp_path}: {os.strerror(number)}. Free"):
        require_writable(tmp_path)


def test_those_who_wait_come_one_after_the_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though each removes its lock at its end, and so the others hold one on a file without name."""
    lock, inside, most = tmp_path / "lock", [], []
    together = threading.Barrier(8)

    def enter() -> None:
        together.wait()
        for _ in range(20):
            with alone(lock, "this", waits=True):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=enter) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 160
    assert not lock.exists()
    said = set(capsys.readouterr().out.splitlines())
    holder = f"process {os.getpid()} on {os.uname().nodename}"
    assert said <= {
        f"this: {who} is at it already: waiting for it" for who in (holder, "another process")
    }


def test_a_file_system_that_cannot_flush_still_gets_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: failing(errno.EINVAL))
    write_text(tmp_path / "record.json", "new")
    assert (tmp_path / "record.json").read_text() == "new"


def test_json_has_its_keys_sorted_and_reads_back(tmp_path: Path) -> None:
    value = {"b": [1, 0.1, None], "a": {"d": "±", "c": True}}
    write_json(tmp_path / "one.json", value)
    text = (tmp_path / "one.json").read_text(encoding="utf-8")
    assert json.loads(text) == value
    assert re.findall(r'"(\w)":', text) == ["a", "c", "d", "b"]
    assert text.endswith("}\n")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), object()])
def test_what_is_not_json_is_refused_and_the_earlier_file_stays(
    value: object, tmp_path: Path
) -> None:
    path = tmp_path / "record.json"
    write_json(path, {"accuracy": 0.5})
    earlier = path.read_bytes()
    with pytest.raises((ValueError, TypeError)):
        write_json(path, {"accuracy": [0.6, value]})
    assert path.read_bytes() == earlier
    assert list(tmp_path.iterdir()) == [path]
