# ruff: noqa: ASYNC110  (what a log holds can only be looked at)
"""Holes C5, C7, H3 and poison: what an attack on one actor's life found, each as the smallest story that it takes."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.actors.counter import Add, Added, Counter, Total

from regrow.actors import Actor, Event, Kind, Message, Policy, System, command, event, tool
from regrow.actors.dead_letter import DeadLetters
from regrow.actors.records import Entry, Record, Steps, Tombstone, Turn
from regrow.bus import AccessDenied, Address, Box, Bus, PayloadTooLarge, StaleWriter, decode, encode, headers
from regrow.bus.port import Holding
from regrow.supervisor import Backoff
from regrow.testing.appends import replace_append

pytestmark = pytest.mark.asyncio

OpenBus = Callable[[], Awaitable[Bus]]
AT_ONCE = Policy(backoff=Backoff(first_s=0.0))
LARGE, TOO_LARGE_BYTES = 3_000_000, 65 << 20
PATIENCE_S = 5.0


async def entries(bus: Bus, kind: str, key: str) -> list[Entry]:
    """All that an actor's log holds."""
    stored = await bus.log.read(Address(kind, key))
    return [entry for each in stored for entry in decode(each.data, Record, "record").entries]


def counters(app: str, policy: Policy = AT_ONCE) -> System:
    return System(app, [Kind(actor=Counter, policy=policy)])


class Announcing(Actor):
    """Says when its handler is running."""

    total: int = 0

    @command
    async def add(self, msg: Add) -> int:
        self.port("adding")(msg.amount)
        self.emit(Added(amount=1))
        return self.total

    @event
    def added(self, fact: Added) -> None:
        self.total += fact.amount


