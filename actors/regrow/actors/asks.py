"""The durable asks of an actor's running turn: recorded, relayed, and answered by messages, so that both sides may die meanwhile.

An answer that nobody waits for yet is kept until the turn asks for it again; one that no pending ask of the log belongs to is
acknowledged and counted. Belongs to one event loop.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

import structlog

from regrow.actors.errors import TIMEOUT, failure
from regrow.actors.image import Image, Open, PendingAsk, PendingSleep
from regrow.actors.outbox import relay_ask
from regrow.actors.records import Asked, Outcome
from regrow.actors.waits import Waits
from regrow.actors.wire import answered, is_wake
from regrow.bus import Address, Bus, Delivery, Undecodable, headers

_log = structlog.get_logger(__name__)

Mark = tuple[int, int]


class Asker(Protocol):
    """The actor whose turn asks."""

    address: Address
    bus: Bus

    @property
    def image(self) -> Image: ...
    def now_ms(self) -> int: ...
    def count(self, what: str) -> None: ...


class Asks:
    """What has been asked, and what has been answered."""

    __slots__ = ("_arrived", "_asker", "_relaying", "_waiting", "_wakes")

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self._waiting: dict[Mark, asyncio.Future[Outcome]] = {}
        self._arrived: dict[Mark, tuple[Outcome, Delivery]] = {}
        self._wakes: dict[str, Delivery] = {}
        """Timers of waits that fired, by their ids."""
        self._relaying: defaultdict[Address, asyncio.Lock] = defaultdict(asyncio.Lock)

    def __len__(self) -> int:
        """Answers and fired timers of waits that are not acknowledged yet."""
        return len(self._arrived) + len(self._wakes)

    @property
    def fired(self) -> Iterable[str]:
        """The timers that are among them."""
        return self._wakes.keys()

    @property
    def end_a_wait(self) -> bool:
        """Whether one of these ends a wait of the open turn."""
        opened, ask_of = self._asker.image.opened, self._asker.image.ask_of
        if opened is None:
            return False
        return any(ask_of(mark) is not None for mark in self._arrived) or any(map(opened.waits_for, self._wakes))

    @property
    def open(self) -> list[PendingAsk]:
        """The recorded asks of the open turn whose answers have not come yet: whom it waits for."""
        opened = self._asker.image.opened
        if opened is None:
            return []
        if not self._arrived:
            return list(opened.asks.values())
        return [each for each in opened.asks.values() if each.mark not in self._arrived]

    def pending(self, key: str) -> PendingAsk | None:
        """The recorded ask of this step that has no outcome yet."""
        opened = self._asker.image.opened
        return opened.asks.get(key) if opened is not None else None

    def sleeping(self, key: str) -> PendingSleep | None:
        """The recorded sleep of this step that has not ended."""
        opened = self._asker.image.opened
        return opened.sleeps.get(key) if opened is not None else None

    async def outcome(self, asked: Asked, record: Callable[[Asked], Awaitable[None]], waits: Waits) -> Outcome:
        """The answer, or the failure of an ask that cannot be delivered or has waited until its deadline.

        An ask that is recorded already has been relayed when its actor came back.
        """
        pending = self.pending(asked.key)
        if pending is None:
            await record(asked)
            pending = self.pending(asked.key)
            assert pending is not None
            refused = await self._relay(pending)
            if refused is not None:
                return refused
        return await self._answer(pending, waits)

    async def relay_again(self) -> None:
        """Relays every pending ask once more, before the turn that asked goes on: to each receiver in the order of the log.

        Not those that were pending when the turn was suspended: they had been relayed, maybe long ago.
        """
        opened = self._asker.image.opened
        if opened is None:
            return
        by_receiver: defaultdict[tuple[str, str], list[PendingAsk]] = defaultdict(list)
        for pending in sorted(opened.asks.values(), key=lambda each: each.mark):
            if pending.timer not in opened.timed:
                by_receiver[pending.asked.to].append(pending)

        async def relay(asks: list[PendingAsk]) -> None:
            for pending in asks:
                refused = await self._relay(pending)
                if refused is not None:
                    self._settle(pending.mark, refused)

        async with asyncio.TaskGroup() as tasks:
            for asks in by_receiver.values():
                tasks.create_task(relay(asks))

    def put(self, delivery: Delivery) -> None:
        """An answer came, or the timer of a wait."""
        if is_wake(delivery):
            self._wakes[delivery.headers.get(headers.ID, "")] = delivery
            return
        try:
            mark, outcome = answered(delivery)
        except (Undecodable, ValueError) as error:
            _log.error("an answer that cannot be read", actor=str(self._asker.address), error=str(error))
            mark, outcome = (0, delivery.sequence), Outcome()
        self._arrived[mark] = outcome, delivery
        self._settle(mark, outcome)

    async def acknowledge(self, opened: Open | None, *, suspended: bool = False) -> None:
        """Acknowledges every answer that no pending ask belongs to: it is recorded, or came too late; and the timers that fired
        of waits that are over. Of a turn that is being suspended all timers: those of its waits have been set once more."""
        for timer in [each for each in self._wakes if suspended or opened is None or not opened.waits_for(each)]:
            await self._wakes.pop(timer).ack()
        if opened is None:
            self._relaying.clear()
        pending = {each.mark for each in opened.asks.values()} if opened is not None else ()
        for mark in [mark for mark in self._arrived if mark not in pending]:
            _, delivery = self._arrived.pop(mark)
            await delivery.ack()
            self._asker.count("answers")

    def clear(self) -> None:
        """Forgets all; what is not acknowledged comes again where the actor is next."""
        self._waiting.clear()
        self._arrived.clear()
        self._wakes.clear()
        self._relaying.clear()

    async def _relay(self, pending: PendingAsk) -> Outcome | None:
        """Asks to one receiver leave in the order of their records, for he knows them by a mark that only rises."""
        async with self._relaying[Address(*pending.asked.to)]:
            refused = await relay_ask(self._asker.bus, self._asker.address, pending)
        return Outcome(failure=refused) if refused is not None else None

    async def _answer(self, pending: PendingAsk, waits: Waits) -> Outcome:
        known = self._arrived.get(pending.mark)
        if known is not None:
            return known[0]
        waiting: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting[pending.mark] = waiting
        try:
            async with asyncio.timeout((pending.asked.deadline_ms - self._asker.now_ms()) / 1000):
                with waits.waiting(waiting, pending.timer, pending.asked.deadline_ms):
                    return await waiting
        except TimeoutError:
            return Outcome(failure=failure(TIMEOUT, f"{'/'.join(pending.asked.to)} did not answer in time"))
        finally:
            self._waiting.pop(pending.mark, None)

    def _settle(self, mark: Mark, outcome: Outcome) -> None:
        waiting = self._waiting.get(mark)
        if waiting is not None and not waiting.done():
            waiting.set_result(outcome)
