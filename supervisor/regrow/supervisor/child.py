"""One incarnation of a child, from launch to exit.

A child runs in one task of its own. Everything else here is synchronous and runs in the event loop; who waits
does so on events, so a cancelled waiter takes nothing with it.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from regrow.supervisor.errors import StartFailed, StartTimedOut
from regrow.supervisor.exits import Crashed, Exit, Hung, Normal, Shutdown, error_of
from regrow.supervisor.spec import ChildSpec, ShutdownTime, Start

_log: Final = structlog.get_logger(__name__)


class Child:
    """A running child: wait until it has started, stop it, read its exit.

    A task cannot be killed. A child that is still there when its shutdown time is over is cancelled once more
    and abandoned: it is reported as `Hung`, an error line names it, and it may go on and hold what it holds.
    """

    def __init__(self, spec: ChildSpec, on_exit: Callable[[Exit], None]) -> None:
        self.spec = spec
        self.exit: Exit | None = None
        self.ready_at: float | None = None  # the loop's time
        self._on_exit = on_exit
        self._asked: Exit | None = None  # once asked to go: how it ended if it now goes without an error
        self._settled = asyncio.Event()
        self._gone = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def launch(self, cause: Exit | None, restarts: int) -> None:
        """Start the task; `on_exit` is called once, when it has ended or was abandoned."""
        start = Start(cause=cause, restarts=restarts, ready=self._ready)
        # The timer first: an eager task may be ready before create_task returns.
        self._timer = asyncio.get_running_loop().call_later(self.spec.start_timeout_s, self._overdue)
        self._task = asyncio.create_task(self._run(start), name=f"child {self.spec.id}")
        self._task.add_done_callback(self._ended)

    async def wait_started(self) -> None:
        """Return once it is ready or has finished; raises `StartFailed` when it died before that."""
        await self._settled.wait()
        if self.exit is not None and self.ready_at is None and self.exit != Normal():
            raise StartFailed(self.spec.id, self.exit) from error_of(self.exit)

    async def stop(self) -> Exit:
        """Ask it to go, wait its shutdown time, and say how it went."""
        self._ask(Shutdown())
        await self._gone.wait()
        assert self.exit is not None
        return self.exit

    async def _run(self, start: Start) -> None:
        await self.spec.run(start)

    def _ready(self) -> None:
        if self.ready_at is None and self._asked is None and self.exit is None:
            self.ready_at = asyncio.get_running_loop().time()
            self._disarm()
            self._settled.set()

    def _overdue(self) -> None:
        _log.warning("child_start_overdue", child=self.spec.id, timeout_s=self.spec.start_timeout_s)
        self._ask(Crashed(StartTimedOut(self.spec.id, self.spec.start_timeout_s)))

    def _ask(self, quiet_exit: Exit) -> None:
        if self._asked is not None or self._task is None or not self._task.cancel():
            return
        self._asked = quiet_exit
        self._disarm()
        if (wait_s := _seconds(self.spec.shutdown)) is not None:
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._abandon, wait_s)

    def _abandon(self, waited_s: float) -> None:
        assert self._task is not None
        if self._task.cancel():
            log = _log.info if self.spec.shutdown == "brutal" else _log.error
            log("child_abandoned", child=self.spec.id, waited_s=waited_s)
            self._report(Hung(waited_s))

    def _ended(self, task: asyncio.Task[None]) -> None:
        # Reading the exception also tells asyncio that it was seen, for an abandoned child too.
        error = None if task.cancelled() else task.exception()
        if self.exit is not None:
            _log.info("abandoned_child_ended", child=self.spec.id)
        elif error is not None:
            self._report(Crashed(error))
        elif self._asked is not None:
            self._report(self._asked)
        else:
            self._report(Crashed(asyncio.CancelledError()) if task.cancelled() else Normal())

    def _report(self, cause: Exit) -> None:
        self._disarm()
        self.exit = cause
        self._settled.set()
        self._gone.set()
        self._on_exit(cause)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _seconds(shutdown: ShutdownTime) -> float | None:
    match shutdown:
        case "brutal":
            return 0.0
        case "infinity":
            return None
        case _:
            return shutdown