async def test_mail_in_the_middle_of_a_passivation_is_handled_once(
    bus: Bus, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C7: the snapshot of an idle actor and the turn that comes meanwhile are two writers of one copy."""
    real = bus.log.append
    snapping, turning, go = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def append(address: Address, data: bytes, *, rid: str, after: int, rollup: bool = False) -> int:
        if rollup:
            snapping.set()
            await go.wait()
        return await real(address, data, rid=rid, after=after, rollup=rollup)

    def adding(amount: int) -> None:
        if amount == 2:
            turning.set()

    replace_append(bus.log, append)
    monkeypatch.setattr("regrow.actors.host.TIDY_S", 0.02)
    made = System(app, [Kind(actor=Announcing, policy=AT_ONCE, idle_after_s=0.0)], ports={"adding": adding})
    async with made.host(bus) as node, asyncio.timeout(PATIENCE_S):
        ref = node.ref(Announcing, "a")
        assert [await ref.ask(Add(amount=1)), await ref.ask(Add(amount=1))] == [1, 2]
        await snapping.wait()
        asking = asyncio.create_task(ref.ask(Add(amount=2)))
        await turning.wait()
        go.set()
        assert await asking == 3
        assert await ref.ask(Add(amount=1)) == 4


class Keep(Message[int]):
    text: str


class Kept(Event):
    length: int


@tool
async def tick(number: int) -> int:
    await asyncio.sleep(0)
    return number


class Keeper(Actor):
    total: int = 0

    @command
    async def keep(self, msg: Keep) -> int:
        await tick(1)
        await tick(2)
        await self.port("gate").wait()
        self.emit(Kept(length=len(msg.text)))
        return self.total

    @event
    def kept(self, fact: Kept) -> None:
        self.total += fact.length


async def until_begun(bus: Bus, count: int) -> None:
    """The turn has recorded so many steps."""
    while sum(len(each.steps) for each in await entries(bus, "keeper", "a") if isinstance(each, Steps)) < count:
        await asyncio.sleep(0.005)


async def test_a_deletion_that_is_seen_again_takes_nothing_from_the_life_after_it(
    open_another: OpenBus, app: str
) -> None:
    """C7: a begun turn, whose message is kept beside the log for its size, follows a tombstone."""
    gate = asyncio.Event()
    made = System(app, [Kind(actor=Keeper, policy=AT_ONCE)], ports={"gate": gate})
    bus = await open_another()
    async with made.host(bus) as node, asyncio.timeout(PATIENCE_S):
        gate.set()
        await node.ref(Keeper, "a").ask(Keep(text="x"))
        gate.clear()
        await bus.mail.post("act", Address("keeper", "a"), b"null", {headers.ID: "d", headers.TYPE: "delete"})
        while not any(isinstance(each, Tombstone) for each in await entries(bus, "keeper", "a")):
            await asyncio.sleep(0.005)
        await node.ref(Keeper, "a").tell(Keep(text="x" * LARGE))
        await until_begun(bus, 2)
    async with made.host(await open_another()) as node, asyncio.timeout(PATIENCE_S):
        while node.host.statistics["steps_from_log"] < 2:
            await asyncio.sleep(0.005)
    gate.set()
    async with made.host(await open_another()) as node, asyncio.timeout(PATIENCE_S):
        await node.ref(Keeper, "a").tell(Keep(text="y"))
        assert await node.ref(Keeper, "a").ask(Keep(text="y")) in (LARGE + 1, LARGE + 2)


class Poison(Message[int]):
    pass


class Frail(Actor):
    total: int = 0

    @command
    async def poison(self, msg: Poison) -> int:
        self.port("reached").set()
        await asyncio.Event().wait()
        return 0

    @command
    async def add(self, msg: Add) -> int:
        self.emit(Added(amount=msg.amount))
        return self.total

    @event
    def added(self, fact: Added) -> None:
        self.total += fact.amount


async def test_poison_in_one_mailbox_is_counted_although_the_other_has_mail(open_another: OpenBus, app: str) -> None:
    """Poison: every node is taken over from while it is at it, which is its death to whoever comes next."""
    address = Address("frail", "a")
    bus = await open_another()
    given = {headers.ID: "e.1.5.0", headers.SENDER: "x", headers.SENT: "9999999999999"}
    await bus.mail.post("act", address, encode(Poison()), given)
    async with AsyncExitStack() as nodes, asyncio.timeout(30):
        for number in range(6):
            reached = asyncio.Event()
            await bus.mail.post("in", address, encode(Add(amount=1)), {headers.ID: f"i{number}"})
            policy = Policy(backoff=Backoff(first_s=0.0), deaths_max=2)
            made = System(app, [Kind(actor=Frail, policy=policy)], ports={"reached": reached})
            await nodes.enter_async_context(made.host(await open_another()))
            while not reached.is_set() and not await given_up(bus):
                await asyncio.sleep(0.005)
            if not reached.is_set():
                break
        assert [each.cause.kind for each in await DeadLetters(bus).list()] == ["poison"]


async def given_up(bus: Bus) -> bool:
    """Whether a turn of the frail one has failed for good."""
    return any(isinstance(each, Turn) and each.reply.failure for each in await entries(bus, "frail", "a"))


class NotAtFirst:
    """A claim that could not be proved the first time it was looked at."""

    def __init__(self, holding: Holding) -> None:
        self._holding = holding
        self.looks = 0

    async def take_over(self) -> None:
        await self._holding.take_over()

    async def holds(self, shard: int) -> bool:
        self.looks += 1
        return self.looks > 1 and await self._holding.holds(shard)


async def test_a_query_that_met_a_node_which_does_not_hold_the_shard_is_asked_again(
    bus: Bus, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H3: such a node says nothing, and whoever asks does not wait for it to the end."""
    real, proofs = bus.mail.serve, list[NotAtFirst]()

    @asynccontextmanager
    async def serve(*arguments: Any) -> AsyncGenerator[Holding]:
        async with real(*arguments) as holding:
            proofs.append(NotAtFirst(holding))
            yield proofs[0]

    monkeypatch.setattr(bus.mail, "serve", serve)
    monkeypatch.setattr("regrow.actors.asking.QUERY_FIRST_S", 0.1)
    async with counters(app).host(bus) as node, asyncio.timeout(PATIENCE_S):
        assert await node.ref(Counter, "a").ask(Total(), timeout_s=60.0) == 0
    assert proofs[0].looks == 2


class Spread(Message[int]):
    pass


class Spreader(Actor):
    count: int = 0

    @command
    async def spread(self, msg: Spread) -> int:
        for key in ("x", "y"):
            self.send(self.ref(Counter, key), Add(amount=1))
        return 7


async def test_a_stale_copy_that_cannot_note_a_failed_send_reads_its_log_again(
    bus: Bus, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C5: several sends leave at once, and what one of them meets is what the actor hears."""
    real, real_post = bus.log.append, bus.mail.post
    lost = False

    async def append(address: Address, data: bytes, *, rid: str, after: int, rollup: bool = False) -> int:
        nonlocal lost
        if b"SendFailed" in data and not lost:
            lost = True
            raise StaleWriter(after, after + 1)
        return await real(address, data, rid=rid, after=after, rollup=rollup)

    async def post(
        box: Box, to: Address, body: bytes, given: Mapping[str, str] | None = None, *, message_id: str | None = None
    ) -> int:
        if to.key == "x":
            raise AccessDenied("x")
        return await real_post(box, to, body, given, message_id=message_id)

    replace_append(bus.log, append)
    monkeypatch.setattr(bus.mail, "post", post)
    made = System(app, [Kind(actor=Spreader, policy=AT_ONCE), Counter])
    with capture_logs() as logged:
        async with made.host(bus) as node:
            assert await node.ref(Spreader, "a").ask(Spread(), timeout_s=PATIENCE_S) == 7
            assert await node.ref(Spreader, "a").ask(Spread(), timeout_s=PATIENCE_S) == 7
    assert lost
    assert not [each for each in logged if "cannot go on" in each["event"]]


async def test_a_snapshot_beside_a_whole_log_that_cannot_be_read_is_none(open_another: OpenBus, app: str) -> None:
    """C7: where the history is kept, a snapshot is only a short cut."""
    keep = Policy(history="keep", snapshot_every=2)
    bus = await open_another()
    async with counters(app, keep).host(bus) as node:
        for _ in range(5):
            await node.ref(Counter, "a").ask(Add(amount=1))
    await bus.log.save(Address("counter", "a"), b'{"state":{"old":1},"image":{}}', 1000)
    async with counters(app, keep).host(await open_another()) as node:
        assert await node.ref(Counter, "a").ask(Add(amount=1), timeout_s=PATIENCE_S) == 6


async def test_mail_of_the_runtime_that_no_runtime_wrote_is_a_dead_letter_and_holds_nobody_up(
    bus: Bus, app: str
) -> None:
    """C3: a relay whose id has no mark."""
    given = {headers.ID: "garbage", headers.SENDER: "x"}
    await bus.mail.post("act", Address("counter", "a"), encode(Add(amount=1)), given)
    async with counters(app).host(bus) as node:
        assert await node.ref(Counter, "a").ask(Add(amount=1), timeout_s=PATIENCE_S) == 1
        assert [each.cause.kind for each in await DeadLetters(bus).list()] == ["undecodable"]


class Weigh(Message[int]):
    text: str


class Weigher(Actor):
    count: int = 0

    @command
    async def weigh(self, msg: Weigh) -> int:
        return await tick(1)

    @command
    async def add(self, msg: Add) -> int:
        return msg.amount


async def test_an_ask_of_the_process_that_is_too_large_for_the_bus_fails_alone(bus: Bus, app: str) -> None:
    """Own-process asks: a handler with a step has to put its message into the mailbox, where this one does not fit."""
    async with System(app, [Kind(actor=Weigher, policy=AT_ONCE)]).host(bus) as node:
        with pytest.raises(PayloadTooLarge):
            await node.ref(Weigher, "a").ask(Weigh(text="x" * TOO_LARGE_BYTES), timeout_s=PATIENCE_S)
        assert await node.ref(Weigher, "a").ask(Add(amount=1), timeout_s=PATIENCE_S) == 1


class Died(Exception):
    """The end of a process that did not let go of its shards."""


@pytest.mark.parametrize("body", [b'{"type":"Unheard"}', encode(Total())])
async def test_mail_that_no_command_handles_does_not_stop_its_actor_after_an_unclean_death(
    open_another: OpenBus, app: str, body: bytes
) -> None:
    """Poison: what waited when a process died is suspect, and yet may be a query or nothing that can be read."""
    dead = await open_another()
    with pytest.raises(Died):
        async with dead.mail.serve(lambda delivery: None, lambda shard: None):
            await dead.mail.post("in", Address("counter", "a"), body, {headers.ID: "x"})
            raise Died
    async with counters(app).host(await open_another()) as node:
        assert await node.ref(Counter, "a").ask(Add(amount=1), timeout_s=PATIENCE_S) == 1
        assert await node.ref(Counter, "a").ask(Add(amount=1), timeout_s=PATIENCE_S) == 2


async def test_a_relay_of_a_sender_without_a_mark_that_is_a_day_old_is_a_dead_letter(bus: Bus, app: str) -> None:
    """C5: its mark may be forgotten, so it may be a repetition; the sender's next relay is taken."""
    address, sender = Address("counter", "a"), "other%2Fx"

    async def relay(number: int, sent_ms: int) -> None:
        given = {headers.ID: f"e.0.{number}.0", headers.SENDER: sender, headers.SENT: str(sent_ms)}
        await bus.mail.post("act", address, encode(Add(amount=number)), given)

    await relay(1, 1_000)
    await relay(2, 4_000_000_000_000)
    await relay(3, 1_000)  # old as well, but its sender is known
    await relay(2, 4_000_000_000_000)  # a repetition
    async with counters(app).host(bus) as node, asyncio.timeout(PATIENCE_S):
        while await node.ref(Counter, "a").ask(Total()) != 5:
            await asyncio.sleep(0.005)
        assert await node.ref(Counter, "a").ask(Add(amount=1)) == 6
        assert [(each.message.id, each.cause.kind) for each in await DeadLetters(bus).list()] == [("e.0.1.0", "late")]


async def test_a_mark_that_was_forgotten_for_its_age_applies_nothing_twice(
    bus: Bus, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C5: after a day of other senders' relays, a repetition of an old one is given up, and never applied again."""
    monkeypatch.setattr("regrow.actors.image.MARKS_KEPT_MS", 1_000)
    address = Address("counter", "a")

    async def relay(sender: str, number: int, sent_ms: int, amount: int) -> None:
        given = {headers.ID: f"e.0.{number}.0", headers.SENDER: sender, headers.SENT: str(sent_ms)}
        await bus.mail.post("act", address, encode(Add(amount=amount)), given)

    future_ms = 4_000_000_000_000
    await relay("one", 1, future_ms, 1)
    await relay("two", 9, future_ms + 5_000, 10)
    async with counters(app).host(bus) as node, asyncio.timeout(PATIENCE_S):
        while await node.ref(Counter, "a").ask(Total()) != 11:
            await asyncio.sleep(0.005)
        await relay("one", 1, 1_000, 1)  # the repetition of a relay as old as that
        while not (dead := await DeadLetters(bus).list()):
            await asyncio.sleep(0.005)
        assert [each.cause.kind for each in dead] == ["late"]
        assert await node.ref(Counter, "a").ask(Total()) == 11
