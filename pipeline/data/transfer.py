"""One file over HTTP: it goes on where it broke off, and counts only when it is checked.

What has come so far lies beside the file's place, as ``<name>.partial``, with a note of which
version of the file it is of (the server's ETag, or else its date). It goes on only if the server
still has that version (RFC 9110, sections 13.1.5 and 14).
"""

import http.client
import json
import re
import time
from contextlib import ExitStack
from pathlib import Path

import pooch
from requests import Response
from requests.exceptions import HTTPError, RequestException, TooManyRedirects

from pipeline.data.inspection import RefusedError, check_room, find_fault, name_page, printable
from pipeline.data.mirrors import RemoteFile
from pipeline.errors import UserError
from pipeline.files import disk_faults, move, write_json
from pipeline.progress import Transfer

ATTEMPTS = 3  # in a row that bring nothing new
NEWS_BYTES = 1 << 20  # what counts as something new
TIMEOUT_S = 30.0  # without a byte
CHUNK_BYTES = 1 << 16  # what a break loses at most


def download(file: RemoteFile, path: Path, pause_s: float = 1.0) -> None:
    """Bring ``file`` to ``path``, whole and checked.

    A server that fails is asked again after ``pause_s`` seconds, then after twice as long.
    Each attempt goes on where the last one, of this process or an earlier one, broke off.

    Raises
    ------
    RefusedError
        If this mirror does not give it. A part that can be gone on from is kept.
    UserError
        If the disk is full or cannot be written. Nothing is kept then, to make room.
    """
    part = _Part(file, path)
    try:
        _try_on(part, pause_s)
        part.take_place(path)
    except RefusedError:
        part.tidy()
        raise
    except (OSError, UserError):
        needs = file.size or part.total
        part.discard()
        with disk_faults(path, needs):
            raise


class _ChangedError(RequestException):
    """The server has another version of the file than the part is of."""


class _CutError(RequestException):
    """The server stopped before the end that it had promised."""


def _try_on(part: "_Part", pause_s: float) -> None:
    """Ask until the part is whole and checked, or there is no more hope; raises RefusedError."""
    furthest, idle = part.size, 0
    while True:
        resumed = part.size > 0
        try:
            part.receive()
            fault = find_fault(part.path, part.file)
            if fault is None:
                return
            # What was kept from before may be what is wrong: then once more, from the start.
            part.discard()
            hopeless = not resumed
        except (RequestException, ValueError) as error:  # requests lets some nonsense through
            fault = _reason(error)
            if part.size:
                fault += f", after {part.size} of {part.total or 'unknown'} bytes"
            if _status(error) in {404, 410}:
                part.discard()
            hopeless = not _may_pass(error)
        idle = 0 if part.size >= furthest + NEWS_BYTES else idle + 1
        furthest = max(furthest, part.size)
        if hopeless or idle == ATTEMPTS:
            raise RefusedError(fault)
        time.sleep(pause_s * 2 ** max(0, idle - 1))


