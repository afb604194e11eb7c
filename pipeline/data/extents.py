"""A run of bytes in a file on disk, read as if it were a file of its own."""

import io
from pathlib import Path
from typing import IO, Any, NamedTuple


class Extent(NamedTuple):
    """Where the bytes lie; a plain string, since there may be a million of these."""

    path: str
    offset: int
    size: int

    def open(self) -> IO[bytes]:
        return io.BufferedReader(_Window(self))


class _Window(io.RawIOBase):
    def __init__(self, extent: Extent) -> None:
        self._extent, self._at = extent, 0
        self._file = Path(extent.path).open("rb", buffering=0)  # noqa: SIM115

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._extent.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        n = max(0, min(len(buffer), self._extent.size - self._at))
        self._file.seek(self._extent.offset + self._at)
        n = self._file.readinto(memoryview(buffer)[:n])
        self._at += n
        return n

    def close(self) -> None:
        self._file.close()
        super().close()
