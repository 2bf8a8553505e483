"""Virtual time: an event loop whose clock jumps to the next timer when nothing is ready to run.

A handler that sleeps for an hour has slept as soon as nobody else has anything to do. While the loop runs, ``time.time``,
``time.time_ns`` and ``time.monotonic`` answer with its clock to whoever runs in it, so that timers, leases and deadlines agree;
``datetime.now`` and threads keep the real clock. Time stands still while a thread of the loop's executor works, and passes at
its own pace while a socket is open. For a bus in memory.
"""

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import wraps
from threading import Lock
from typing import Any, ParamSpec, TypeVar
from weakref import WeakSet

P = ParamSpec("P")
T = TypeVar("T")

RESOLUTION_S = 1e-6
"""Timers closer together than this go off together: far from 0 the clock is no finer."""
TURNS_MAX = 50_000
"""Turns of the event loop at one moment of virtual time; more are taken for a loop without an end."""
THREAD_AGAIN_S = 0.002
"""How long threads are waited for that were waited for in vain just before, where patience has an end."""
STALL_REAL_S = 1.0
"""How long the loop waits, by the real clock, for a thread that it does not know of before it says that nobody can go on."""


class Stalled(RuntimeError):
    """Every task waits, and there is no timer, thread or socket that could wake one."""

    def __init__(self) -> None:
        super().__init__(
            "every task waits for another one and no timer is set: in real time this would hang; "
            "look for a reply that nobody sends"
        )


class EndlessLoop(RuntimeError):
    """Somebody is always ready to run, so that no time passes."""

    def __init__(self) -> None:
        super().__init__(
            f"the application goes round in circles: {TURNS_MAX:,} turns of the event loop and no time has passed"
        )


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that never sleeps. ``time()`` begins at 0; its wall clock begins when the loop is made."""

    def __init__(self, *, thread_patience_s: float | None = None) -> None:
        """``thread_patience_s``: real time that threads at work are waited for before the clock goes on without them, for
        threads that themselves wait for the loop; by default until they have ended.
        """
        self._jumping = _Jumping(thread_patience_s)
        super().__init__(self._jumping)
        self._began_ns = time.time_ns()
        self._clock_resolution = RESOLUTION_S

    def time(self) -> float:
        """Seconds since the loop was made, by its own clock."""
        return self._jumping.now_s

    def wall_ns(self) -> int:
        """Nanoseconds since 1970 by its own clock."""
        return self._began_ns + round(self._jumping.now_s * 1e9)

    def run_in_executor(self, executor: Executor | None, func: Callable[..., T], *args: Any) -> "asyncio.Future[T]":  # type: ignore[override]
        """Runs a function in a thread; the clock stands still until it is done."""
        self._jumping.threads += 1
        done = super().run_in_executor(executor, func, *args)
        done.add_done_callback(self._thread_done)
        return done

    async def shutdown_default_executor(self, *arguments: Any) -> None:
        """Waits for the threads, as every loop does."""
        self._jumping.threads += 1
        try:
            await super().shutdown_default_executor(*arguments)
        finally:
            self._jumping.threads -= 1

    def run_forever(self) -> None:
        """Runs until stopped, on its own clock."""
        with _clock.virtual(self):
            super().run_forever()

    def _thread_done(self, done: "asyncio.Future[Any]") -> None:
        self._jumping.threads -= 1


class _Jumping(selectors.BaseSelector):
    """A selector that does not wait for time to pass: it lets it have passed."""

    def __init__(self, thread_patience_s: float | None) -> None:
        self.now_s = 0.0
        self._turns = 0
        self.threads = 0
        """Threads that work for the loop."""
        self._patience_s = thread_patience_s
        self._in_vain = 0
        """So many threads were waited for last, and none came back."""
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if timeout is not None and timeout <= 0:
            self._turns += 1
            if self._turns > TURNS_MAX:
                self._turns = 0
                raise EndlessLoop
            return ready
        self._turns = 0
        if ready:
            return ready
        if self.threads:
            return self._wait_for_threads(timeout)
        if len(self._real.get_map()) > 1:  # beside the loop's own pipe
            return self._real_time(timeout)
        if timeout is None:
            ready = self._real.select(STALL_REAL_S)
            if not ready:
                raise Stalled
            return ready
        self.now_s += timeout
        return ready

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Any:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()

    def _wait_for_threads(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        if self._patience_s is None or timeout is None:
            return self._real.select(None)
        ready = self._real.select(THREAD_AGAIN_S if self.threads == self._in_vain else self._patience_s)
        self._in_vain = 0 if ready else self.threads
        if not ready:
            self.now_s += timeout
        return ready

    def _real_time(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        began_s = _clock.monotonic()
        ready = self._real.select(timeout)
        passed_s = _clock.monotonic() - began_s
        self.now_s += passed_s if timeout is None or ready else max(passed_s, timeout)
        return ready


class _Clock:
    """The process's clock functions, replaced while any virtual loop runs; a loop that is not virtual notices nothing."""

    def __init__(self) -> None:
        self.monotonic = time.monotonic
        self._time = time.time
        self._time_ns = time.time_ns
        self._running: WeakSet[VirtualLoop] = WeakSet()
        self._lock = Lock()

    @contextmanager
    def virtual(self, loop: VirtualLoop) -> Generator[None]:
        """Answers whoever runs in this loop with its clock, while the block runs."""
        with self._lock:
            if not self._running:
                self._replace()
            self._running.add(loop)
        try:
            yield
        finally:
            with self._lock:
                self._running.discard(loop)
                if not self._running:
                    time.monotonic, time.time, time.time_ns = self.monotonic, self._time, self._time_ns

    def _replace(self) -> None:
        real_monotonic, real_time, real_ns = self.monotonic, self._time, self._time_ns = (
            time.monotonic,
            time.time,
            time.time_ns,
        )
        running = asyncio._get_running_loop  # pyright: ignore[reportPrivateUsage]  # the public one raises

        def monotonic() -> float:
            loop = running()
            return loop.time() if isinstance(loop, VirtualLoop) else real_monotonic()

        def wall() -> float:
            loop = running()
            return loop.wall_ns() / 1e9 if isinstance(loop, VirtualLoop) else real_time()

        def wall_ns() -> int:
            loop = running()
            return loop.wall_ns() if isinstance(loop, VirtualLoop) else real_ns()

        time.monotonic, time.time, time.time_ns = monotonic, wall, wall_ns


_clock = _Clock()


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """What ``asyncio.run`` returns, in virtual time. Raises ``Stalled`` where ``asyncio.run`` would hang for ever."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def virtual_time(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Decorates an async test: it runs on a loop of its own in virtual time, with or without a plugin for async tests.

    Not for a test that is marked ``asyncio`` or takes async fixtures, which belong to another loop.
    """

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        return run_virtual(test(*args, **kwargs))

    return run
