"""Progress on the screen: a bar for people, plain lines when nobody watches."""

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Steps:
    """Counts the steps of one job.

    >>> with Steps("train", total=100, done=0) as steps:
    ...     steps.advance()
    ...     steps.note("loss 1.2")
    """

    def __init__(self, title: str, total: int, done: int = 0) -> None:
        self.title = title
        self.total = total
        self.done = done
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task(title, total=total, completed=done, note="")

    def __enter__(self) -> "Steps":
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

    def advance(self) -> None:
        self.done += 1
        if self._bar:
            self._bar.update(self._task, completed=self.done)

    def note(self, text: str) -> None:
        """Say something about the step just done."""
        if self._bar:
            self._bar.update(self._task, note=text)
        else:
            print(f"{self.title} {self.done}/{self.total}: {text}", flush=True)
