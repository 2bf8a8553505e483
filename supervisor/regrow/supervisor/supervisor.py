"""The one_for_one supervisor: it starts children in order, restarts those that die, stops them in reverse.

One task owns the tree, from the first start to the last stop. Deaths and due restarts reach it one at a time
through a queue, so a restart that fails is just the next death, and a request to stop, which cancels that
task, comes between any two of them, as in OTP's supervisor.erl. Unlike there nobody waits for a restarted
child to be ready, so a slow one does not hold up its siblings. Children run in tasks of their own.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Literal, NoReturn, Self

import structlog

from regrow.supervisor.child import Child
from regrow.supervisor.decision import decide
from regrow.supervisor.errors import AlreadyRunning, NotRunning, RestartIntensityReached
from regrow.supervisor.exits import Exit, error_of, is_clean
from regrow.supervisor.intensity import Intensity, admit
from regrow.supervisor.spec import ChildSpec, Restart, Start, check_children

_log: Final = structlog.get_logger(__name__)

ChildState = Literal["starting", "running", "restarting", "stopped"]


@dataclass(frozen=True, slots=True)
class ChildInfo:
    """What is known of one child now; `last` is how its latest dead incarnation ended."""

    id: str
    state: ChildState
    restarts: int
    last: Exit | None


class _Slot:
    """The place of one spec in the tree, through all its incarnations."""

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.child: Child | None = None
        self.restarts = 0
        self.last: Exit | None = None
        self.attempt = 0
        self.due: asyncio.TimerHandle | None = None

    @property
    def state(self) -> ChildState:
        if self.due is not None:
            return "restarting"
        if self.child is None or self.child.exit is not None:
            return "stopped"
        return "running" if self.child.ready_at is not None else "starting"

    def ran_s(self) -> float:
        """For how long its child has been ready, in seconds."""
        if self.child is None or self.child.ready_at is None:
            return 0.0
        return asyncio.get_running_loop().time() - self.child.ready_at

    def info(self) -> ChildInfo:
        return ChildInfo(self.spec.id, self.state, self.restarts, self.last)


@dataclass(frozen=True, slots=True)
class _Died:
    slot: _Slot
    cause: Exit


@dataclass(frozen=True, slots=True)
class _Due:
    slot: _Slot


class Supervisor:
    """Children that are restarted when they die, each on its own (one_for_one).

        async with Supervisor("root", children=[ChildSpec(id="gateway", run=serve)]) as tree:
            await tree.wait_stopped()

    Entering starts the children in order, each after the one before it is ready; when one fails, those
    already started are stopped in reverse and `StartFailed` is raised. Leaving stops all in reverse. When
    children die more often than `intensity` allows, the others are stopped in reverse and
    `RestartIntensityReached` is raised by `wait_stopped` and by leaving, with the last child's error as its
    cause.

    A supervisor whose children are all gone goes on, as in OTP. One that has stopped may be started again and
    begins afresh, which is how `child_spec()` makes it a child of another. `draw` gives the backoff's jitter.
    """

    def __init__(
        self,
        name: str,
        *,
        children: Sequence[ChildSpec],
        intensity: Intensity = Intensity(),  # noqa: B008 - a frozen value
        draw: Callable[[], float] = random.random,
    ) -> None:
        check_children(children)
        self.name = name
        self._specs = tuple(children)
        self._intensity = intensity
        self._draw = draw
        self._task: asyncio.Task[NoReturn] | None = None
        self._slots: list[_Slot] = []

    async def __aenter__(self) -> Self:
        if self._task is not None and not self._task.done():
            raise AlreadyRunning(self.name)
        self._slots = [_Slot(spec) for spec in self._specs]
        self._inbox: asyncio.Queue[_Died | _Due] = (
            asyncio.Queue()
        )  # one death or one due restart per slot at most
        self._window: tuple[float, ...] = ()
        self._stopping = False
        self._settled = asyncio.Event()
        self._task = asyncio.create_task(self._main(), name=f"supervisor {self.name}")
        try:
            await self._settled.wait()
        except asyncio.CancelledError:
            await self._finish(self._task)
            raise
        if self._stopping:
            await self._finish(self._task)
            await self.wait_stopped()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task = self._running_task()
        await self._finish(task)
        if error is None:
            await self.wait_stopped()

    async def run(self, start: Start) -> None:
        """Run as a child: ready when all children are, gone when stopped, dead when it gave up."""
        async with self:
            start.ready()
            await self.wait_stopped()

    def child_spec(self, *, restart: Restart = "permanent") -> ChildSpec:
        """This supervisor as a child of another: it has the time its own children may take."""
        return ChildSpec(
            id=self.name,
            run=self.run,
            restart=restart,
            shutdown="infinity",
            start_timeout_s=sum(spec.start_timeout_s for spec in self._specs) or 1.0,
        )

    async def wait_stopped(self) -> None:
        """Return when all children have been stopped; raises what the supervisor gave up with."""
        task = self._running_task()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    async def stop(self) -> None:
        """Stop all children in reverse and return when that is done; may be called twice, and by a child."""
        task = self._running_task()
        self._ask_to_stop(task)
        await asyncio.wait([task])

    def which_children(self) -> tuple[ChildInfo, ...]:
        """Every child in start order; a temporary one that ended is no longer listed, as in OTP."""
        return tuple(slot.info() for slot in self._slots)

    def _running_task(self) -> "asyncio.Task[NoReturn]":
        if self._task is None:
            raise NotRunning(self.name)
        return self._task

    def _ask_to_stop(self, task: "asyncio.Task[NoReturn]") -> None:
        if not self._stopping:
            self._stopping = True
            task.cancel()

    async def _finish(self, task: "asyncio.Task[NoReturn]") -> None:
        """Stop, and wait for the end through any cancellation, which is passed on afterwards."""
        self._ask_to_stop(task)
        interrupted: asyncio.CancelledError | None = None
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                interrupted = error
        if interrupted is not None:
            raise interrupted

    async def _main(self) -> NoReturn:
        try:
            await self._start_children()
            self._settled.set()
            await self._supervise()
        finally:
            self._stopping = True
            await self._stop_children()
            self._settled.set()

    async def _start_children(self) -> None:
        for slot in tuple(self._slots):
            await self._launch(slot).wait_started()

    async def _supervise(self) -> NoReturn:
        while True:
            match await self._inbox.get():
                case _Died(slot, cause):
                    self._bury(slot, cause)
                case _Due(slot):
                    slot.due = None
                    slot.restarts += 1
                    self._launch(slot)

    async def _stop_children(self) -> None:
        for slot in reversed(self._slots):
            if slot.due is not None:
                slot.due.cancel()
                slot.due = None
            if slot.child is not None:
                slot.last = await slot.child.stop()
                if not is_clean(slot.last):
                    self._log_death(slot, slot.last, "stop")

    def _launch(self, slot: _Slot) -> Child:
        slot.child = Child(slot.spec, lambda cause: self._inbox.put_nowait(_Died(slot, cause)))
        slot.child.launch(slot.last, slot.restarts)
        return slot.child

    def _bury(self, slot: _Slot, cause: Exit) -> None:
        ran_s = slot.ran_s()
        slot.last, slot.child = cause, None
        action = decide(slot.spec.restart, cause)
        self._log_death(slot, cause, action)
        if action == "restart":
            self._schedule(slot, ran_s, cause)
        elif slot.spec.restart == "temporary":
            self._slots.remove(slot)

    def _schedule(self, slot: _Slot, ran_s: float, cause: Exit) -> None:
        loop, backoff = asyncio.get_running_loop(), slot.spec.backoff
        window = admit(self._window, loop.time(), self._intensity)
        if window is None:
            _log.error("restart_intensity_reached", supervisor=self.name, child=slot.spec.id)
            raise RestartIntensityReached(self.name, slot.spec.id, cause) from error_of(cause)
        self._window = window
        attempt = 0 if backoff.is_over(ran_s) else slot.attempt
        slot.attempt = attempt + 1
        delay_s = backoff.delay_s(attempt, self._draw())
        slot.due = loop.call_later(delay_s, self._inbox.put_nowait, _Due(slot))

    def _log_death(self, slot: _Slot, cause: Exit, action: str) -> None:
        # The class of an error, never its text: that may hold what a user wrote.
        log = _log.info if is_clean(cause) else _log.warning
        error = error_of(cause)
        log(
            "child_died",
            supervisor=self.name,
            child=slot.spec.id,
            cause=type(cause).__name__,
            error=error and type(error).__name__,
            action=action,
        )
