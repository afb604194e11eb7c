"""A full disk, or one that cannot be written: said with the bytes needed, and nothing half left."""

import errno
import fcntl
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from pipeline.data import download, transfer
from pipeline.data.mirrors import Downloads, Mirror, RemoteFile
from pipeline.errors import UserError
from pipeline.files import write_text
from tests.faults.server import Answer, Server
from tests.robustness import Outcome

ROBUSTNESS = "Downloads to a full or protected disk"

BODY = b"\x1f\x8b" + bytes(300_000)
SIZE = len(BODY)
MD5 = f"md5:{hashlib.md5(BODY).hexdigest()}"
SMALL = b"\x1f\x8b" + bytes(9000)
SMALL_MD5 = f"md5:{hashlib.md5(SMALL).hexdigest()}"


def one_file(*files: RemoteFile) -> Downloads:
    return Downloads(tuple(Mirror(file.name, (file,)) for file in files))


def get(folder: Path, *files: RemoteFile) -> Path:
    return download.fetch(one_file(*files), folder / "raw" / "tiny", pause_s=0)


def refusal(folder: Path, *files: RemoteFile) -> str:
    with pytest.raises(UserError) as caught:
        get(folder, *files)
    return str(caught.value).splitlines()[0].replace(f"{folder}/", "")


def short(message: str) -> str:
    return message.partition(". Free some space")[0]


def left(folder: Path) -> list[str]:
    """All files, but for the lock."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def mount(folder: Path, options: str) -> None:
    run = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], capture_output=True, text=True
    )
    if run.returncode:
        pytest.skip(f"no small disk can be mounted here: {run.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 200 kB; only root can have one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount(folder, "size=200k")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_file_that_would_not_fit_leads_on_to_a_smaller_one(
    disk: Path, server: Server, outcome: Outcome
) -> None:
    big = server.file("big", Answer(BODY), known_hash=MD5)
    small = server.file("small", Answer(SMALL), known_hash=SMALL_MD5)
    with pytest.raises(UserError) as caught:
        get(disk, big)
    reason = str(caught.value).splitlines()[1].removeprefix("  big: big: ")
    assert re.fullmatch(rf"it needs {SIZE} more bytes, and .*/big has \d+ free", reason)
    assert left(disk) == []
    assert get(disk, big, small).read_bytes() == SMALL
    said = re.sub(r"and .*", "and the folder has too few free", reason)
    outcome(
        "a file larger than what is free", f"before a byte of it comes, the next mirror: {said}"
    )


def test_the_files_of_a_mirror_are_added_up_before_the_first(
    disk: Path, server: Server, outcome: Outcome
) -> None:
    files = tuple(server.file(name, Answer(SMALL), size=120_000) for name in ("a", "b"))
    with pytest.raises(UserError, match="both: it needs 240000 more bytes, and"):
        download.fetch(Downloads((Mirror("both", files),)), disk / "raw" / "tiny")
    assert server.requests == []
    outcome(
        "several files that fit one by one, but not together",
        "the next mirror, before any is asked for",
    )


@pytest.mark.parametrize("known", [True, False])
def test_a_disk_that_fills_up_halfway_is_cleared_again(
    disk: Path, server: Server, known: bool, monkeypatch: pytest.MonkeyPatch, outcome: Outcome
) -> None:
    # As if another program took the room after it was looked for.
    monkeypatch.setattr(transfer, "check_room", lambda *_: None)
    monkeypatch.setattr(download, "check_room", lambda *_: None)
    file = server.file("big", Answer(BODY, promises=False), size=SIZE if known else None)
    message = refusal(disk, file, server.file("small", Answer(SMALL)))
    needs = f", it needs {SIZE} bytes" if known else ""
    assert message.startswith(
        f"cannot write raw/.partial/tiny/big/big{needs}: No space left on device. Free some space"
    )
    assert left(disk) == []
    assert server.ranges("small") == []
    outcome(
        f"a disk that fills up halfway, size of the file {'known' if known else 'unknown'}",
        f"refused, what came is removed: {short(message)}",
    )


def test_a_disk_without_room_for_a_folder_is_named(
    tmp_path: Path, server: Server, outcome: Outcome
) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount(folder, "size=200k,nr_inodes=2")
    try:
        message = refusal(folder, server.file("small", Answer(SMALL), size=9002))
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    assert message.startswith("cannot write raw/.partial/tiny.lock: No space left on device.")
    assert server.requests == []
    outcome(
        "a disk that has space but no inode free",
        f"refused, before any mirror is asked: {short(message)}",
    )


def test_a_disk_that_cannot_be_written_is_named(
    disk: Path, server: Server, outcome: Outcome
) -> None:
    file = server.file("small", Answer(SMALL), known_hash=SMALL_MD5, size=9002)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    message = refusal(disk, file)
    assert message.startswith("cannot write raw/.partial/tiny.lock: Read-only file system.")
    assert server.requests == []
    outcome("a read-only disk", f"refused, before any mirror is asked: {short(message)}")


def test_what_lies_on_a_read_only_disk_is_taken(
    disk: Path, server: Server, outcome: Outcome
) -> None:
    file = server.file("small", Answer(SMALL), known_hash=SMALL_MD5)
    get(disk, file)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert get(disk, file).read_bytes() == SMALL
    assert len(server.requests) == 1
    outcome("a read-only disk that holds the file", "taken as it is")


LIMITED = """
import resource, sys
from pathlib import Path
from pipeline.data.download import fetch
from pipeline.data.mirrors import Downloads, Mirror, RemoteFile
from pipeline.errors import UserError
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
url, size, folder = sys.argv[1:]
try:
    fetch(Downloads((Mirror("big", (RemoteFile("big", url, size=int(size)),)),)), Path(folder))
