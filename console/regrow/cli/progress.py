"""Progress for the person who watches: a bar on a terminal, a plain line now and then everywhere else."""

import importlib.util
import sys
import time
from types import TracebackType
from typing import Any, Self

from regrow.cli.say import say

LINE_EVERY_S = 2.0


class Progress:
    """Shows how far something is, on standard error. The bar needs the extra ``cli``; lines always work."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._total = 0
        self._said_at = 0.0
        self._last = -1
        self._bar: Any = _bar() if sys.stderr.isatty() else None
        self._task: Any = None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(self._what, total=None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, done: int, total: int) -> None:
        """Says how many there will be, and how many of them are done already."""
        self._total = total
        if self._bar is not None:
            self._bar.update(self._task, total=total)
        self.show(done)

    def show(self, done: int) -> None:
        """Says that so many are done."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done)
            return
        now = time.monotonic()
        finished = done >= self._total
        if done != self._last and (finished or now - self._said_at >= LINE_EVERY_S):
            say(f"{self._what}: {done:,} of {self._total:,}")
            self._said_at, self._last = now, done


def leave_torn_bar() -> None:
    """Gives the terminal back its cursor, on a line of its own, after the process that drew a bar was killed."""
    if sys.stderr.isatty():
        say("\x1b[?25h")


def _bar() -> Any:
    if importlib.util.find_spec("rich") is None:
        return None
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Bar(*columns, console=Console(stderr=True))
