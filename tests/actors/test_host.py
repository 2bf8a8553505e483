"""The edges of a node: nothing that anybody sends may end the host or the gateway, and two hosts do not share an actor."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import msgspec
import pytest

from regrow.actors import (
    Actor,
    AskFailed,
    AskTimeout,
    Event,
    Kind,
    Message,
    Policy,
    System,
    command,
    event,
    query,
    tool,
)
from regrow.actors.dead_letter import DeadLetter
from regrow.bus import (
    Address,
    Box,
    Bus,
    Delivery,
    MailboxFull,
    NoResponder,
    PayloadTooLarge,
    Request,
    RequestTimeout,
    StaleWriter,
    StoreFull,
    Unreachable,
    encode,
    headers,
)
from regrow.bus.subjects import shard_of
from regrow.testing.appends import replace_append

pytestmark = pytest.mark.asyncio

OpenBus = Callable[[], Awaitable[Bus]]
DeadLetters = Callable[[], Awaitable[list[DeadLetter]]]
Append = Callable[..., Awaitable[int]]

RAN: list[str] = []


class Add(Message[int]):
    amount: int


class Work(Message[int]):
    name: str
    parts: int = 1


class Total(Message[int]):
    pass


class Broken(Message[int]):
    pass


class Added(Event):
    amount: int


@tool
async def part(name: str, number: int) -> str:
    RAN.append(f"{name}{number}")
    return name


class Counter(Actor):
    total: int = 0

    @command
    async def add(self, msg: Add) -> int:
        self.emit(Added(amount=msg.amount))
        return self.total

    @command
    async def work(self, msg: Work) -> int:
        parts = await asyncio.gather(*(part(msg.name, number) for number in range(msg.parts)))
        self.emit(Added(amount=len(parts)))
        return self.total

    @query
    async def read(self, msg: Total) -> int:
        return self.total

    @query
    async def broken(self, msg: Broken) -> int:
        raise ValueError("broken")

    @event
    def added(self, fact: Added) -> None:
        self.total += fact.amount


@pytest.fixture(autouse=True)
def fresh_witness() -> None:
    RAN.clear()


def system(app_name: str, **policy: float) -> System:
    return System(app_name, actors=[Kind(actor=Counter, policy=Policy(**policy))]).checked()  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def asked(bus: Bus, subject: str, body: bytes) -> dict[str, object]:
    reply = await bus.request(subject, body, timeout_s=10.0)
    assert headers.ERROR in reply.headers
    failed: dict[str, object] = msgspec.json.decode(reply.body)
    return failed


# What anybody may send


async def test_a_query_that_cannot_be_answered_gets_a_typed_error_and_the_host_goes_on(bus: Bus, app_name: str) -> None:
    async with system(app_name).host(bus) as node:
        subject = bus.subjects.query(Address("counter", "a"))
        assert (await asked(bus, subject, b"nonsense"))["code"] == 400
        assert (await asked(bus, subject, b'{"type":"Nothing"}'))["code"] == 400
        failed = await asked(bus, subject, b'{"type":"Add","amount":1}')
        assert failed["message"] == "counter answers no query Add"
        with pytest.raises(AskFailed, match="ValueError: broken"):
            await node.ref(Counter, "a").ask(Broken())
        await bus.publish(subject, b'{"type":"Total"}')
        for odd in (subject[: subject.rindex(".")] + ".=zz", subject[: subject.rindex(".")] + "." + "k" * 600):
            with pytest.raises((RequestTimeout, NoResponder)):
                await bus.request(odd, b'{"type":"Total"}', timeout_s=0.1)
        assert await node.ref(Counter, "a").ask(Add(amount=1)) == 1


async def test_the_gateway_answers_whatever_is_asked(bus: Bus, app_name: str) -> None:
    async with system(app_name).host(bus) as node:
        subject = bus.subjects.ask(Address("counter", "a"))
        stem = subject[: subject.rindex(".")]
        assert (await asked(bus, subject, b"nonsense"))["kind"] == "undecodable"
        assert (await asked(bus, subject, b'{"type":"Nothing"}'))["kind"] == "unknown"
        assert (await asked(bus, f"{stem}.=zz", b'{"type":"Add","amount":1}'))["kind"] == "undecodable"
        assert "longer than 512" in str(
            (await asked(bus, f"{stem}.{'k' * 600}", b'{"type":"Add","amount":1}'))["message"]
        )
        reply = await bus.request(subject, b'{"type":"Add","amount":3}', timeout_s=10.0)
        assert reply.body == b"3"
        reply = await bus.request(subject, b'{"type":"Total"}', timeout_s=10.0)
        assert reply.body == b"3"
        await bus.publish(subject, b'{"type":"Nothing"}')
        assert await node.ref(Counter, "a").ask(Total()) == 3


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MailboxFull("x"), 429),
        (PayloadTooLarge(2, 1), 413),
        (RequestTimeout("x"), 503),
        (StoreFull("x"), 503),
        (RuntimeError("x"), 500),
    ],
)
async def test_the_gateway_says_why_a_message_could_not_be_stored(
    bus: Bus, app_name: str, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    async def post(*args: object, **more: object) -> int:
        raise error

    async with system(app_name).host(bus):
        with monkeypatch.context() as patch:
            patch.setattr(bus.mail, "post", post)
            failed = await asked(bus, bus.subjects.ask(Address("counter", "a")), b'{"type":"Add","amount":1}')
        assert failed["code"] == code


async def test_a_query_that_nobody_answers_times_out_in_the_gateway(
    bus: Bus, app_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regrow.actors.gateway.QUERY_TIMEOUT_S", 0.05)
    async with system(app_name).host(bus) as node:
        node.host._held.clear()  # pyright: ignore[reportPrivateUsage]
        failed = await asked(bus, bus.subjects.ask(Address("counter", "a")), b'{"type":"Total"}')
        assert failed["code"] == 504
        with pytest.raises(AskTimeout):
            await node.ref(Counter, "a").ask(Total(), timeout_s=0.05)


async def test_more_requests_than_the_gateway_takes_are_refused_as_busy(
    bus: Bus, app_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regrow.actors.gateway.REQUESTS_MAX", 0)
    async with system(app_name).host(bus):
        failed = await asked(bus, bus.subjects.ask(Address("counter", "a")), b'{"type":"Add","amount":1}')
        assert (failed["code"], failed["message"]) == (429, "the gateway is busy: ask again later")


async def test_a_message_as_large_as_the_bus_takes_does_not_stop_its_actor(
    bus: Bus, app_name: str, dead_letters: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fits the mailbox, but not a record that holds it: neither as a turn's beginning nor as a failed attempt."""
    limit = 1 << 20 if type(bus).__name__ == "MemoryBus" else 8 << 20
    for module in ("claims", "memory_log"):
        monkeypatch.setattr(f"regrow.bus.{module}.CLAIM_BYTES_MAX", limit)
    name = "x" * (limit - 200)
    async with system(app_name).host(bus) as node:
        with pytest.raises(AskFailed, match="does not fit the limit") as failed:
            await node.ref(Counter, "a").ask(Work(name=name))
        assert failed.value.kind == "too_large"
        assert await node.ref(Counter, "a").ask(Add(amount=1)) == 1
    assert await dead_letters() == [], "it does not fit there either, and is logged"


