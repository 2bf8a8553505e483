# ruff: noqa: ASYNC110  (what a mailbox holds, or another process did, can only be looked at)
"""Holes C5, H3 and H7, and what is left behind: a relay that comes late, a deletion that is cut off anywhere, the memory of an
actor that has had many messages."""

import asyncio
import gc
import tracemalloc
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import nats
import pytest

from regrow.actors import Actor, Event, Kind, Message, Policy, System, command, event, query
from regrow.actors.dead_letter import DeadLetters
from regrow.bus import Address, Box, EmbeddedServer, MemoryBus, encode, headers, open_bus
from regrow.testing.appends import replace_append

pytestmark = pytest.mark.asyncio

Post = Callable[..., Awaitable[int]]
PATIENCE_S = 10.0
WARM, MANY = 1_500, 1_500
BYTES_EACH_MAX = 40
"""What a message may leave behind: less than its id."""


class Add(Message[int]):
    amount: int


class Give(Message[None]):
    amount: int


class Remind(Message[None]):
    pass


class Total(Message[int]):
    pass


class Added(Event):
    amount: int


class Counter(Actor):
    total: int = 0

    @command
    async def add(self, msg: Add) -> int:
        self.emit(Added(amount=msg.amount))
        return self.total

    @command
    async def remind(self, msg: Remind) -> None:
        self.set_timer("late", Add(amount=100), after_s=0.05)

    @query
    async def read(self, msg: Total) -> int:
        return self.total

    @event
    def added(self, fact: Added) -> None:
        self.total += fact.amount


class Giver(Actor):
    given: int = 0

    @command
    async def give(self, msg: Give) -> None:
        self.send(self.ref(Counter, "c"), Add(amount=msg.amount))


def system(app: str, *, every: int = 500) -> System:
    return System(app, [Kind(actor=each, policy=Policy(snapshot_every=every)) for each in (Counter, Giver)])


async def test_a_relay_that_a_stopped_owner_sends_after_its_window_is_applied_once(
    nats_server: EmbeddedServer, app: str
) -> None:
    """H3: the owner stands still between its record and its relay, another node relays it, then the first one goes on."""
    one, two = [await nats.connect(nats_server.url) for _ in range(2)]
    stopped, go = asyncio.Event(), asyncio.Event()
    late: list[int] = []
    async with (
        open_bus(one, app, create=True, duplicate_window_s=0.1) as first,
        open_bus(two, app) as second,
    ):
        real: Post = first.mail.post

        async def post(
            box: Box, to: Address, body: bytes, given: Mapping[str, str] | None = None, *, message_id: str | None = None
        ) -> int:
            if box == "act" and to.key == "c":
                stopped.set()
                await asyncio.shield(go.wait())
            sequence = await real(box, to, body, given, message_id=message_id)
            late.append(sequence)
            return sequence

        await first.mail.post("in", Address("giver", "g"), encode(Give(amount=1)))
        relaying: list[asyncio.Task[int]] = []

        async def apart(*arguments: Any, **named: Any) -> int:
            """A process that is stopped is not cancelled: what it was about to send it sends."""
            relaying.append(asyncio.create_task(post(*arguments, **named)))
            return await asyncio.shield(relaying[-1])

        first.mail.post = apart  # type: ignore[method-assign]
        async with system(app).host(first):
            await stopped.wait()
            async with system(app).host(second) as node, asyncio.timeout(PATIENCE_S):
                while await node.ref(Counter, "c").ask(Total()) != 1:
                    await asyncio.sleep(0.01)
                await node.ref(Counter, "c").ask(Add(amount=10))
                await asyncio.sleep(0.3)  # the window of the server, which has no other clock
                go.set()
                while not late:
                    await asyncio.sleep(0.01)
                await asyncio.gather(*relaying)
                await second.mail.post("act", Address("counter", "c"), encode(Add(amount=0)), {headers.ID: "last"})
                assert await node.ref(Counter, "c").ask(Add(amount=100)) == 111
                assert await node.ref(Counter, "c").ask(Total()) == 111
        assert not await DeadLetters(second).list()
    await one.close()
    await two.close()


class Cut:
    """A bus whose process dies at the n-th of all that it does for its actors once it is told to count."""

    def __init__(self, bus: MemoryBus, number: int, *, after: bool) -> None:
        self.dead = asyncio.Event()
        self.count = 0
        self.counting = False
        self._number = number
        self._after = after
        names = ((bus.log, ("append", "read", "forget")), (bus.mail, ("unschedule", "schedule", "remove")))
        for owner, methods in names:
            for name in methods:
                setattr(owner, name, self._wrapped(getattr(owner, name)))
        replace_append(bus.log, bus.log.append)

    def _wrapped(self, real: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: Any, **named: Any) -> Any:
            if self.dead.is_set():
                await asyncio.Event().wait()
            self.count += self.counting
            here = self.counting and self.count == self._number
            if here and not self._after:
                await self._die()
            value = await real(*arguments, **named)
            if here:
                await self._die()
            return value

        return call

    async def _die(self) -> None:
        self.dead.set()
        await asyncio.Event().wait()


@pytest.mark.parametrize("after", [False, True])
async def test_a_deletion_that_is_cut_off_anywhere_is_one_deletion(app: str, after: bool) -> None:
    """H7: what waited is gone, no timer of the old life fires, and what comes later begins a new one."""
    address = Address("counter", "a")
    for number in range(1, 100):
        bus = MemoryBus(app)
        cut = Cut(bus, number, after=after)
        async with asyncio.timeout(PATIENCE_S):
            async with system(app).host(bus) as node:
                await node.ref(Counter, "a").ask(Add(amount=5))
                await node.ref(Counter, "a").ask(Remind())
                while bus.mail.waiting("in") or bus.mail.waiting("act"):
                    await asyncio.sleep(0)
                cut.counting = True
                order = {headers.ID: "d", headers.TYPE: "delete"}
                await bus.mail.post("act", address, b"null", order)
                while bus.mail.waiting("act") and not cut.dead.is_set():
                    await asyncio.sleep(0)
            cut.counting = False
            cut.dead.clear()
            async with system(app).host(bus) as node:
                while bus.mail.waiting("act"):
                    await asyncio.sleep(0)
                assert await node.ref(Counter, "a").ask(Total()) == 0
                assert await node.ref(Counter, "a").ask(Add(amount=1)) == 1
                await asyncio.sleep(0.06)  # the timer of the old life is due
                assert await node.ref(Counter, "a").ask(Add(amount=1)) == 2
        if cut.count < number:
            return
    raise AssertionError("a deletion does not do so much")


@pytest.mark.parametrize("direct", [True, False])
async def test_a_message_leaves_nothing_behind_in_its_process(app: str, direct: bool) -> None:
    """Each message of the outside is known by its id while its reply is kept, and then no more."""
    bus = MemoryBus(app)
    async with system(app, every=100).host(bus) as node:
        ref = node.ref(Counter, "a")

        async def many(count: int) -> int:
            for _ in range(count):
                if direct:
                    await ref.ask(Add(amount=1))
                else:
                    await ref.tell(Add(amount=1))
            if not direct:
                await ref.ask(Add(amount=1))
                while bus.mail.waiting("in"):
                    await asyncio.sleep(0)
            gc.collect()
            return tracemalloc.get_traced_memory()[0]

        tracemalloc.start()
        try:
            before = await many(WARM) if direct else await many(900)
            after = await many(MANY) if direct else await many(900)
        finally:
            tracemalloc.stop()
    assert after - before < BYTES_EACH_MAX * (MANY if direct else 900), (after - before) / MANY
