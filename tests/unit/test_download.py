"""Downloads against a server on this machine that misbehaves in the ways real ones do."""

import hashlib
import io
import socket
import tarfile
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline.data.download import Mirror, RemoteFile, fetch, link, of_dataset
from pipeline.errors import UserError


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("cifar100/readme.txt", "x" * 3000)
    return buffer.getvalue()


def tar_archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        file.addfile(tarfile.TarInfo("cifar-100-python/meta"))
    return buffer.getvalue()


GOOD = archive()
MD5 = f"md5:{hashlib.md5(GOOD).hexdigest()}"
SHA256 = f"sha256:{hashlib.sha256(GOOD).hexdigest()}"
PAGE = b"\n<!DOCTYPE html><html>Quota exceeded</html>"


@dataclass
class Answer:
    body: bytes
    status: int = 200
    length: int | None = None  # promised; None: the body's own
    failures: int = 0  # how many times it answers 503 first


@dataclass
class Server:
    url: str
    answers: dict[str, Answer] = field(default_factory=dict)
    hits: Counter[str] = field(default_factory=Counter)

    def mirror(
        self, name: str, answer: Answer, known_hash: str | None = None, size: int | None = None
    ) -> Mirror:
        self.answers[f"/{name}"] = answer
        return Mirror(f"{self.url}/{name}", known_hash, size)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.hits[self.path] += 1
            answer = state.answers.get(self.path, Answer(b"nothing here", 404))
            if state.hits[self.path] <= answer.failures:
                answer = Answer(b"", 503)
            self.send_response(answer.status)
            promised = len(answer.body) if answer.length is None else answer.length
            self.send_header("Content-Length", str(promised))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        state = Server(f"http://127.0.0.1:{http.server_port}")
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield state
        http.shutdown()
        thread.join()


def get(folder: Path, *mirrors: Mirror) -> Path:
    [path] = fetch([RemoteFile("archive", mirrors)], folder, pause_s=0)
    return path


def refusal(folder: Path, *mirrors: Mirror) -> str:
    with pytest.raises(UserError) as caught:
        get(folder, *mirrors)
    return str(caught.value)


@pytest.mark.parametrize("known_hash", [None, MD5, SHA256])
def test_a_good_file_is_put_in_place(
    tmp_path: Path, server: Server, known_hash: str | None
) -> None:
    mirror = server.mirror("a.zip", Answer(GOOD), known_hash, len(GOOD))
    path = get(tmp_path / "raw" / "cifar_fs", mirror)
    assert path == tmp_path / "raw" / "cifar_fs" / "archive"
    assert path.read_bytes() == GOOD
    assert list(path.parent.iterdir()) == [path]


def test_a_tar_passes_where_no_hash_is_known(tmp_path: Path, server: Server) -> None:
    body = tar_archive()
    assert get(tmp_path, server.mirror("a", Answer(body))).read_bytes() == body


def test_all_files_are_fetched_in_order(tmp_path: Path, server: Server) -> None:
    mirror = server.mirror("a.zip", Answer(GOOD))
    files = [RemoteFile(name, (mirror,)) for name in ("train", "test")]
    assert fetch(files, tmp_path) == [tmp_path / "train", tmp_path / "test"]


BAD = {
    "absent": (Answer(b"gone", 404), None, None, "the server answered 404 Not Found"),
    "forbidden": (Answer(PAGE, 403), None, None, "the server answered 403 Forbidden"),
    "wrong hash": (Answer(GOOD + b"x"), MD5, None, f"its md5 is .*, not {MD5[4:]}"),
    "wrong size": (Answer(GOOD), None, 9, f"{len(GOOD)} bytes, not 9"),
    "page": (Answer(PAGE), MD5, None, "an HTML page, not the file"),
    "page of unknown hash": (Answer(PAGE), None, None, "an HTML page, not the file"),
    "text": (Answer(b"quota exceeded"), None, None, "neither a zip nor a tar archive"),
    "empty": (Answer(b""), None, None, "neither a zip nor a tar archive"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_mirror_is_left_for_the_next(tmp_path: Path, server: Server, kind: str) -> None:
    answer, known_hash, size, _ = BAD[kind]
    bad = server.mirror("bad", answer, known_hash, size)
    good = server.mirror("good", Answer(GOOD), MD5)
    assert get(tmp_path, bad, good).read_bytes() == GOOD
    assert server.hits == {"/bad": 1, "/good": 1}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_mirror_alone_is_refused_with_its_reason(
    tmp_path: Path, server: Server, kind: str
) -> None:
    answer, known_hash, size, reason = BAD[kind]
    mirror = server.mirror("bad", answer, known_hash, size)
    with pytest.raises(UserError, match=rf"/bad \({known_hash or 'unknown hash'}, .*: {reason}"):
        get(tmp_path, mirror)
    assert list(tmp_path.iterdir()) == []


def test_the_last_word_names_every_mirror_and_the_place_by_hand(
    tmp_path: Path, server: Server
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = Mirror(f"http://127.0.0.1:{unused.getsockname()[1]}/a.zip", MD5, 169)
        gone = Mirror(f"{server.url}/gone.zip")
        message = refusal(tmp_path, dead, gone)
    first, second = message.splitlines()[1:3]
    assert f"{dead.url} ({MD5}, 169 bytes): " in first
    assert "Connection refused" in first
    assert f"{gone.url} (unknown hash, unknown size): the server answered 404 Not Found" in second
    assert f"put it at {tmp_path / 'archive'}" in message
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_recovers_is_asked_again(tmp_path: Path, server: Server) -> None:
    mirror = server.mirror("busy", Answer(GOOD, failures=2), MD5)
    assert get(tmp_path, mirror).read_bytes() == GOOD
    assert server.hits["/busy"] == 3


def test_a_connection_that_breaks_off_is_tried_again_then_left(
    tmp_path: Path, server: Server
) -> None:
    cut = server.mirror("cut", Answer(GOOD[:-9], length=len(GOOD)))
    assert get(tmp_path, cut, server.mirror("good", Answer(GOOD))).read_bytes() == GOOD
    assert server.hits == {"/cut": 3, "/good": 1}


def test_a_file_in_place_is_kept_without_asking(tmp_path: Path, server: Server) -> None:
    first = server.mirror("a", Answer(GOOD), "md5:" + 32 * "0")
    second = server.mirror("b", Answer(GOOD), SHA256)
    (tmp_path / "archive").write_bytes(GOOD)
    assert get(tmp_path, first, second).read_bytes() == GOOD
    assert not server.hits


def test_a_foreign_file_in_place_is_refused_and_left_alone(tmp_path: Path, server: Server) -> None:
    mirror = server.mirror("a", Answer(GOOD), MD5)
    (tmp_path / "archive").write_bytes(GOOD[:-1])
    message = refusal(tmp_path, mirror)
    assert f"{tmp_path / 'archive'} is not a file that belongs there" in message
    assert f"{mirror.url} ({MD5}, unknown size): its md5 is" in message
    assert (tmp_path / "archive").read_bytes() == GOOD[:-1]
    assert not server.hits


def test_a_data_set_without_a_download_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"data set omniglot, only for cifar_fs"):
        of_dataset("omniglot")


def test_cifar_fs_has_a_mirror_that_can_be_checked() -> None:
    [file] = of_dataset("cifar_fs")
    assert all(mirror.url.startswith("https://") for mirror in file.mirrors)
    assert file.mirrors[0].known_hash == "md5:eb9058c3a382ffc7106e4002c42a8d85"


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
