"""Dead letters in a person's hands: looked at, handled once more, dropped; on both buses."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import msgspec
import pytest

from regrow.actors import Actor, AskFailed, Client, Event, Kind, Message, Node, Policy, System, command, event, query
from regrow.actors.dead_letter import DeadLetter, DeadLetters, NoDeadLetter, NotReplayable, bury
from regrow.actors.errors import failure
from regrow.actors.records import Letter
from regrow.bus import Address, Bus, MemoryBus, NatsBus, StoreFull, encode

pytestmark = pytest.mark.asyncio

OpenBus = Callable[[], Awaitable[Bus]]
BROKEN = "broken"


class Add(Message[int]):
    amount: int


class Pass(Message[int]):
    amount: int


class Inquire(Message[int]):
    amount: int


class Later(Message[int]):
    amount: int


class Total(Message[int]):
    pass


class Added(Event):
    amount: int


class Ledger(Actor):
    total: int = 0

    @command
    async def add(self, msg: Add) -> int:
        if self.port(BROKEN):
            raise RuntimeError("broken")
        self.emit(Added(amount=msg.amount))
        return self.total

    @command
    async def later(self, msg: Later) -> int:
        self.set_timer("later", Add(amount=msg.amount), after_s=0)
        return 0

    @query
    async def read(self, msg: Total) -> int:
        return self.total

    @event
    def added(self, fact: Added) -> None:
        self.total += fact.amount


class Sender(Actor):
    @command
    async def pass_on(self, msg: Pass) -> int:
        self.send(self.ref(Ledger, "a"), Add(amount=msg.amount))
        return 0

    @command
    async def inquire(self, msg: Inquire) -> int:
        try:
            return await self.ref(Ledger, "a").ask(Add(amount=msg.amount))
        except AskFailed:
            return -1


@pytest.fixture
def broken() -> list[bool]:
    """Holds something as long as the ledger is broken."""
    return [True]


@pytest.fixture
def hosted(bus: Bus, app_name: str, broken: list[bool]) -> AbstractAsyncContextManager[Node]:
    policy = Policy(attempts_max=1)
    kinds = [Kind(actor=Ledger, policy=policy), Kind(actor=Sender, policy=policy)]
    return System(app_name, kinds, ports={BROKEN: broken}).checked().host(bus)


async def buried(letters: DeadLetters, count: int = 1) -> list[DeadLetter]:
    while len(found := await letters.list()) < count:
        pass
    return list(found)


async def total_is(node: Node, total: int) -> None:
    """Waits until it is at least so much, then until what was put into ACT before is taken, and looks whether it is more."""
    while await node.ref(Ledger, "a").ask(Total()) < total:
        pass
    await node.ref(Sender, "s").ask(Pass(amount=1_000))
    while await node.ref(Ledger, "a").ask(Total()) < total + 1_000:
        pass
    assert await node.ref(Ledger, "a").ask(Total()) == total + 1_000


async def test_a_dead_letter_says_what_was_given_up_and_why(
    bus: Bus, hosted: AbstractAsyncContextManager[Node]
) -> None:
    letters = DeadLetters(bus)
    async with hosted:
        with pytest.raises(AskFailed, match="broken"):
            await Client(bus).ref(Ledger, "a").ask(Add(amount=7))
    (dead,) = await letters.list()
    assert (dead.kind, dead.key, dead.cause.kind, dead.message.box) == ("ledger", "a", "defect", "in")
    assert "broken" in dead.cause.message
    assert msgspec.json.decode(dead.message.body) == {"type": "Add", "amount": 7}
    assert dead.time_ns > 1_700_000_000 * 10**9
    assert await letters.show(dead.sequence) == dead
    assert await letters.list("ledger", "a") == await letters.list("ledger") == (dead,)
    assert await letters.list("ledger", "b") == await letters.list("sender") == ()
    await letters.drop(dead.sequence)
    for act in (letters.drop, letters.show, letters.replay):
        with pytest.raises(NoDeadLetter, match=f"there is no dead letter {dead.sequence}"):
            await act(dead.sequence)


@pytest.mark.parametrize("way", ["tell", "ask", "relay", "timer", "inquiry"])
async def test_a_replayed_letter_is_applied_once_though_the_replay_was_cut_short(
    bus: Bus,
    hosted: AbstractAsyncContextManager[Node],
    broken: list[bool],
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    letters, real = DeadLetters(bus), bus.dead.drop
    async with hosted as node:
        if way == "tell":
            await node.ref(Ledger, "a").tell(Add(amount=7))
        elif way == "ask":
            with pytest.raises(AskFailed):
                await node.ref(Ledger, "a").ask(Add(amount=7))
        elif way == "relay":
            await node.ref(Sender, "s").ask(Pass(amount=7))
        elif way == "timer":
            await node.ref(Ledger, "a").ask(Later(amount=7))
        else:
            assert await node.ref(Sender, "s").ask(Inquire(amount=7)) == -1
        (dead,) = await buried(letters)
        assert dead.message.box == ("in" if way == "tell" else "act")
        broken.clear()

        async def cut_short(sequence: int) -> bool:
            raise StoreFull("x")

        monkeypatch.setattr(bus.dead, "drop", cut_short)
        for _ in range(2):
            with pytest.raises(StoreFull):
                await letters.replay(dead.sequence)
        monkeypatch.setattr(bus.dead, "drop", real)
        while await node.ref(Ledger, "a").ask(Total()) < 7:
            pass
        await letters.replay(dead.sequence)
        assert await letters.list() == ()
        await total_is(node, 7)


async def test_one_that_fails_again_is_a_new_dead_letter_that_can_be_replayed_too(
    bus: Bus, hosted: AbstractAsyncContextManager[Node], broken: list[bool]
) -> None:
    letters = DeadLetters(bus)
    async with hosted as node:
        await node.ref(Sender, "s").ask(Pass(amount=7))
        (first,) = await buried(letters)
        await letters.replay(first.sequence)
        (second,) = await buried(letters)
        assert second.sequence > first.sequence
        assert second.message.body == first.message.body
        broken.clear()
        await letters.replay(second.sequence)
        await total_is(node, 7)


@pytest.mark.parametrize(("body", "coding"), [(b"nonsense {", "text"), (b"\xff\x00nonsense", "base64")])
async def test_what_was_no_json_is_replayed_byte_by_byte(
    bus: Bus, hosted: AbstractAsyncContextManager[Node], body: bytes, coding: str
) -> None:
    letters = DeadLetters(bus)
    async with hosted:
        await bus.mail.post("in", Address("ledger", "a"), body)
        (first,) = await buried(letters)
        assert (first.coding, first.payload()) == (coding, body)
        await letters.replay(first.sequence)
        (second,) = await buried(letters)
        assert second.payload() == body


async def test_a_large_one_is_kept_whole(bus: Bus, hosted: AbstractAsyncContextManager[Node]) -> None:
    letters, body = DeadLetters(bus), encode("x" * (9 << 20))
    async with hosted:
        await bus.mail.post("in", Address("ledger", "a"), body)
        (listed,) = await buried(letters)
        assert (listed.coding, listed.message.body) == ("elsewhere", msgspec.Raw(b"null"))
        assert (await letters.show(listed.sequence)).payload() == body
        await letters.replay(listed.sequence)
        (again,) = await buried(letters)
        assert again.sequence > listed.sequence
        assert (await letters.show(again.sequence)).payload() == body


async def test_one_whose_body_is_lost_is_refused_and_stays(bus: Bus) -> None:
    letters, address = DeadLetters(bus), Address("ledger", "a")
    letter = Letter("in", 3, "x", msgspec.Raw(encode("x" * (9 << 20))))
    await bury(bus, address, letter, failure("defect", "broken"))
    assert isinstance(bus, MemoryBus | NatsBus)
    await bus.claims.drop("dead", address)
    (dead,) = await letters.list()
    with pytest.raises(NotReplayable, match="its body was put aside and is not in the store of blobs"):
        await letters.replay(dead.sequence)
    assert await letters.list() == (dead,)


async def test_mail_that_named_no_actor_can_be_looked_at_and_dropped(nats_bus: NatsBus) -> None:
    letters = DeadLetters(nats_bus)
    await nats_bus.request(nats_bus.subjects.nobody("rg.a.q.1.ledger.=zz"), b"hello", timeout_s=10)
    (dead,) = await letters.list()
    assert (dead.kind, dead.key, dead.payload()) == ("ledger", "=zz", b"hello")
    with pytest.raises(NotReplayable, match="a subject that names no actor"):
        await letters.replay(dead.sequence)
    await letters.drop(dead.sequence)
    assert await letters.list() == ()


async def test_more_than_a_page_of_them_are_listed_and_those_of_one_actor_dropped(bus: Bus) -> None:
    letters = DeadLetters(bus)
    for number in range(120):
        letter = Letter("in", number + 1, f"{number}", msgspec.Raw(b"1"))
        await bury(bus, Address("ledger", f"{number % 2}"), letter, failure("defect", "broken"))
    assert [each.message.id for each in await letters.list()] == [f"{number}" for number in range(120)]
    assert await letters.drop_all(Address("ledger", "1")) == 60
    assert {each.key for each in await letters.list()} == {"0"}


async def test_a_replay_is_refused_where_the_mailbox_is_full_and_the_letter_stays(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = DeadLetters(bus)
    await bury(bus, Address("ledger", "a"), Letter("in", 1, "x", msgspec.Raw(b"1")), failure("defect", "broken"))

    async def full(*arguments: object, **named: object) -> int:
        raise StoreFull("x")

    monkeypatch.setattr(bus.mail, "post", full)
    with pytest.raises(StoreFull):
        await letters.replay(1)
    assert len(await letters.list()) == 1