except UserError as error:
    print(error)
"""


def test_a_limit_on_the_size_of_files_is_named(
    tmp_path: Path, server: Server, outcome: Outcome
) -> None:
    file = server.file("big", Answer(BODY), size=SIZE)
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, file.url, str(SIZE), str(tmp_path / "raw" / "tiny")],
        capture_output=True,
        text=True,
        check=True,
    )
    message = run.stdout.splitlines()[-1].replace(f"{tmp_path}/", "")
    assert message.startswith(
        f"cannot write raw/.partial/tiny/big/big, it needs {SIZE} bytes: File too large."
    )
    assert left(tmp_path) == []
    outcome(
        "a limit on the size of files (ulimit -f)",
        f"refused, what came is removed: {short(message)}",
    )


def failing(number: int) -> NoReturn:
    raise OSError(number, os.strerror(number))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_turns_out_full_when_it_is_flushed_is_named(
    tmp_path: Path,
    server: Server,
    number: int,
    monkeypatch: pytest.MonkeyPatch,
    outcome: Outcome,
) -> None:
    file = server.file("small", Answer(SMALL), known_hash=SMALL_MD5)
    with monkeypatch.context() as patch:
        # Without an ETag the note says nothing, and it is not what is tested here.
        patch.setattr("pipeline.data.transfer.write_json", lambda *_: None)
        patch.setattr(os, "fsync", lambda _: failing(number))
        message = refusal(tmp_path, file)
    assert message.startswith(
        f"cannot write raw/.partial/tiny/small/small, it needs 9002 bytes: {os.strerror(number)}."
    )
    assert left(tmp_path) == []
    assert get(tmp_path, file).read_bytes() == SMALL
    outcome(
        f"{os.strerror(number)}, told only when the file is flushed",
        f"refused, what came is removed: {short(message)}",
    )


def test_a_whole_file_that_cannot_take_its_place_is_not_downloaded_again(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, outcome: Outcome
) -> None:
    file = server.file("small", Answer(SMALL), known_hash=SMALL_MD5, size=9002)
    with monkeypatch.context() as patch:
        patch.setattr(download, "move", lambda *_: failing(errno.ENOSPC))
        message = refusal(tmp_path, file)
    assert message.startswith("cannot write raw/tiny/archive, it needs 9002 bytes: No space left")
    assert left(tmp_path) == ["raw/.partial/tiny/small/small"]
    assert get(tmp_path, file).read_bytes() == SMALL
    assert len(server.requests) == 1
    assert left(tmp_path) == ["raw/tiny/archive"]
    outcome(
        "a whole file that cannot take its place",
        "refused; the next run takes it from where it is kept",
    )


def test_a_file_in_the_place_of_a_folder_is_named(
    tmp_path: Path, server: Server, outcome: Outcome
) -> None:
    (tmp_path / "raw").touch()
    message = refusal(tmp_path, server.file("small", Answer(SMALL)))
    assert re.match(r"cannot write raw/.*tiny.lock: (Not a directory|File exists)\.", message)
    with pytest.raises(UserError, match=r"cannot write .*raw/record\.json: File exists"):
        write_text(tmp_path / "raw" / "record.json", "{}")
    assert (tmp_path / "raw").read_bytes() == b""
    outcome("a file where a folder must be", "refused, and left as it is")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_still_gets_its_file(
    tmp_path: Path,
    server: Server,
    number: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    outcome: Outcome,
) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: failing(number))
    assert (
        get(tmp_path, server.file("small", Answer(SMALL), known_hash=SMALL_MD5)).read_bytes()
        == SMALL
    )
    assert "knows no locks: start this only once" in capsys.readouterr().out
    outcome(
        f"a file system without locks ({errno.errorcode[number]})",
        "taken, with a warning not to start two at once",
    )
