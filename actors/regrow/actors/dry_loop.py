"""An event loop for replays that reach nothing outside: no time passes in it, and it says when nobody can go on any more.

Its clock jumps to the next timer when nothing is ready to run. A thread that a handler started is waited for.
"""

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

T = TypeVar("T")

TURNS_MAX = 50_000
"""Turns of the loop at one moment of its time, and jumps of its clock: who needs more goes round in circles."""
RESOLUTION_S = 1e-6
"""Timers closer together than this go off together."""

Key = tuple[selectors.SelectorKey, int]


class Quiet(Exception):
    """Whatever still runs waits for something that never comes."""


class DryLoop(asyncio.SelectorEventLoop):
    """An event loop that never sleeps. ``Quiet`` comes out of whatever runs it."""

    def __init__(self) -> None:
        self._still = _Still()
        super().__init__(self._still)
        self._clock_resolution = RESOLUTION_S

    def time(self) -> float:
        """Seconds since the loop was made, by its own clock."""
        return self._still.now_s

    def begin(self) -> None:
        """Another replay begins: what the one before has used up is forgotten."""
        self._still.turns = self._still.jumps = 0

    def run_in_executor(self, executor: Executor | None, func: Callable[..., T], *args: Any) -> "asyncio.Future[T]":  # type: ignore[override]
        """Runs a function in a thread; the clock stands still until it is done."""
        self._still.threads += 1
        done = super().run_in_executor(executor, func, *args)
        done.add_done_callback(self._thread_done)
        return done

    def _thread_done(self, done: "asyncio.Future[Any]") -> None:
        self._still.threads -= 1


class _Still(selectors.DefaultSelector):
    """A selector that lets time have passed in place of waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.threads = self.turns = self.jumps = 0

    def select(self, timeout: float | None = None) -> list[Key]:
        if timeout is not None and timeout <= 0:
            self.turns += 1
            if self.turns > TURNS_MAX:
                raise Quiet
            return super().select(0)
        self.turns = 0
        ready = super().select(None if self.threads else 0)
        if ready:
            return ready
        self.jumps += 1
        if timeout is None or self.jumps > TURNS_MAX:
            raise Quiet
        self.now_s += timeout
        return []
