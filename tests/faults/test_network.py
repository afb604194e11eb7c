"""A bad network: each fault leads on to the next mirror, and nothing that looks whole is left."""

import gzip
import hashlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pipeline.data import transfer
from pipeline.data.download import fetch
from pipeline.data.mirrors import Downloads, Mirror, RemoteFile
from pipeline.errors import UserError
from tests.faults.server import Answer, Server
from tests.robustness import Outcome

ROBUSTNESS = "Downloads over a bad network"


def archive(byte: bytes = b"x") -> bytes:
    """A zip that can be told from others of its size."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(zipfile.ZipInfo("cifar100/readme.txt"), byte * 3000)
    return buffer.getvalue()


def md5(body: bytes) -> str:
    return f"md5:{hashlib.md5(body).hexdigest()}"


TAR = tarfile.TarInfo("cifar-100-python/meta").tobuf() + bytes(1024)
GOOD, OTHER = archive(), archive(b"y")
SIZE = len(GOOD)
HALF = 1500  # a whole number of chunks, which are what is kept
PAGE = b"\n<!DOCTYPE html><html><title>Google Drive\n - Quota  exceeded</title></html>"
CUT = Answer(GOOD, sends=HALF)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "TIMEOUT_S", 0.3)
    monkeypatch.setattr(transfer, "CHUNK_BYTES", 500)
    monkeypatch.setattr(transfer, "NEWS_BYTES", 1)


def one_file(*files: RemoteFile) -> Downloads:
    """Mirrors of one file each, named after it."""
    return Downloads(tuple(Mirror(file.name, (file,)) for file in files))


def get(folder: Path, *files: RemoteFile) -> bytes:
    return fetch(one_file(*files), folder / "raw" / "tiny", pause_s=0).read_bytes()


def refusal(folder: Path, *files: RemoteFile) -> str:
    """The reason of the first file; nothing may lie in its place."""
    with pytest.raises(UserError) as caught:
        get(folder, *files)
    assert not (folder / "raw" / "tiny" / "archive").exists()
    return str(caught.value).splitlines()[1].partition(f"{files[0].name}: {files[0].name}: ")[2]


def left(folder: Path) -> list[str]:
    """All files, but for the lock."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return sorted(path.relative_to(folder).as_posix() for path in paths)


class Fault(NamedTuple):
    answer: Answer
    reason: str
    asked: int = 1
    known: bool = False  # hash and size of the file


def to(place: str) -> Answer:
    return Answer(b"", 302, {"Location": place})


FAULTS = {
    "404": Fault(Answer(b"gone", 404), "the server answered 404 Not Found"),
    "403": Fault(Answer(PAGE, 403), "the server answered 403 Forbidden"),
    "204": Fault(Answer(b"", 204), "the server answered 204 No Content"),
    "a status that does not exist": Fault(Answer(b"?", 999), "the server answered 999"),
    "500, again and again": Fault(Answer(b"", 500), "the server answered 500 Internal Server Error", asked=3),
    "503, again and again": Fault(Answer(b"", 503), "the server answered 503 Service Unavailable", asked=3),
    "a web page, said to be one": Fault(
        Answer(PAGE, headers={"Content-Type": "text/html; charset=utf-8"}),
        "an HTML page (Google Drive - Quota exceeded), not the file",
        known=True,
    ),
    "a web page, not said to be one": Fault(
        Answer(PAGE), "an HTML page (Google Drive - Quota exceeded), not the file", known=True
    ),
    "a web page whose title would steer the terminal": Fault(
        Answer(b"<html><title>\x1b[2Joh\x07</title>"), "an HTML page ([2Joh), not the file"
    ),
    "a line of text, hash unknown": Fault(Answer(b"quota exceeded"), "neither a zip nor a tar archive"),
    "nothing, hash unknown": Fault(Answer(b""), "neither a zip nor a tar archive"),
    "another file of the same size": Fault(
        Answer(OTHER), f"its md5 is {md5(OTHER)[4:]}, not {md5(GOOD)[4:]}", known=True
    ),
    "a file that was cut before it was put there": Fault(
        Answer(GOOD[:-9]), f"{SIZE - 9} bytes, not {SIZE}", known=True
    ),
    "a zip that was cut before it was put there, hash unknown": Fault(
        Answer(GOOD[:-30]), "neither a zip nor a tar archive"
    ),
    "a .tar.gz that was cut before it was put there, hash unknown": Fault(
        Answer(gzip.compress(TAR, mtime=0)[:40]), "neither a zip nor a tar archive"
    ),
    "a file that is too long": Fault(Answer(GOOD + b"x"), f"{SIZE + 1} bytes, not {SIZE}", known=True),
    "a stream without end": Fault(
        Answer(GOOD + 9999 * b"x", promises=False), f"more than {SIZE} bytes", known=True
    ),
    "a connection that never brings a byte of the file": Fault(
        Answer(GOOD, sends=0), "the connection closed early", asked=3
    ),
    "a connection that falls silent before any byte": Fault(
        Answer(GOOD, sends=0, stalls=True), "nothing came for 0.3 seconds", asked=3
    ),
    "an answer that is no HTTP": Fault(
        Answer(garbage=b"220 mail.example.org ESMTP\r\n\r\n"), "220 mail.example.org ESMTP", asked=3
    ),
    "a length that is no number": Fault(
        Answer(GOOD, promises=False, headers={"Content-Length": "abc"}),
        "invalid literal for int() with base 10: 'abc'",
        asked=3,
    ),
    "no answer, the connection is closed": Fault(
        Answer(garbage=b""), "Remote end closed connection without response", asked=3
    ),
    "a redirect in a circle": Fault(to("/file"), "Exceeded 30 redirects", asked=31),
    "a redirect to a file on this machine": Fault(
        to("file:///etc/hostname"),
        "No connection adapters were found for 'file:///etc/hostname'",
        asked=3,
    ),
    "a redirect to what is no address": Fault(to("http://[::1"), "Invalid IPv6 URL", asked=3),
}  # fmt: skip


