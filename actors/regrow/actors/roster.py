"""A group of actors that can be looked at and steered: who does what, whose mail waits, who waits for whom."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from heapq import nlargest

from regrow.actors.cell import Cell
from regrow.actors.group import Group, Hosting, Kind
from regrow.actors.insight import Busy, KindSeen, OpenAsk, Steered, Verb, trace_subject
from regrow.actors.trace import Tracer
from regrow.bus import Address
from regrow.supervisor import Detail

BUSIEST = 10
"""Mailboxes that are named."""
LOOKED_AT_ONCE = 2_000
"""Actors that are counted before others have their turn."""
TRACERS_MAX = 32
"""Actors of one kind that are traced at once."""


class Roster(Group):
    """The active actors of one kind, for whoever operates them."""

    def __init__(self, kind: Kind, host: Hosting) -> None:
        super().__init__(kind, host)
        self._name = kind.actor.__regrow__.kind
        self._tracers: dict[Address, Tracer] = {}
        self._resting: dict[Address, None] = {}
        """Who may have a suspended turn, and mail that waits for its end."""

    def cell(self, address: Address) -> Cell:
        """The cell of this actor, activated where there is none, and traced where somebody asked for that."""
        cell = super().cell(address)
        if self._tracers and cell.tracer is None and (tracer := self._tracers.get(address)) is not None:
            cell.trace(tracer)
        return cell

    def detail(self) -> Detail:
        """What a supervisor's tree shows of it."""
        return {**super().detail(), "mail": sum(cell.depth for cell in self._cells.values())}

    def open_asks(self) -> Iterator[OpenAsk]:
        """The open asks of all turns, the suspended ones included for whose actors mail waits here: nobody waits for the others.

        Other tasks may run between two of them.
        """
        for address in (*self._draining, *self._resting):
            cell = self._cells.get(address)
            asks = cell.open_asks if cell is not None else ()
            if not asks:
                self._resting.pop(address, None)
                continue
            suspended = address not in self._draining
            for each in asks:
                yield OpenAsk(address, each.asked, suspended)

    async def seen(self) -> tuple[KindSeen, list[Busy]]:
        """How many actors are in memory, by what they do, and where the most mail waits."""
        states: Counter[str] = Counter()
        busy: list[Busy] = []
        for number, (address, cell) in enumerate(list(self._cells.items())):
            if number % LOOKED_AT_ONCE == LOOKED_AT_ONCE - 1:
                await asyncio.sleep(0)
            states[self._state(cell)] += 1
            if depth := cell.depth:
                states["mail"] += depth
                busy.append(Busy(str(address), depth))
        return KindSeen(self._name, **states), nlargest(BUSIEST, busy, key=lambda each: each.mail)

    def steer(self, verb: Verb, address: Address) -> Steered:
        """Carries out an order for one actor."""
        match verb:
            case "suspend":
                return self._suspend(address)
            case "resume":
                return self._resume(address)
            case "trace":
                return self._trace(address)

    def _done(self, cell: Cell) -> None:
        super()._done(cell)
        if cell.suspended and not cell.empty:
            self._resting[cell.address] = None

    def _state(self, cell: Cell) -> str:
        if cell.paused:
            return "suspended"
        if cell.trouble is not None:
            return "parked"
        if cell.suspended or cell.waiting_turn is not None:
            return "waiting"
        return "active" if cell.address in self._draining else "idle"

    def _suspend(self, address: Address) -> Steered:
        cell = self.cell(address)
        changed, cell.paused = not cell.paused, True
        return Steered(changed)

    def _resume(self, address: Address) -> Steered:
        cell = self._cells.get(address)
        if cell is None or not cell.paused:
            return Steered(done=False)
        cell.paused = False
        if address not in self._draining and not cell.idle and cell.trouble is None:
            with suppress(
                RuntimeError
            ):  # the group does not run now; when it does, it begins with all whose mail waits
                self._draining[address] = self.start(self._drain, cell)
        return Steered(done=True)

    def _trace(self, address: Address) -> Steered:
        if (tracer := self._tracers.get(address)) is not None:
            tracer.renew()
            return Steered(done=False)
        if len(self._tracers) >= TRACERS_MAX:
            return Steered(done=False, refused=f"{TRACERS_MAX} actors of kind {self._name} are traced already")
        tracer = Tracer(self.bus, trace_subject(self.bus.subjects.app, address))
        try:
            self.start(tracer.run, partial(self._traced, address))
        except RuntimeError as error:
            return Steered(done=False, refused=str(error))
        self._tracers[address] = tracer
        self.cell(address)
        return Steered(done=True)

    def _traced(self, address: Address) -> None:
        self._tracers.pop(address, None)
        if (cell := self._cells.get(address)) is not None:
            cell.trace(None)
