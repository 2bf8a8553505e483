"""An event loop whose clock jumps to the next timer as soon as nothing else is to do, so that no program waits for real."""

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

THREADS = 256
THREAD_PATIENCE_S = 0.02
"""Real time that a thread at work is waited for before the clock goes on without it: it may wait for somebody dead."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Time starts at 0 and stands still while anything runs, threads included."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._at_work = 0
        super().__init__(_Jumping(self))
        self.set_default_executor(ThreadPoolExecutor(THREADS))
        self.set_exception_handler(lambda loop, context: None)  # tasks that a program left may fail unseen

    def time(self) -> float:
        return self._now_s

    def jump(self, seconds: float) -> None:
        self._now_s += seconds

    @property
    def waits_for_threads(self) -> bool:
        return self._at_work > 0

    def run_in_executor(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> "asyncio.Future[Any]":
        done = super().run_in_executor(executor, func, *args)
        self._at_work += 1
        done.add_done_callback(self._came_back)
        return done

    def _came_back(self, done: "asyncio.Future[Any]") -> None:
        self._at_work -= 1


class _Jumping(selectors.DefaultSelector):
    """Instead of waiting for a timer, moves the loop's clock to it."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0 and not self._loop.waits_for_threads:
            return []  # nobody but a thread could have woken the loop
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is None:
            return super().select(None)
        if self._loop.waits_for_threads:
            ready = super().select(THREAD_PATIENCE_S)
        if not ready:
            self._loop.jump(timeout)
        return ready