async def test_steps_that_do_not_fit_one_message_together_are_put_aside_together(bus: Bus, app_name: str) -> None:
    limit = 1 << 20 if type(bus).__name__ == "MemoryBus" else 8 << 20
    name = "x" * (limit // 5)
    async with system(app_name).host(bus) as node:
        assert await node.ref(Counter, "a").ask(Work(name=name, parts=8)) == 8
    assert len(await bus.log.read(Address("counter", "a"))) == 2


async def test_steps_that_do_not_fit_one_record_together_get_one_each(
    bus: Bus, app_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 1 << 20 if type(bus).__name__ == "MemoryBus" else 8 << 20
    for module in ("claims", "memory_log"):
        monkeypatch.setattr(f"regrow.bus.{module}.CLAIM_BYTES_MAX", limit)
    name = "x" * (limit // 5)
    async with system(app_name).host(bus) as node:
        assert await node.ref(Counter, "a").ask(Work(name=name, parts=4)) == 4
    assert len(await bus.log.read(Address("counter", "a"))) >= 3


async def test_steps_that_become_ready_together_are_one_record(bus: Bus, app_name: str) -> None:
    async with system(app_name).host(bus) as node:
        assert await node.ref(Counter, "a").ask(Work(name="x", parts=10)) == 10
    assert len(await bus.log.read(Address("counter", "a"))) == 2


# A log that somebody else writes, or nobody can


def intruding(bus: Bus, before: int) -> list[int]:
    """Another owner of the actor appends right before this host's n-th append. The numbers of all appends."""
    real: Append = bus.log.append
    numbers: list[int] = []

    async def append(address: Address, data: bytes, *, rid: str, after: int, rollup: bool = False) -> int:
        numbers.append(len(numbers))
        if len(numbers) == before:
            other = encode({"v": 1, "rid": "other", "entries": [TURN_OF_ANOTHER]})
            await real(address, other, rid="other", after=after)
        return await real(address, data, rid=rid, after=after, rollup=rollup)

    replace_append(bus.log, append)
    return numbers


TURN_OF_ANOTHER = {
    "type": "Turn",
    "cause": {"box": "act", "id": "x"},
    "in_seq": 0,
    "act_seq": 0,
    "reply": {"value": 0},
    "events": [{"type": "Added", "amount": 100}],
}


@pytest.mark.parametrize("before", [1, 2])
async def test_whoever_loses_the_race_for_the_log_reloads_and_goes_on(bus: Bus, app_name: str, before: int) -> None:
    numbers = intruding(bus, before)
    async with system(app_name).host(bus) as node:
        assert await node.ref(Counter, "a").ask(Work(name="x")) == 101
        assert node.host.statistics["recoveries"] == 2
    assert len(numbers) == before + 2


async def test_a_snapshot_that_loses_the_race_is_forgotten(bus: Bus, app_name: str) -> None:
    intruding(bus, 2)
    async with system(app_name, snapshot_every=1).host(bus) as node:
        assert await node.ref(Counter, "a").ask(Add(amount=1)) == 1
        assert await node.ref(Counter, "a").ask(Add(amount=1)) == 102


async def test_a_store_without_room_makes_the_actor_wait_without_running_in_circles(bus: Bus, app_name: str) -> None:
    real: Append = bus.log.append
    refused = 0

    async def append(address: Address, data: bytes, *, rid: str, after: int, rollup: bool = False) -> int:
        nonlocal refused
        refused += 1
        if refused <= 2:
            raise StoreFull("x")
        return await real(address, data, rid=rid, after=after, rollup=rollup)

    replace_append(bus.log, append)
    async with system(app_name, mend_after_s=0.02).host(bus) as node:
        assert await node.ref(Counter, "a").ask(Work(name="x")) == 1
    assert RAN == ["x0"] * 3, "once per append of its step"


async def test_an_append_whose_acknowledgement_was_lost_is_known_by_its_record(bus: Bus, app_name: str) -> None:
    """The bus sends the same bytes under the same fence again; the record is there once and the turn goes on."""
    real: Append = bus.log.append

    async def append(address: Address, data: bytes, *, rid: str, after: int, rollup: bool = False) -> int:
        await real(address, data, rid=rid, after=after, rollup=rollup)
        return await real(address, data, rid=rid, after=after, rollup=rollup)

    replace_append(bus.log, append)
    async with system(app_name, snapshot_every=3).host(bus) as node:
        for expected in (2, 4, 6):
            assert await node.ref(Counter, "a").ask(Work(name=str(expected), parts=2)) == expected
        assert node.host.statistics["recoveries"] == 1
    assert len(RAN) == 6


async def test_a_host_that_has_not_noticed_its_loss_cannot_append_and_reloads(
    open_another: OpenBus, app_name: str
) -> None:
    """Both hosts get the same mail, as after a takeover under a host that slept through it."""
    first, second = await open_another(), await open_another()
    mail, shard = Letters(), shard_of(Address("counter", "a"))
    async with system(app_name).host(first) as old:
        assert await old.ref(Counter, "a").ask(Add(amount=1)) == 1
        async with system(app_name).host(second) as new:
            assert await new.ref(Counter, "a").ask(Add(amount=1)) == 2
            old.host._held.add(shard)  # pyright: ignore[reportPrivateUsage]
            old.host._receive(mail.letter(1_000, Add(amount=1)))  # pyright: ignore[reportPrivateUsage]
            await mail.acknowledged.wait()
            old.host._held.discard(shard)  # pyright: ignore[reportPrivateUsage]
            mail.acknowledged.clear()
            new.host._receive(mail.letter(1_000, Add(amount=1)))  # pyright: ignore[reportPrivateUsage]
            new.host._receive(mail.letter(1_001, Add(amount=1)))  # pyright: ignore[reportPrivateUsage]
            while await new.ref(Counter, "a").ask(Total()) != 4:
                pass
            assert new.host.statistics["recoveries"] == 2, "the append was refused, and the log read again"


class Letters:
    """Mail that a test delivers itself."""

    def __init__(self) -> None:
        self.acknowledged = asyncio.Event()

    def letter(self, sequence: int, message: Message[int]) -> Delivery:
        return _Letter(self.acknowledged, sequence, encode(message))


class _Letter:
    box: Box = "in"
    address = Address("counter", "a")
    headers: Mapping[str, str] = {}
    suspect = False

    def __init__(self, acknowledged: asyncio.Event, sequence: int, body: bytes) -> None:
        self._acknowledged = acknowledged
        self.sequence = sequence
        self.body = body

    def shed(self) -> None: ...

    async def fetch(self) -> bool:
        return True

    async def ack(self) -> None:
        self._acknowledged.set()


async def test_a_lost_shard_is_dropped_with_all_its_actors(open_another: OpenBus, app_name: str) -> None:
    first, second = await open_another(), await open_another()
    async with system(app_name).host(first) as old:
        assert await old.ref(Counter, "a").ask(Add(amount=1)) == 1
        async with system(app_name).host(second) as new:
            assert await new.ref(Counter, "a").ask(Add(amount=1)) == 2
            assert await old.ref(Counter, "a").ask(Total()) == 2, "answered by whoever has the shard"
            assert old.host.statistics["recoveries"] == 1
            assert new.host.statistics["recoveries"] == 1


async def test_a_stale_writer_says_what_to_do() -> None:
    assert "another writer was first, drop this copy and reload" in str(StaleWriter(3, 4))


async def test_a_request_whose_reply_cannot_be_sent_leaves_the_host_running(
    bus: Bus, app_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failing = bus.publish, asyncio.Event()

    async def publish(subject: str, body: bytes, given: dict[str, str] | None = None) -> None:
        if not failing.is_set():
            failing.set()
            raise Unreachable("x")
        await real(subject, body, given)

    async with system(app_name, mend_after_s=0.01).host(bus) as node:
        with monkeypatch.context() as patch:
            patch.setattr(bus, "publish", publish)
            replies: list[Request] = []
            async with bus.expect_reply(replies.append) as inbox:
                given = {headers.REPLY: inbox}
                await bus.mail.post("in", Address("counter", "a"), encode(Add(amount=1)), given)
                await failing.wait()
                while not replies:
                    await node.ref(Counter, "a").ask(Total())
        assert [reply.body for reply in replies] == [b"1"]
        assert await node.ref(Counter, "a").ask(Add(amount=1)) == 2
