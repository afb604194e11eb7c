"""An HTTP server on this machine that misbehaves in the ways real ones do, on request."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipeline.data.mirrors import RemoteFile


@dataclass(frozen=True)
class Answer:
    """How the server answers one request."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    etag: str | None = '"1"'
    sends: int | None = None  # so many bytes of what it promised, then it hangs up
    stalls: bool = False  # then it is silent instead
    promises: bool = True  # says how many bytes will come
    ranges: bool = True  # goes on where it is asked to
    checks: bool = True  # only if the file is still the one asked for
    skips: int = 0  # so many bytes too far on
    garbage: bytes | None = None  # in place of any HTTP


@dataclass(frozen=True)
class Request:
    path: str
    range: str | None


@dataclass
class Server:
    url: str
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def file(
        self, name: str, *answers: Answer, known_hash: str | None = None, size: int | None = None
    ) -> RemoteFile:
        """A file here: its answers are given in turn, the last one again and again."""
        self.answers[f"/{name}"] = list(answers)
        return RemoteFile(name, f"{self.url}/{name}", known_hash, size)

    def ranges(self, name: str) -> list[str | None]:
        """From where on each request wanted the file."""
        return [request.range for request in self.requests if request.path == f"/{name}"]

    def release(self) -> None:
        """Let every silent answer end."""
        self.released.set()

    def _next(self, path: str) -> Answer:
        answers = self.answers.get(path, [Answer(b"nothing here", 404)])
        return answers.pop(0) if len(answers) > 1 else answers[0]


class _Handler(BaseHTTPRequestHandler):
    state: Server

    def do_GET(self) -> None:
        self.state.requests.append(Request(self.path, self.headers.get("Range")))
        answer = self.state._next(self.path)
        if answer.garbage is not None:
            self.wfile.write(answer.garbage)
            return
        start = self._start(answer)
        status, payload = answer.status, answer.body[start or 0 :]
        if start is not None:
            status, start = 206, start + answer.skips
            payload = answer.body[start:]
        self.send_response(status)
        if answer.etag is not None:
            self.send_header("ETag", answer.etag)
        if answer.promises:
            self.send_header("Content-Length", str(len(payload)))
        if start is not None:
            self.send_header(
                "Content-Range", f"bytes {start}-{len(answer.body) - 1}/{len(answer.body)}"
            )
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(payload[: answer.sends])
        self.wfile.flush()
        if answer.stalls:
            self.state.released.wait()

    def _start(self, answer: Answer) -> int | None:
        """The place from which on the rest is wanted and given."""
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if found is None or not answer.ranges or answer.status != 200:
            return None
        same = self.headers.get("If-Range") in (answer.etag, answer.headers.get("Last-Modified"))
        return int(found[1]) if same or not answer.checks else None

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Server]:
    """A server of its own, until the end of the block."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as http:
        state = Server(f"http://127.0.0.1:{http.server_port}")
        http.RequestHandlerClass = type("Handler", (_Handler,), {"state": state})
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield state
        finally:
            state.release()
            http.shutdown()
            thread.join()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The server, alone with the test: no proxy stands between them."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as state:
        yield state
