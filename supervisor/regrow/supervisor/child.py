"""One incarnation of a child, from launch to exit.

A child runs in one task of its own. Everything else here is synchronous and runs in the event loop; who waits
does so on a future of his own, so a cancelled waiter takes nothing with it.
"""

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Final

import structlog

from regrow.supervisor.deadlines import Deadlines
from regrow.supervisor.errors import Died, StartFailed, StartTimedOut
from regrow.supervisor.exits import Crashed, Exit, Exited, Hung, Normal, Shutdown, error_of
from regrow.supervisor.info import Insight
from regrow.supervisor.mortal import Trap
from regrow.supervisor.spec import ChildSpec, ShutdownTime, Start

_log: Final = structlog.get_logger(__name__)
_FINISHED: Final = (Normal(), Exited(0))


class Child:
    """A running child: wait until it has started, stop it, read its exit; a `Mortal`.

    A task cannot be killed. A child that is still there when its shutdown time is over is cancelled once more
    and abandoned: it is reported as `Hung`, an error line names it, and it may go on and hold what it holds.
    """

    __slots__ = (
        "_asked",
        "_deadlines",
        "_on_exit",
        "_task",
        "_timer",
        "_waiters",
        "_watchers",
        "exit",
        "insight",
        "name",
        "place",
        "ready_at",
        "spec",
        "trap",
    )

    def __init__(
        self,
        spec: ChildSpec,
        name: str,
        on_exit: Callable[[Exit], None],
        deadlines: Deadlines,
        place: object = None,
    ) -> None:
        self.spec = spec
        self.name = name
        self.place = place  # what it has in common with the incarnations before and after it
        self.exit: Exit | None = None
        self.ready_at: float | None = None  # the loop's time
        self.insight: Insight | None = None
        self.trap: Trap | None = None
        self._on_exit = on_exit
        self._deadlines = deadlines
        self._asked: Exit | None = None  # once asked to go: how it ended if it now goes without an error
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        # Most children are neither waited for nor watched.
        self._waiters: list[asyncio.Future[None]] | None = None
        self._watchers: dict[Callable[[Exit], None], None] | None = None

    def launch(self, cause: Exit | None, restarts: int, now: float, context: Context) -> None:
        """Start the task in a copy of `context`; `on_exit` is called once, when it has ended or was abandoned."""
        start = Start(cause, restarts, self._ready, self, self._offer)
        # The deadline first: an eager task may be ready before create_task returns.
        self._deadlines.put(self, now + self.spec.start_timeout_s)
        loop = self._deadlines.loop
        self._task = loop.create_task(self._run(start), name=f"child {self.name}", context=context.copy())
        self._task.add_done_callback(self._ended, context=context)

    @property
    def has_failed_to_start(self) -> bool:
        """It died before it was ready; to finish before that is no failure."""
        return self.exit is not None and self.ready_at is None and self.exit not in _FINISHED

    async def wait_started(self) -> None:
        """Return once it is ready or has finished; raises `StartFailed` when it died before that."""
        while self.ready_at is None and self.exit is None:
            await self._changed()
        if self.exit is not None and self.has_failed_to_start:
            raise StartFailed(self.name, self.exit) from error_of(self.exit)

    async def wait_gone(self) -> Exit:
        """How it ended, once it has."""
        while self.exit is None:
            await self._changed()
        return self.exit

    async def stop(self) -> Exit:
        """Ask it to go, wait its shutdown time, and say how it went."""
        self.end(Shutdown())
        return await self.wait_gone()

    def watch(self, callback: Callable[[Exit], None]) -> None:
        """See `Mortal.watch`; watchers are called before the supervisor does anything about the death."""
        if self.exit is not None:
            callback(self.exit)
        elif self._watchers is None:
            self._watchers = {callback: None}
        else:
            self._watchers[callback] = None

    def unwatch(self, callback: Callable[[Exit], None]) -> None:
        """See `Mortal.unwatch`."""
        if self._watchers is not None:
            self._watchers.pop(callback, None)

    def end(self, cause: Exit) -> None:
        """See `Mortal.end`; it has its shutdown time to go, then it is abandoned."""
        if self._asked is not None or self._task is None or not self._task.cancel():
            return
        self._asked = cause
        self._deadlines.drop(self)
        if (wait_s := _seconds(self.spec.shutdown)) is not None:
            self._timer = self._deadlines.loop.call_later(wait_s, self._abandon, wait_s)

    def overdue(self) -> None:
        """Its time to be ready is over."""
        _log.warning("child_start_overdue", child=self.name, timeout_s=self.spec.start_timeout_s)
        self.end(Crashed(StartTimedOut(self.name, self.spec.start_timeout_s)))

    async def _run(self, start: Start) -> None:
        await self.spec.run(start)

    def _ready(self) -> None:
        if self.ready_at is None and self._asked is None and self.exit is None:
            self.ready_at = self._deadlines.loop.time()
            self._deadlines.drop(self)
            self._wake()

    def _offer(self, insight: Insight) -> None:
        self.insight = insight

    async def _changed(self) -> None:
        waiter: asyncio.Future[None] = self._deadlines.loop.create_future()
        self._waiters = waiters = self._waiters or []
        waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter.cancelled():
                waiters.remove(waiter)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    def _abandon(self, waited_s: float) -> None:
        if self._task is not None and self._task.cancel():
            log = _log.info if self.spec.shutdown == "brutal" else _log.error
            log("child_abandoned", child=self.name, waited_s=waited_s)
            self._report(Hung(waited_s))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        # Reading the exception also tells asyncio that it was seen, for an abandoned child too.
        error = None if task.cancelled() else task.exception()
        if self.exit is not None:
            _log.info("abandoned_child_ended", child=self.name)
        elif error is not None:
            self._report(error.cause if isinstance(error, Died) else Crashed(error))
        elif self._asked is not None:
            self._report(self._asked)
        else:
            self._report(Crashed(asyncio.CancelledError()) if task.cancelled() else Normal())

    def _report(self, cause: Exit) -> None:
        self.exit = cause
        if self.ready_at is None:
            self._deadlines.drop(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake()
        watchers, self._watchers = self._watchers, None
        for callback in watchers or ():
            callback(cause)
        self._on_exit(cause)


def _seconds(shutdown: ShutdownTime) -> float | None:
    match shutdown:
        case "brutal":
            return 0.0
        case "infinity":
            return None
        case _:
            return shutdown