@pytest.mark.parametrize("kind", FAULTS)
def test_a_bad_mirror_is_left_for_the_next(
    tmp_path: Path, server: Server, kind: str, outcome: Outcome
) -> None:
    answer, reason, asked, known = FAULTS[kind]
    facts: dict[str, Any] = {"known_hash": md5(GOOD), "size": SIZE} if known else {}
    bad = server.file("file", answer, **facts)
    good = server.file("good", Answer(GOOD), known_hash=md5(GOOD))
    assert refusal(tmp_path, bad) == reason
    assert len(server.ranges("file")) == asked
    assert left(tmp_path) == []
    assert get(tmp_path, bad, good) == GOOD
    assert left(tmp_path) == ["raw/tiny/archive"]
    times = "once" if asked == 1 else f"{asked} times"
    outcome(kind, f"asked {times}, then the next mirror: {reason}")


def nowhere(host: str, *_: object, **__: object) -> list[object]:
    raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


def test_without_a_network_every_mirror_is_named_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: Outcome
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    files = [RemoteFile(name, f"http://{name}.example.org/a.zip") for name in ("one", "two")]
    with pytest.raises(UserError) as caught:
        get(tmp_path, *files)
    lines = str(caught.value).splitlines()
    assert lines[1:5] == [
        "  one: one: Temporary failure in name resolution",
        "    http://one.example.org/a.zip (unknown hash, unknown size)",
        "  two: two: Temporary failure in name resolution",
        "    http://two.example.org/a.zip (unknown hash, unknown size)",
    ]
    assert left(tmp_path) == []
    outcome("no network: no name is found", "refused: every mirror is listed with this reason")


def test_a_refused_connection_leads_on(tmp_path: Path, server: Server, outcome: Outcome) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = RemoteFile("dead", f"http://127.0.0.1:{unused.getsockname()[1]}/a.zip")
        reason = refusal(tmp_path, dead)
        assert reason == "Connection refused"
        assert get(tmp_path, dead, server.file("good", Answer(GOOD))) == GOOD
    outcome("a server that is down", f"the next mirror: {reason}")


def test_the_last_word_says_what_to_do_by_hand(
    tmp_path: Path, server: Server, outcome: Outcome
) -> None:
    train = server.file("train.pkl", CUT, Answer(b"", 503), known_hash=md5(GOOD), size=SIZE)
    test = server.file("test.pkl", Answer(b"", 404), size=7)
    other = RemoteFile("a.zip", f"{server.url}/a.zip")
    downloads = Downloads(
        (Mirror("several", (train, test)), Mirror("other", (other,))),
        by_hand=("the images, from the library",),
    )
    place = tmp_path / "raw" / "tiny" / "archive"
    with pytest.raises(UserError) as caught:
        fetch(downloads, place.parent, pause_s=0)
    assert str(caught.value) == "\n".join(
        [
            f"cannot download {place}. Every mirror failed:",
            f"  several: train.pkl: the server answered 503 Service Unavailable, after {HALF} of {SIZE} bytes",
            f"    {server.url}/train.pkl ({md5(GOOD)}, {SIZE} bytes)",
            f"    {server.url}/test.pkl (unknown hash, 7 bytes)",
            "  other: a.zip: the server answered 404 Not Found",
            f"    {server.url}/a.zip (unknown hash, unknown size)",
            f"Get one of these by another way and put it at {place} under that name (several files: "
            "under their own names into a folder of that name), or set the data set's path in "
            "config.yaml to where it is. Then run the same command again.",
            "Or, by hand: the images, from the library.",
            f"What came is kept in {tmp_path}/raw/.partial/tiny, to go on from.",
        ]
    )
    outcome(
        "all mirrors dead",
        "refused: each mirror with its reason, hashes and sizes; where to put the file by hand; where what came is kept",
    )


