"""One run of a supervisor, from the first start to the last stop.

One task owns the tree. Deaths and due restarts reach it one at a time through a queue, so a restart that
fails is just the next death, and a request to stop, which cancels that task, comes between any two of them,
as in OTP's supervisor.erl. Unlike there nobody waits for a restarted child to be ready, so a slow one does
not hold up its siblings.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NoReturn

import structlog

from regrow.supervisor.child import Child
from regrow.supervisor.decision import decide
from regrow.supervisor.errors import RestartIntensityReached
from regrow.supervisor.exits import Exit, error_of, is_clean
from regrow.supervisor.intensity import Intensity, admit
from regrow.supervisor.spec import ChildSpec

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


class Tree:
    """The children of one supervisor while it runs: made when it starts, never started twice."""

    def __init__(self, name: str, specs: Sequence[ChildSpec], intensity: Intensity, draw: Callable[[], float]) -> None:
        self.is_stopping = False
        self.settled = asyncio.Event()  # all children have started, or the tree has ended
        self._name = name
        self._intensity = intensity
        self._draw = draw
        self._slots = [_Slot(spec) for spec in specs]
        self._window: tuple[float, ...] = ()
        # Never holds more than one item for each child: it is running or waiting for its restart, not both.
        self._inbox: asyncio.Queue[_Died | _Due] = asyncio.Queue()

    async def run(self) -> NoReturn:
        """Start the children in order and look after them; however that ends, stop them in reverse."""
        try:
            await self._start_children()
            self.settled.set()
            await self._supervise()
        finally:
            self.is_stopping = True
            await self._stop_children()

    def which_children(self) -> tuple[ChildInfo, ...]:
        return tuple(slot.info() for slot in self._slots)

    async def _start_children(self) -> None:
        for slot in tuple(self._slots):
            await self._launch(slot).wait_started()

    async def _supervise(self) -> NoReturn:
        while True:
            event = await self._inbox.get()
            if isinstance(event, _Died):
                self._bury(event.slot, event.cause)
            else:
                self._restart(event.slot)

    async def _stop_children(self) -> None:
        for slot in reversed(self._slots):
            if slot.due is not None:
                slot.due.cancel()
                slot.due = None
            if slot.child is not None:
                slot.last = await slot.child.stop()
                if error_of(slot.last) is not None:
                    self._log_death(slot, slot.last, "stop")

    def _launch(self, slot: _Slot) -> Child:
        slot.child = Child(slot.spec, lambda cause: self._inbox.put_nowait(_Died(slot, cause)))
        slot.child.launch(slot.last, slot.restarts)
        return slot.child

    def _restart(self, slot: _Slot) -> None:
        slot.due = None
        slot.restarts += 1
        self._launch(slot)

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
            _log.error("restart_intensity_reached", supervisor=self._name, child=slot.spec.id)
            raise RestartIntensityReached(self._name, slot.spec.id, cause) from error_of(cause)
        self._window = window
        attempt = 0 if backoff.is_over(ran_s) else slot.attempt
        slot.attempt = attempt + 1
        delay_s = backoff.delay_s(attempt, self._draw())
        slot.due = loop.call_later(delay_s, self._inbox.put_nowait, _Due(slot))

    def _log_death(self, slot: _Slot, cause: Exit, action: str) -> None:
        # The class of an error, never its text: that may hold what a user wrote.
        log = _log.warning if not is_clean(cause) else _log.debug if action == "remove" else _log.info
        error = error_of(cause)
        log(
            "child_died",
            supervisor=self._name,
            child=slot.spec.id,
            cause=type(cause).__name__,
            error=error and type(error).__name__,
            action=action,
        )
