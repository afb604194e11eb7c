"""Progress on the screen: a bar for people, plain lines when nobody watches."""

import os
import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

# Plain lines of a transfer whose end is not known: one for so many bytes.
LINE_BYTES = 50_000_000


def say(text: str) -> None:
    """Print a line; a reader that is gone, or a log on a full disk, ends no work."""
    try:
        print(text, flush=True)
    except OSError:
        silence()


def silence() -> None:
    """Let nothing more come out, not even what is still to be written at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


class _Counter:
    """Counts up to ``total``, where that is known, beside a bar if there is a terminal."""

    def __init__(self, title: str, total: int | None, done: int, *columns: ProgressColumn) -> None:
        self.title = title
        self.total = total
        self.done = done
        self._bar: Progress | None = None
        # None where a process was started without it.
        if sys.stderr is not None and sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                *columns,
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task(title, total=total, completed=done, note="")

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()

    def _advance(self, count: int) -> None:
        self.done += count
        if self._bar:
            self._bar.update(self._task, completed=self.done)


class Steps(_Counter):
    """Counts the steps of one job.

    >>> with Steps("train", total=100, done=0) as steps:
    ...     steps.advance()
    ...     steps.note("loss 1.2")
    """

    def __init__(self, title: str, total: int, done: int = 0) -> None:
        super().__init__(title, total, done, MofNCompleteColumn())

    def advance(self) -> None:
        self._advance(1)

    def note(self, text: str) -> None:
        """Say something about the step just done."""
        if self._bar:
            self._bar.update(self._task, note=text)
        else:
            say(f"{self.title} {self.done}/{self.total}: {text}")


class Transfer(_Counter):
    """Counts the bytes of one file; as plain lines, a tenth of it at a time.

    >>> with Transfer("cifar100.zip", total=1000) as transfer:
    ...     transfer.advance(100)
    """

    def __init__(self, title: str, total: int | None, done: int = 0) -> None:
        super().__init__(title, total, done, DownloadColumn(), TransferSpeedColumn())
        self._line_bytes = LINE_BYTES if total is None else max(1, total // 10)

    def advance(self, count: int) -> None:
        before = self.done
        self._advance(count)
        if not self._bar and self.done // self._line_bytes > before // self._line_bytes:
            end = "" if self.total is None else f" of {self.total / 1e6:.1f}"
            say(f"{self.title}: {self.done / 1e6:.1f}{end} MB")