GOOD_IN_THE_END: dict[str, list[Answer]] = {
    "503 twice, then the file": [Answer(b"", 503), Answer(b"", 503), Answer(GOOD)],
    "429, then the file": [Answer(b"", 429), Answer(GOOD)],
    "a redirect": [Answer(b"", 302, {"Location": "/file"}), Answer(GOOD)],
    "a .gz that is called an encoded tar": [Answer(GOOD, headers={"Content-Encoding": "gzip"})],
    "no word of its size, no date, no ETag": [Answer(GOOD, promises=False, etag=None)],
}


@pytest.mark.parametrize("kind", GOOD_IN_THE_END)
def test_what_is_good_in_the_end_is_taken(
    tmp_path: Path, server: Server, kind: str, outcome: Outcome
) -> None:
    answers = GOOD_IN_THE_END[kind]
    assert get(tmp_path, server.file("file", *answers, known_hash=md5(GOOD))) == GOOD
    assert server.ranges("file") == [None] * len(answers)
    assert left(tmp_path) == ["raw/tiny/archive"]
    outcome(kind, f"taken, after {len(answers)} request{'s' * (len(answers) > 1)}")


DATE = {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
HALFWAY = f"bytes={HALF}-"
UNFIT = "a rest that does not fit, under the same ETag"
AGAIN, ON = "taken: from the start again", "taken: it goes on where it broke off"
# How the server answers after it broke off halfway, where each request began, what comes of it.
RESUMED: dict[str, tuple[list[Answer], list[str | None], str]] = {
    "the rest": ([CUT, Answer(GOOD)], [None, HALFWAY], ON),
    "the rest, known by its date": (
        [Answer(GOOD, etag=None, headers=DATE, sends=HALF), Answer(GOOD, etag=None, headers=DATE)],
        [None, HALFWAY],
        ON,
    ),
    "the rest, known by its date, since its ETag is a weak one": (
        [Answer(GOOD, etag='W/"1"', headers=DATE, sends=HALF), Answer(GOOD, etag='W/"1"', headers=DATE)],
        [None, HALFWAY],
        ON,
    ),
    "a little more, five times, then the rest": (
        [Answer(GOOD, sends=500) for _ in range(5)] + [Answer(GOOD)],
        [None, *(f"bytes={500 * i}-" for i in range(1, 6))],
        ON,
    ),
    "503, then the rest": ([CUT, Answer(b"", 503), Answer(GOOD)], [None, HALFWAY, HALFWAY], ON),
    "all of it, since it does not know ranges": ([CUT, Answer(GOOD, ranges=False)], [None, HALFWAY], AGAIN),
    "all of it, since the file has changed": (
        [Answer(OTHER, sends=HALF), Answer(GOOD, etag='"2"')],
        [None, HALFWAY],
        AGAIN,
    ),
    "the rest of another version, without a word": (
        [Answer(OTHER, sends=HALF), Answer(GOOD, etag='"2"', checks=False)],
        [None, HALFWAY, None],
        AGAIN,
    ),
    "the rest of a file of another size": (
        [Answer(OTHER + b"x", sends=HALF), Answer(GOOD, checks=False)],
        [None, HALFWAY, None],
        AGAIN,
    ),
    "the rest from another place on": (
        [CUT, Answer(GOOD, skips=1), Answer(GOOD)],
        [None, HALFWAY, None],
        AGAIN,
    ),
    UNFIT: (
        [Answer(OTHER, sends=HALF), Answer(GOOD)],
        [None, HALFWAY, None],
        AGAIN,
    ),
    "neither ETag nor date, so that what came may be of another version": (
        [Answer(GOOD, etag=None, sends=HALF), Answer(GOOD, etag=None)],
        [None, None],
        AGAIN,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", RESUMED)
def test_a_download_that_broke_off_ends_with_the_right_bytes(
    tmp_path: Path, server: Server, kind: str, outcome: Outcome
) -> None:
    answers, ranges, result = RESUMED[kind]
    # Where the headers tell, no hash is needed.
    known_hash = md5(GOOD) if kind == UNFIT else None
    assert get(tmp_path, server.file("file", *answers, known_hash=known_hash)) == GOOD
    assert server.ranges("file") == ranges
    assert left(tmp_path) == ["raw/tiny/archive"]
    outcome(f"broken off halfway; then the server gives {kind}", result)


def test_a_download_that_falls_silent_is_asked_for_the_rest(
    tmp_path: Path, server: Server, outcome: Outcome
) -> None:
    silent = Answer(GOOD, sends=HALF, stalls=True)
    assert get(tmp_path, server.file("file", silent, Answer(GOOD), known_hash=md5(GOOD))) == GOOD
    assert server.ranges("file") == [None, HALFWAY]
    outcome("silent from halfway on; then the server gives the rest", ON)


def test_a_connection_that_gets_no_further_is_left_for_the_next(
    tmp_path: Path, server: Server, outcome: Outcome
) -> None:
    # It always breaks off at the same place, and does not know ranges.
    cut = server.file("cut", Answer(GOOD, sends=HALF, ranges=False), known_hash=md5(GOOD))
    reason = refusal(tmp_path, cut)
    assert reason == f"the connection closed early, after {HALF} of {SIZE} bytes"
    assert len(server.ranges("cut")) == 4
    assert left(tmp_path) == [
        "raw/.partial/tiny/cut/cut.partial",
        "raw/.partial/tiny/cut/cut.partial.json",
    ]
    assert get(tmp_path, cut, server.file("good", Answer(GOOD))) == GOOD
    assert left(tmp_path) == ["raw/tiny/archive"]
    outcome(
        "always broken off at the same place",
        f"the next mirror, and what came is removed: {reason}",
    )


def damaged(part: Path, note: Path) -> None:
    part.write_bytes(b"?" + part.read_bytes()[1:])


def too_long(part: Path, note: Path) -> None:
    part.write_bytes(OTHER + OTHER)


def whole(part: Path, note: Path) -> None:
    part.write_bytes(GOOD)


def torn_note(part: Path, note: Path) -> None:
    note.write_text(note.read_text()[:-20])


def no_note(part: Path, note: Path) -> None:
    note.unlink()


def note_of_another_place(part: Path, note: Path) -> None:
    note.write_text(json.dumps(json.loads(note.read_text()) | {"url": "http://example.org"}))


KEPT: dict[str, tuple[Callable[[Path, Path], None], list[str | None], str]] = {
    "whole, but not in its place": (whole, [], "taken without asking the server"),
    "damaged since": (damaged, [HALFWAY, None], "the hash tells: taken, from the start again"),
    "longer than the file": (too_long, [f"bytes={2 * SIZE}-", None], "taken, from the start again"),
    "with a torn note": (torn_note, [None], "taken, from the start again"),
    "without its note": (no_note, [None], "taken, from the start again"),
    "with the note of another place": (note_of_another_place, [None], "taken, from the start again"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KEPT)
def test_a_part_kept_from_before_is_checked(
    tmp_path: Path, server: Server, kind: str, outcome: Outcome
) -> None:
    change, ranges, result = KEPT[kind]
    refusal(tmp_path, server.file("file", CUT, Answer(b"", 503), known_hash=md5(GOOD)))
    folder = tmp_path / "raw" / ".partial" / "tiny" / "file"
    change(folder / "file.partial", folder / "file.partial.json")
    server.requests.clear()
    assert get(tmp_path, server.file("file", Answer(GOOD), known_hash=md5(GOOD))) == GOOD
    assert server.ranges("file") == ranges
    assert left(tmp_path) == ["raw/tiny/archive"]
    outcome(f"a part kept from before, {kind}", result)


def test_a_page_in_place_of_the_rest_does_not_cost_what_came(
    tmp_path: Path, server: Server, outcome: Outcome
) -> None:
    page = Answer(PAGE, headers={"Content-Type": "text/html"})
    refusal(tmp_path, server.file("file", CUT, page, known_hash=md5(GOOD)))
    assert get(tmp_path, server.file("file", Answer(GOOD), known_hash=md5(GOOD))) == GOOD
    assert server.ranges("file") == [None, HALFWAY, HALFWAY]
    outcome(
        "broken off halfway; then the server gives a web page",
        "the next mirror, or refused; what came is kept, and the next run goes on from it",
    )


def test_a_file_that_is_gone_halfway_leaves_nothing(
    tmp_path: Path, server: Server, outcome: Outcome
) -> None:
    reason = refusal(tmp_path, server.file("file", CUT, Answer(b"", 404)))
    assert left(tmp_path) == []
    outcome(
        "broken off halfway; then the server gives 404",
        f"the next mirror, and what came is removed: {reason}",
    )


def test_of_several_files_those_that_are_whole_are_kept(
    tmp_path: Path, server: Server, outcome: Outcome
) -> None:
    train = server.file("train.pkl", Answer(GOOD), known_hash=md5(GOOD))
    test = server.file("test.pkl", Answer(b"", 503), known_hash=md5(OTHER))
    downloads = Downloads((Mirror("several", (train, test)),))
    destination = tmp_path / "raw" / "tiny"
    with pytest.raises(UserError, match=r"several: test\.pkl: the server answered 503"):
        fetch(downloads, destination, pause_s=0)
    assert left(tmp_path) == ["raw/.partial/tiny/several/train.pkl"]
    server.file("test.pkl", Answer(OTHER))
    place = fetch(downloads, destination, pause_s=0)
    assert server.ranges("train.pkl") == [None]
    assert (place / "train.pkl").read_bytes() == GOOD
    assert (place / "test.pkl").read_bytes() == OTHER
    assert left(tmp_path) == ["raw/tiny/archive/test.pkl", "raw/tiny/archive/train.pkl"]
    outcome(
        "a mirror of several files gives only some of them",
        "the next mirror, or refused; whole ones are kept, none is in its place before all are whole",
    )


CHILD = """
import sys
from pathlib import Path
from pipeline.data import transfer
from pipeline.data.download import fetch
from pipeline.data.mirrors import Downloads, Mirror, RemoteFile
transfer.CHUNK_BYTES = 500
url, known_hash, folder = sys.argv[1:]
fetch(Downloads((Mirror("file", (RemoteFile("file", url, known_hash),)),)), Path(folder))
"""


def start(file: RemoteFile, folder: Path) -> subprocess.Popen[str]:
    """A process of its own that downloads ``file``."""
    arguments = [
        sys.executable,
        "-c",
        CHILD,
        file.url,
        str(file.known_hash),
        str(folder / "raw" / "tiny"),
    ]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came so far"
        time.sleep(0.01)


def test_a_killed_process_is_gone_on_from(tmp_path: Path, server: Server, outcome: Outcome) -> None:
    file = server.file("file", Answer(GOOD, sends=HALF, stalls=True), known_hash=md5(GOOD))
    part = tmp_path / "raw" / ".partial" / "tiny" / "file" / "file.partial"
    with start(file, tmp_path) as process:
        wait_for(lambda: part.exists() and part.stat().st_size == HALF)
        process.send_signal(signal.SIGKILL)
    assert left(tmp_path) == [f"raw/.partial/tiny/file/file.partial{end}" for end in ("", ".json")]
    assert get(tmp_path, server.file("file", Answer(GOOD), known_hash=md5(GOOD))) == GOOD
    assert server.ranges("file") == [None, HALFWAY]
    assert left(tmp_path) == ["raw/tiny/archive"]
    outcome(
        "killed in the middle (SIGKILL), started again", "goes on where it was; its lock is open"
    )


def test_of_two_processes_one_downloads_and_one_waits(
    tmp_path: Path, server: Server, outcome: Outcome
) -> None:
    file = server.file(
        "file", Answer(GOOD, sends=0, stalls=True), Answer(GOOD), known_hash=md5(GOOD)
    )
    with start(file, tmp_path) as first:
        wait_for(lambda: len(server.requests) == 1)
        with start(file, tmp_path) as second:
            assert second.stdout is not None
            said = second.stdout.readline()
            assert said == (
                f"downloading {tmp_path}/raw/tiny/archive: process {first.pid} on "
                f"{os.uname().nodename} is at it already: waiting for it\n"
            )
            server.release()
            assert first.wait(60) == second.wait(60) == 0
    assert len(server.requests) == 2  # both by the first: silence, then the file
    assert left(tmp_path) == ["raw/tiny/archive"]
    outcome(
        "two processes at once",
        "one downloads; the other says for whom it waits, and finds the file there",
    )


def test_progress_is_told_in_plain_lines(
    tmp_path: Path, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    body = os.urandom(1_000_000)
    file = server.file("file", Answer(body, sends=450_000), Answer(body), known_hash=md5(body))
    assert get(tmp_path, file) == body
    out, err = capfd.readouterr()
    tenths = re.findall(r"^file: (\d\.\d) of 1\.0 MB$", out, flags=re.MULTILINE)
    assert tenths == [f"{tenth / 10:.1f}" for tenth in range(1, 11)]
    assert err == ""
