"""What an actor that waits in its handler, with a full mailbox, costs the other actors of its shard.

``park`` measures asks from outside to its neighbours with it and without it, by turns: 1,000 messages of the outside and as many
relays of other actors as wanted wait for it meanwhile. Its floor is the same without it.
"""

import asyncio
import gc
import time
from collections.abc import Sequence
from itertools import count
from typing import Any

import msgspec

from regrow.actors import Actor, Kind, Message, Node, System, command
from regrow.bench.actors import Add, Counter
from regrow.bench.sample import Compared, Sample, compared, sample
from regrow.bench.stage import APP, Stage, stage
from regrow.bus import Address, encode
from regrow.bus.server import Durability
from regrow.bus.subjects import shard_of

GATE = "gate"
NEIGHBOURS = 10
ASKERS = 4
"""Askers at once; each asks one neighbour after the other."""
SENDERS = 100
POLL_S = 0.05
EMPTY_TIMEOUT_S = 300.0


class Park(Message[None]):
    """Waits in its handler until the gate is opened."""


class Knock(Message[None]):
    """Something that waits behind it."""


class Send(Message[None]):
    """Sends so many knocks to a parked actor."""

    key: str
    count: int


class Parked(Actor, kind="bench_parked", persist="fields"):
    """Waits, and is sent messages meanwhile."""

    knocks: int = 0

    @command
    async def park(self, msg: Park) -> None:
        gate: asyncio.Event = self.port(GATE)
        await gate.wait()

    @command
    async def knock(self, msg: Knock) -> None:
        self.knocks += 1


class Sender(Actor, kind="bench_sender", persist="fields"):
    """Sends."""

    sent: int = 0

    @command
    async def send_all(self, msg: Send) -> None:
        to = self.ref(Parked, msg.key)
        for _ in range(msg.count):
            self.send(to, Knock())
        self.sent += msg.count


class Parking(msgspec.Struct, frozen=True, kw_only=True):
    """What was found."""

    v: int = 1
    durability: Durability
    p50_ms: Compared
    """Of an ask to a neighbour, with the parked one and, as the floor, without it."""
    p99_ms: Compared
    with_parked_ms: list[Sample]
    without_ms: list[Sample]
    messages: int
    """Of the outside that waited, the one in the handler among them."""
    relays: int
    refused: str
    """What the server said to the publisher of the next message."""
    loop: str


class Place:
    """A parked actor, those who send to it, and its neighbours, on one node."""

    def __init__(self, here: Stage, node: Node, gate: asyncio.Event) -> None:
        self._here = here
        self._node = node
        self._gate = gate
        self.parked = Address(Parked.__regrow__.kind, "p")
        self._neighbours = [here.bus.subjects.ask(each) for each in neighbours(self.parked, NEIGHBOURS)]
        self.messages = 0
        self.refused = ""

    async def park(self, relays: int) -> None:
        """Parks the actor, fills its mailbox until the publisher is refused, and has others send to it."""
        self._gate.clear()
        here, subject = self._here, self._here.bus.subjects.mail("in", self.parked)
        self.messages, answer = 0, await here.raw.request(subject, encode(Park()))
        while b'"error"' not in answer:
            self.messages += 1
            answer = await here.raw.request(subject, encode(Knock()))
        self.refused = answer.decode()
        shares = [relays // SENDERS + (number < relays % SENDERS) for number in range(SENDERS)]
        async with asyncio.TaskGroup() as tasks:
            for number, share in enumerate(shares):
                sender = self._node.ref(Sender, str(number))
                tasks.create_task(sender.ask(Send(key=self.parked.key, count=share)))
        await self._wait_mail("act", relays)

    async def release(self) -> None:
        """Lets the actor go on, and returns once nothing waits any more."""
        self._gate.set()
        await self._wait_mail("in", 0)
        await self._wait_mail("act", 0)

    async def ask(self, asks: int) -> list[float]:
        """How long each of so many asks to neighbours took, in milliseconds."""
        times: list[float] = []
        numbers = iter(range(asks))

        async def some() -> None:
            for number in numbers:
                begun = time.perf_counter()
                await self._here.raw.request(self._neighbours[number % NEIGHBOURS], encode(Add(amount=1)))
                times.append((time.perf_counter() - begun) * 1000)

        gc.collect()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(ASKERS):
                tasks.create_task(some())
        return times

    async def _wait_mail(self, box: Any, waiting: int) -> None:
        """Returns once so many messages wait in a mailbox's stream."""
        stream = self._here.bus.subjects.mail_stream(box)
        async with asyncio.timeout(EMPTY_TIMEOUT_S):
            while (await self._here.raw.state(stream))["messages"] != waiting:  # noqa: ASYNC110 # nobody tells
                await asyncio.sleep(POLL_S)


async def park(*, asks: int, relays: int, repeat: int, durability: Durability = "process") -> Parking:
    """So many asks in each measurement, without a parked actor and with one, by turns."""
    gate = asyncio.Event()
    system = System(APP, [Kind(actor=each) for each in (Parked, Sender, Counter)], ports={GATE: gate})
    free, beside = list[Sample](), list[Sample]()
    async with stage(durability) as here, system.host(here.bus) as node:
        place = Place(here, node, gate)
        await place.ask(asks)
        for _ in range(repeat):
            free.append(sample(await place.ask(asks)))
            await place.park(relays)
            beside.append(sample(await place.ask(asks)))
            await place.release()
    return Parking(
        durability=durability,
        p50_ms=compared([each.p50 for each in beside], [each.p50 for each in free]),
        p99_ms=compared([each.p99 for each in beside], [each.p99 for each in free]),
        with_parked_ms=beside,
        without_ms=free,
        messages=place.messages,
        relays=relays,
        refused=place.refused,
        loop=type(asyncio.get_running_loop()).__module__.partition(".")[0],
    )


def neighbours(of: Address, wanted: int) -> Sequence[Address]:
    """Counters whose shard is that of the address."""
    found: list[Address] = []
    for number in count():
        address = Address(Counter.__regrow__.kind, f"n{number}")
        if shard_of(address) == shard_of(of):
            found.append(address)
        if len(found) == wanted:
            break
    return found
