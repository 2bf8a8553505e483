# ruff: noqa: ASYNC110  (what a mailbox holds, or another process did, can only be looked at)
"""Hole C3: an actor that is parked in a turn, with a full mailbox and thousands of relays behind it, holds nobody up, costs no
memory for what waits, hears its replies and timers, and then takes everything in order."""

import asyncio

import pytest

from regrow.actors import Actor, Event, Kind, Message, System, command, event, query
from regrow.bus import Address, MailboxFull, NatsBus, encode, headers
from regrow.bus.streams import MAILBOX_MESSAGES_MAX
from regrow.bus.subjects import Box, shard_of

pytestmark = pytest.mark.asyncio

RELAYS = 2_000
PARKED = Address("parked", "p")


class Park(Message[int]):
    """Waits for another actor, and for a timer that was set before."""


class Count(Message[None]):
    number: int


class Wake(Message[None]):
    pass


class Later(Message[None]):
    pass


class Hold(Message[int]):
    pass


class Counted(Event):
    number: int


class Woken(Event):
    pass


class Seen(Message[tuple[list[int], list[int], int]]):
    pass


class Parked(Actor):
    """Notes in which order it was told; those of the outside are below ``MAILBOX_MESSAGES_MAX``."""

    outside: list[int] = []
    relayed: list[int] = []
    wakes: int = 0

    @command
    async def park(self, msg: Park) -> int:
        return await self.ref(Holder, "h").ask(Hold(), timeout_s=60.0)

    @command
    async def later(self, msg: Later) -> None:
        self.set_timer("wake", Wake(), after_s=0.2)

    @command
    async def count(self, msg: Count) -> None:
        self.emit(Counted(number=msg.number))

    @command
    async def wake(self, msg: Wake) -> None:
        self.emit(Woken())

    @query
    async def seen(self, msg: Seen) -> tuple[list[int], list[int], int]:
        return self.outside, self.relayed, self.wakes

    @event
    def counted(self, fact: Counted) -> None:
        (self.outside if fact.number < MAILBOX_MESSAGES_MAX else self.relayed).append(fact.number)

    @event
    def woken(self, fact: Woken) -> None:
        self.wakes += 1


class Holder(Actor):
    count: int = 0

    @command
    async def hold(self, msg: Hold) -> int:
        self.port("holding").set()
        await self.port("gate").wait()
        return 7


class Neighbour(Actor, kind="neighbour"):
    count: int = 0

    @command
    async def hold(self, msg: Hold) -> int:
        return 1


def neighbour() -> str:
    """The key of an actor in the same shard."""
    return next(str(n) for n in range(100_000) if shard_of(Address("neighbour", str(n))) == shard_of(PARKED))


async def fill(bus: NatsBus) -> None:
    """All that may come from outside, and relays of one sender."""
    filled = 0

    async def tell(number: int) -> None:
        nonlocal filled
        await bus.mail.post("in", PARKED, encode(Count(number=number)), {headers.ID: f"o{number}"})
        filled += 1

    for number in range(1, MAILBOX_MESSAGES_MAX):
        await tell(number)
    with pytest.raises(MailboxFull):
        await tell(0)
    for number in range(RELAYS):
        given = {headers.ID: f"e.0.{number + 1}.0", headers.SENDER: "other%2Fx", headers.SENT: "4000000000000"}
        body = encode(Count(number=MAILBOX_MESSAGES_MAX + number))
        await bus.mail.post("act", PARKED, body, given)


async def test_a_parked_actor_with_a_full_mailbox_holds_nobody_up_and_then_takes_all_in_order(
    nats_bus: NatsBus, app: str
) -> None:
    gate, holding = asyncio.Event(), asyncio.Event()
    kinds = [Kind(actor=each) for each in (Parked, Holder, Neighbour)]
    async with System(app, kinds, ports={"gate": gate, "holding": holding}).host(nats_bus) as node:
        parked, beside = node.ref(Parked, PARKED.key), node.ref(Neighbour, neighbour())
        await parked.ask(Later())
        await nats_bus.mail.post("in", PARKED, encode(Park()), {headers.ID: "park"})
        await holding.wait()
        await fill(nats_bus)
        assert await beside.ask(Hold(), timeout_s=10.0) == 1
        assert await parked.ask(Seen(), timeout_s=10.0) == ([], [], 0)
        mail = node.host._groups["parked"].cell(PARKED)._letters.waiting  # pyright: ignore[reportPrivateUsage]
        boxes: tuple[Box, ...] = ("in", "act")
        waiting = {box: [bool(each.body) for each in mail if each.box == box] for box in boxes}
        assert {box: len(each) for box, each in waiting.items()}["in"] == MAILBOX_MESSAGES_MAX - 1
        assert all(sum(each) <= 64 + 1 for each in waiting.values()), "bodies of what waits are in memory"
        gate.set()
        async with asyncio.timeout(30):
            while len((seen := await parked.ask(Seen()))[1]) < RELAYS or len(seen[0]) < MAILBOX_MESSAGES_MAX - 1:
                await asyncio.sleep(0.05)
        assert seen[0] == list(range(1, MAILBOX_MESSAGES_MAX))
        assert seen[1] == list(range(MAILBOX_MESSAGES_MAX, MAILBOX_MESSAGES_MAX + RELAYS))
        assert seen[2] == 1
