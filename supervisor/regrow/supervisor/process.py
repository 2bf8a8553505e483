"""Lone processes: tasks outside any tree that have a name and die of a cause, as an Erlang process that nobody supervises.

Each runs in one task, which the space that spawned it owns. Everything but waiting is synchronous, in one event loop.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog

from regrow.supervisor.errors import Died, InvalidOption, SupervisorError
from regrow.supervisor.exits import Crashed, Exit, Hung, Normal, Shutdown, is_clean
from regrow.supervisor.mortal import Mortal, Trap

_log: Final = structlog.get_logger(__name__)

Body = Callable[[Mortal], Coroutine[Any, Any, object]]
"""What a process does; it is told who it is, for links, names and traps."""

GRACE_S: Final = 5.0
"""Seconds that a process has to go once it was told to, as an OTP child has."""


class SpaceClosed(SupervisorError):
    """The block that owns the processes is being left, so nothing more is spawned."""

    def __init__(self, process: str) -> None:
        super().__init__(f"process {process!r} was not spawned: the block that would own it is being left")
        self.process = process


class Process:
    """A spawned coroutine. Its exceptions do not go on to anybody: they are its exit, and logged once.

    A task cannot be killed: one that is still there `grace_s` seconds after it was told to go is cancelled once more
    and abandoned, with `Hung` as its exit.
    """

    def __init__(self, name: str, body: Body, grace_s: float) -> None:
        self.name = name
        self.exit: Exit | None = None
        self.trap: Trap | None = None
        self._body = body
        self._grace_s = grace_s
        self._asked: Exit | None = None
        self._watching: dict[Callable[[Exit], None], None] = {}
        self._gone = asyncio.Event()
        self._task: asyncio.Task[object] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Process {self.name}>"

    def watch(self, callback: Callable[[Exit], None]) -> None:
        if self.exit is not None:
            callback(self.exit)
        else:
            self._watching[callback] = None

    def unwatch(self, callback: Callable[[Exit], None]) -> None:
        self._watching.pop(callback, None)

    def end(self, cause: Exit) -> None:
        if self._asked is not None or self._task is None or not self._task.cancel():
            return
        self._asked = cause
        self._timer = asyncio.get_running_loop().call_later(self._grace_s, self._abandon)

    @property
    def watchers(self) -> int:
        """How many callbacks wait for its death, links, monitors, names and groups among them."""
        return len(self._watching)

    async def wait_gone(self) -> Exit:
        """Its exit, once it is dead."""
        await self._gone.wait()
        assert self.exit is not None
        return self.exit

    def launch(self) -> None:
        """Starts its task; its space does this."""
        self._task = asyncio.create_task(self._run(), name=f"process {self.name}")
        self._task.add_done_callback(self._ended)

    async def _run(self) -> object:
        return await self._body(self)

    def _abandon(self) -> None:
        assert self._task is not None
        if self._task.cancel():
            _log.error("process_abandoned", process=self.name, waited_s=self._grace_s)
            self._die(Hung(self._grace_s))

    def _ended(self, task: asyncio.Task[object]) -> None:
        # Reading the exception also tells asyncio that it was seen, for an abandoned process too.
        error = None if task.cancelled() else task.exception()
        if self.exit is not None:
            _log.info("abandoned_process_ended", process=self.name)
        elif error is not None:
            self._die(error.cause if isinstance(error, Died) else Crashed(error))
        elif self._asked is not None:
            self._die(self._asked)
        else:
            self._die(Crashed(asyncio.CancelledError()) if task.cancelled() else Normal())

    def _die(self, cause: Exit) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.exit = cause
        self._gone.set()
        if not is_clean(cause):
            # The class of an error, never its text: that may hold what a user wrote.
            error = type(cause.error).__name__ if isinstance(cause, Crashed) else None
            _log.warning("process_died", process=self.name, cause=type(cause).__name__, error=error)
        for callback in tuple(self._watching):
            if callback in self._watching:  # no callback before it has taken it back
                del self._watching[callback]
                callback(cause)


class Space:
    """Owns the processes that it spawns: see `processes`."""

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._living: dict[Process, None] = {}
        self._closed = False
        self._spawned = 0

    def spawn(self, body: Body, *, name: str | None = None) -> Process:
        """A process that runs this coroutine function; it begins when the caller next waits.

        Without a name it is called after the function and a number. Raises `SpaceClosed` once the block is being left.
        """
        self._spawned += 1
        named = name or f"{getattr(body, '__qualname__', type(body).__name__)}-{self._spawned}"
        if self._closed:
            raise SpaceClosed(named)
        process = Process(named, body, self._grace_s)
        self._living[process] = None
        process.watch(lambda _: self._living.pop(process, None))
        process.launch()
        return process

    def living(self) -> tuple[Process, ...]:
        """Those not yet dead, in the order in which they were spawned."""
        return tuple(self._living)

    async def stop(self) -> None:
        """Ends all in reverse, each before the next; goes on through cancellations, which are passed on afterwards."""
        self._closed = True
        interrupted: asyncio.CancelledError | None = None
        for process in reversed(self.living()):
            process.end(Shutdown())
            while process.exit is None:
                try:
                    await process.wait_gone()
                except asyncio.CancelledError as error:
                    interrupted = error
        if interrupted is not None:
            raise interrupted


@asynccontextmanager
async def processes(*, grace_s: float = GRACE_S) -> AsyncGenerator[Space]:
    """A space to spawn processes in; leaving the block ends all that still live, in reverse, and waits for each.

        async with processes() as space:
            worker = space.spawn(work, name="worker")
            print(describe(await worker.wait_gone()))

    A process that dies touches nobody but those linked to it: the block goes on. Each has `grace_s` seconds to go.
    """
    if not 0 <= grace_s < float("inf"):
        raise InvalidOption(f"grace_s must be seconds, 0 or more, not {grace_s}")
    space = Space(grace_s)
    try:
        yield space
    finally:
        await space.stop()
