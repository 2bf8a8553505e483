"""An event loop whose clock jumps to the next timer as soon as nothing else is to do, so that no program waits for real."""

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

THREADS = 256
THREAD_PATIENCE_S = 0.02
"""Real time that threads at work are waited for before the clock goes on without them: they may wait for somebody dead."""
THREAD_AGAIN_S = 0.002
"""The same, where that was in vain."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Time starts at 0 and stands still while anything runs, threads included."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self.at_work = 0
        """Threads."""
        super().__init__(_Jumping(self))
        self.set_default_executor(ThreadPoolExecutor(THREADS))
        self.set_exception_handler(lambda loop, context: None)  # tasks that a program left may fail unseen

    def time(self) -> float:
        return self._now_s

    def jump(self, seconds: float) -> None:
        self._now_s += seconds

    def run_in_executor(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> "asyncio.Future[Any]":
        done = super().run_in_executor(executor, func, *args)
        self.at_work += 1
        done.add_done_callback(self._came_back)
        return done

    def _came_back(self, done: "asyncio.Future[Any]") -> None:
        self.at_work -= 1


class _Jumping(selectors.DefaultSelector):
    """Instead of waiting for a timer, moves the loop's clock to it."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop
        self._in_vain = 0
        """So many threads were waited for last, and none came back."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0 and not self._loop.at_work:
            return []  # nobody but a thread could have woken the loop
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is None:
            return super().select(None)
        if self._loop.at_work:
            ready = super().select(THREAD_AGAIN_S if self._loop.at_work == self._in_vain else THREAD_PATIENCE_S)
            self._in_vain = 0 if ready else self._loop.at_work
        if not ready:
            self._loop.jump(timeout)
        return ready
