"""The trace of one actor: what it does, live, to whoever listens, and never what was said.

A tracer belongs to the activation of its actor and lives for as long as somebody asks for it again and again. What it has to tell
goes through a bounded queue to a core subject, one message each; what does not fit is counted and said. An actor that is not
traced has no tracer, which is all that it looks at.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Literal

import msgspec
import structlog

from regrow.actors.errors import Failure
from regrow.actors.image import Open
from regrow.actors.records import Outcome
from regrow.actors.step import Call
from regrow.actors.turn import RunningTurn
from regrow.bus import Bus, BusError, encode

_log = structlog.get_logger(__name__)

TRACE_S = 10.0
"""For so long an actor is traced after it was last asked for."""
WAITING_MAX = 1_000
"""Happenings that wait to be sent; while there are more, they are counted instead."""

What = Literal["taken", "query", "began", "step began", "step ended", "recorded", "lost"]


class Traced(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that an actor did. No arguments, results, states, keys of steps or texts of failures are in it."""

    at_ms: int
    """By the clock of its node, milliseconds since 1970."""
    what: What
    """``began``: an attempt at the turn, and ``failure`` is what the one before it failed of. ``lost``: so many things were
    not told, for they came too fast."""
    type: str = ""
    """Of the message."""
    id: str = ""
    """Of the message."""
    attempt: int = 0
    tool: str = ""
    step: int = 0
    """Which one since the actor is traced."""
    took_ms: float = 0.0
    """From the call to the outcome, the record of it included; next to nothing for one that the log answers."""
    failure: str = ""
    """Its kind, or the name of the exception."""
    lost: int = 0


class Tracer:
    """Tells what one actor does. ``run`` sends it, until nobody has asked for it any more for ``TRACE_S``."""

    def __init__(self, bus: Bus, subject: str) -> None:
        self._bus = bus
        self._subject = subject
        self._until_s = 0.0
        self._waiting: deque[Traced] = deque()
        self._news = asyncio.Event()
        self._lost = 0
        self._told = _told(self)
        self._turn: RunningTurn | None = None
        self.renew()

    def renew(self) -> None:
        """Somebody still listens."""
        self._until_s = time.monotonic() + TRACE_S

    def tell(self, what: What, **said: str | int | float) -> None:
        """Puts one thing into the queue."""
        if len(self._waiting) >= WAITING_MAX:
            self._lost += 1
            return
        self._waiting.append(msgspec.convert({"at_ms": _now_ms(), "what": what, **said}, Traced))
        self._news.set()

    def began(self, turn: RunningTurn, opened: Open | None) -> None:
        """An attempt at a turn begins; ``opened``: what the log has of those before."""
        attempts, failed = (opened.attempts, _kind(opened.failure)) if opened is not None else (0, "")
        self.tell("began", id=turn.letter.id, attempt=attempts + 1, failure=failed)
        self.watch(turn)

    def watch(self, turn: RunningTurn) -> None:
        """From now on the steps of this attempt are told, which may have begun before."""
        self._turn = turn
        turn.__class__ = self._told

    def recorded(self, message_id: str, outcome: Outcome | None) -> None:
        """The turn is in the log."""
        self.tell("recorded", id=message_id, failure=_kind(outcome.failure if outcome is not None else None))

    async def run(self, ended: Callable[[], None]) -> None:
        """Sends what there is to tell; then calls ``ended`` and lets go of the attempt that it watches."""
        try:
            while (left_s := self._until_s - time.monotonic()) > 0:
                try:
                    async with asyncio.timeout(left_s):
                        await self._news.wait()
                except TimeoutError:
                    continue
                self._news.clear()
                await self._send()
        finally:
            ended()
            if self._turn is not None:
                self._turn.__class__ = RunningTurn

    async def _send(self) -> None:
        try:
            while self._waiting:
                await self._bus.publish(self._subject, encode(self._waiting.popleft()))
            if self._lost:
                lost, self._lost = self._lost, 0
                await self._bus.publish(self._subject, encode(Traced(_now_ms(), "lost", lost=lost)))
        except BusError as error:
            _log.debug("what an actor does was not told", subject=self._subject, error=str(error))


def _told(tracer: Tracer) -> type[RunningTurn]:
    """An attempt that tells its steps. It takes the place of the plain one's class, so that a plain step looks at nothing."""
    numbers = count(1)

    class Told(RunningTurn):
        __slots__ = ()

        async def step(self, call: Call) -> Outcome:
            number, began_s, ended = next(numbers), time.perf_counter(), "interrupted"
            tracer.tell("step began", tool=call.tool, step=number)
            try:
                outcome = await super().step(call)
                ended = _kind(outcome.failure)
                return outcome
            except asyncio.CancelledError:
                ended = "cancelled"
                raise
            finally:
                took_ms = round(1000 * (time.perf_counter() - began_s), 3)
                tracer.tell("step ended", tool=call.tool, step=number, took_ms=took_ms, failure=ended)

    return Told


def _kind(failure: Failure | None) -> str:
    return failure.kind if failure is not None else ""


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
