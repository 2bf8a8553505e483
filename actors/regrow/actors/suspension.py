"""The suspension of a turn that only waits: the timers that will end its waits, and what it rests on while it is unloaded."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Protocol

import structlog

from regrow.actors.asks import Asks
from regrow.actors.image import Open, PendingAsk
from regrow.actors.outbox import set_wake
from regrow.actors.turn import RunningTurn
from regrow.actors.waits import SETTLED_TICKS
from regrow.bus import Address, Bus, BusError

_log = structlog.get_logger(__name__)

_NO_TIMERS: frozenset[str] = frozenset()


class Suspending(Protocol):
    """The actor whose turn it is."""

    address: Address
    bus: Bus
    asks: Asks

    @property
    def waiting_turn(self) -> RunningTurn | None: ...
    def now_ms(self) -> int: ...


class Suspension:
    """Of one actor: whether its turn is suspended, as far as known here."""

    __slots__ = ("_actor", "_timed", "asks", "is_on")

    def __init__(self, actor: Suspending) -> None:
        self.is_on = False
        self.asks: Sequence[PendingAsk] = ()
        """Whom the suspended turn waits for."""
        self._actor = actor
        self._timed = _NO_TIMERS
        """Timers that were set for waits of the open turn."""

    @property
    def has_timers(self) -> bool:
        """Whether there are timers that may be of waits that are over."""
        return bool(self._timed)

    def begin(self, opened: Open) -> None:
        """The open turn is suspended."""
        self.is_on, self.asks = True, tuple(opened.asks.values())

    def end(self) -> None:
        """Mail is taken again, the suspended turn first."""
        self.is_on, self.asks = False, ()

    def expect(self, timers: Iterable[str]) -> None:
        """These were set as well."""
        self._timed = self._timed.union(timers)

    async def suspend(self, quiet_s: float) -> None:
        """Unloads the turn that runs, if its handler has only waited for so long: each wait gets a timer, then the handler ends.

        Whoever drains the cell sees to the rest. Raises what stands in the way of setting timers.
        """
        actor = self._actor
        turn = actor.waiting_turn
        due = turn.waits.due(actor.now_ms()) if turn is not None and turn.is_quiet(quiet_s) else None
        if turn is None or due is None or actor.asks.end_a_wait:
            return
        moves = turn.waits.moves
        self.expect(due)
        for timer, due_ms in due.items():
            await set_wake(actor.bus, actor.address, timer, due_ms)
        for _ in range(SETTLED_TICKS):
            await asyncio.sleep(0)
        if turn is actor.waiting_turn and turn.waits.moves == moves and turn.is_quiet(quiet_s):
            turn.suspend(tuple(due))

    async def end_timers(self, but: Sequence[str] = ()) -> None:
        """Removes timers of waits that are over. One that is missed fires for nothing."""
        actor = self._actor
        for timer in self._timed.difference(but, actor.asks.fired):
            try:
                await actor.bus.mail.unschedule(actor.address, timer)
            except BusError as error:
                _log.debug("a timer of a wait that is over stays", actor=str(actor.address), error=str(error))
        self._timed = self._timed.intersection(but)
