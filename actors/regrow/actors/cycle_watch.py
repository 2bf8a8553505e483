"""The watch over asks that can never be answered: actors that wait for one another in a circle, over all nodes.

An ask to an actor that waits for it itself fails at once, for the chain of an ask says who waits. A circle of different chains, such
as two actors that ask each other at the same time, no chain can see: it is looked for here, among the asks that have been open for a
moment. Nodes that wait for actors of another node tell each other; the one that serves the least actor of the circle names it.

The asks are left to their deadlines, as a ``gen_server:call`` is in OTP: which side to fail would be a guess, and a handler that
races several asks may well go on without the answer.
"""

import asyncio
import time
from collections.abc import Callable, Iterable

import structlog

from regrow.actors.insight import OldWaits, OpenAsk, waits_subject
from regrow.actors.waits_for import Edge, Path, cycles, leading, said
from regrow.bus import Address, Bus, BusError, Request, Undecodable, decode, encode

_log = structlog.get_logger(__name__)

OLD_MS = 250
"""How long an ask must have been open to be looked at: most are answered long before."""
LOOK_S = 0.25
"""How often it is looked. An ask is old, its node tells it, and another one looks: within a second in all."""
SHARE = 20
"""A look that would take more than one such part of the time is repeated less often."""
AT_ONCE = 1_000
"""Asks that are looked at before others have their turn. All together that takes less than ``OLD_MS``, so that asks which are found
old were open at the same time."""
ASKS_MAX = 50_000
"""Asks that are looked at."""
TOLD_MAX = 500
"""Edges that a node tells the others."""
HEARD_S = 1.0
"""How long it is good for what another node has told."""

IsHere = Callable[[Address], bool]


class CycleWatch:
    """Names each circle once, as long as it lasts: in the log, and to whoever waits for one."""

    def __init__(self, bus: Bus, node: str, asks: Callable[[], Iterable[OpenAsk]], is_here: IsHere) -> None:
        self.named: tuple[Path, ...] = ()
        """The circles that this node has named and that are not over."""
        self._bus = bus
        self._node = node
        self._asks = asks
        self._is_here = is_here
        self._heard: dict[str, tuple[float, tuple[Edge, ...]]] = {}
        self._told = False
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Looks until cancelled."""
        async with self._bus.serve(waits_subject(self._bus.subjects.app), self._hear):
            while True:
                took_s = 0.0
                try:
                    took_s = await self.look()
                except BusError as error:
                    _log.debug("other nodes were not told who waits", error=str(error))
                await asyncio.sleep(max(LOOK_S, SHARE * took_s))

    async def wait_named(self) -> tuple[Path, ...]:
        """The circles that last, as soon as there is one that this node has named."""
        while not self.named:
            self._news.clear()
            await self._news.wait()
        return self.named

    async def look(self) -> float:
        """Looks once, and tells the other nodes what they may need; how many seconds that kept others waiting.

        Raises ``BusError``.
        """
        old, took_s = await self._old()
        began_s = time.perf_counter()
        found = leading(((each.waiter, Address(*each.asked.to)) for each in old), self._is_elsewhere)
        edges = [(str(waiter), str(on)) for waiter, on in found]
        self._name(edges, old)
        took_s += time.perf_counter() - began_s
        if self._told or any(self._is_elsewhere(on) for _, on in found):
            self._told = bool(edges)
            told = encode(OldWaits(self._node, tuple(edges[:TOLD_MAX])))
            await self._bus.publish(waits_subject(self._bus.subjects.app), told)
        return took_s

    async def _old(self) -> tuple[list[OpenAsk], float]:
        """The asks that have been open for a moment, and how long it took to find them, the turns of others not counted."""
        before_ms = time.time_ns() // 1_000_000 - OLD_MS
        old: list[OpenAsk] = []
        began_s, took_s = time.perf_counter(), 0.0
        for number, each in enumerate(self._asks(), 1):
            if each.asked.at_ms <= before_ms:
                old.append(each)
            if number >= ASKS_MAX:
                break
            if number % AT_ONCE == 0:
                took_s += time.perf_counter() - began_s
                await asyncio.sleep(0)
                began_s = time.perf_counter()
        return old, took_s + time.perf_counter() - began_s

    def _is_elsewhere(self, actor: Address) -> bool:
        return not self._is_here(actor)

    def _name(self, edges: list[Edge], old: list[OpenAsk]) -> None:
        """Names the circles whose least actor waits here."""
        since_s = time.monotonic() - HEARD_S
        self._heard = {node: heard for node, heard in self._heard.items() if heard[0] >= since_s}
        mine = {waiter for waiter, _ in edges}
        every = [*edges, *(edge for _, heard in self._heard.values() for edge in heard)] if edges else []
        named = tuple(path for path in cycles(every) if path[0] in mine)
        for path in named:
            if path not in self.named:
                self._say(path, old)
        self.named = named
        if named:
            self._news.set()

    def _say(self, path: Path, old: list[OpenAsk]) -> None:
        until_ms = [each.asked.deadline_ms for each in old if str(each.waiter) == path[0]]
        left_s = max(0.0, (min(until_ms) - time.time_ns() // 1_000_000) / 1000) if until_ms else 0.0
        _log.error(
            "ask_cycle",
            path=said(path),
            advice="these actors wait for one another until an ask times out: let one of them send instead of ask",
            first_ends_in_s=round(left_s, 1),
        )

    def _hear(self, request: Request) -> None:
        try:
            heard = decode(request.body, OldWaits, "waits of another node")
        except Undecodable as error:
            _log.debug("what a node tells of its waits cannot be read", error=str(error))
            return
        if heard.node != self._node:
            self._heard[heard.node] = time.monotonic(), heard.edges