class _Part:
    """What has come of a file so far; pooch writes to it as to a file."""

    def __init__(self, file: RemoteFile, path: Path) -> None:
        self.file = file
        self.path = path.with_name(f"{path.name}.partial")
        self.size = self.path.stat().st_size if self.path.exists() else 0
        self.version: str | None = None
        self.total: int | None = None
        self._note = path.with_name(f"{path.name}.partial.json")
        self._read_note()
        if self.version is None:
            self.discard()

    def receive(self) -> None:
        """Go on to the end; raises RequestException where the server or the connection fails."""
        if self.size and self.size == self.total:
            return
        # An answer that is packed for the way could not be gone on from.
        headers = {"User-Agent": "unraveling", "Accept-Encoding": "identity"}
        if self.size and self.version:
            headers |= {"Range": f"bytes={self.size}-", "If-Range": self.version}
        with ExitStack() as self._open:
            self._content = self._open.enter_context(self.path.open("ab"))
            get = pooch.HTTPDownloader(
                chunk_size=CHUNK_BYTES,
                timeout=TIMEOUT_S,
                headers=headers,
                hooks={"response": self._begin},
            )
            get(self.file.url, self, None)
        if self.total is not None and self.size < self.total:
            raise _CutError("the connection closed early")

    def write(self, chunk: bytes) -> None:
        self._content.write(chunk)
        self.size += len(chunk)
        self._shown.advance(len(chunk))
        limit = self.file.size or self.total
        if limit is not None and self.size > limit:
            self.discard()
            raise RefusedError(f"more than {limit} bytes")

    def flush(self) -> None:
        self._content.flush()

    def take_place(self, path: Path) -> None:
        move(self.path, path)
        self._note.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Keep only what can be gone on from."""
        if not (self.size and self.version):
            self.discard()

    def discard(self) -> None:
        self.size, self.version, self.total = 0, None, None
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def _begin(self, response: Response, **_: object) -> None:
        """Learn from the headers where the server begins, before anything is written."""
        if response.is_redirect or 400 <= response.status_code < 600:
            return  # the one is followed, the other raised
        self._open.callback(response.close)
        if response.status_code not in {200, 206}:
            raise RefusedError(_answered(response))
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise RefusedError(name_page(next(response.iter_content(4096), b"")))
        # Some servers call a .gz an encoded tar; it is wanted as it lies there.
        response.raw.headers.pop("Content-Encoding", None)
        start, total = _extent(response)
        if self.file.size is not None and total is not None and total > self.file.size:
            raise RefusedError(f"{total} bytes, not {self.file.size}")
        check_room(self.path.parent, (total or self.file.size or 0) - self.size)
        if start == 0:
            self._content.truncate(0)
            self.size, self.version, self.total = 0, _version(response), total
            self._write_note()
        elif (start, _version(response), total) != (self.size, self.version, self.total):
            self.discard()
            raise _ChangedError("the file there has changed")
        self._shown = self._open.enter_context(Transfer(self.file.name, total, self.size))

    def _read_note(self) -> None:
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            if note["url"] == self.file.url:
                self.version, self.total = note["version"], note["total"]
        except (OSError, ValueError, KeyError, TypeError):
            pass  # a part of unknown origin is discarded

    def _write_note(self) -> None:
        write_json(self._note, {"url": self.file.url, "version": self.version, "total": self.total})


def _version(response: Response) -> str | None:
    """What tells this version of the file from others, byte for byte; a weak ETag does not."""
    etag = response.headers.get("ETag", "W/")
    date: str | None = response.headers.get("Last-Modified")
    return date if etag.startswith("W/") else str(etag)


def _extent(response: Response) -> tuple[int | None, int | None]:
    """The place of the answer's first byte in the file, and the file's size, where known."""
    if response.status_code == 200:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if found is None:
        return None, None
    return int(found[1]), None if found[2] == "*" else int(found[2])


def _status(error: Exception) -> int | None:
    response = getattr(error, "response", None)
    return None if response is None else int(response.status_code)


def _may_pass(error: Exception) -> bool:
    """Whether asking again may help: not where the server knows the file to be out of reach."""
    status = _status(error)
    if isinstance(error, TooManyRedirects):
        return False
    return status is None or status in {408, 416, 429} or status >= 500


def _answered(response: Response) -> str:
    return printable(f"the server answered {response.status_code} {response.reason}")


def _reason(error: BaseException) -> str:
    if isinstance(error, HTTPError) and error.response is not None:
        return _answered(error.response)
    # What requests says in its own words is long; what it began with is the reason.
    while cause := error.__cause__ or error.__context__:
        error = cause
    if isinstance(error, TimeoutError):
        return f"nothing came for {TIMEOUT_S:g} seconds"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection closed early"
    return printable(getattr(error, "strerror", None) or str(error)).rstrip(".")
