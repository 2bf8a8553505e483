"""What a durable actor promises, in memory and on a real server: one turn, one record, and what becomes of failures."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import msgspec
import pytest

from regrow.actors import (
    Actor,
    AskFailed,
    Client,
    Event,
    Kind,
    Message,
    Policy,
    Refused,
    System,
    command,
    event,
    query,
)
from regrow.actors.dead_letter import DeadLetter
from regrow.actors.records import Begun, Failed, Record, Snapshot, Steps, Turn
from regrow.bus import Address, Box, Bus, Stored, StoreFull, Undecodable, decode, encode, headers
from regrow.supervisor import Backoff

pytestmark = pytest.mark.asyncio

AT_ONCE = Policy(backoff=Backoff(first_s=0.0))

OpenBus = Callable[[], Awaitable[Bus]]
DeadLetters = Callable[[], Awaitable[list[DeadLetter]]]


class Gate:
    """Lets a test know that a handler has come so far, and holds it there."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()
        self.passed = 0

    async def wait(self) -> None:
        self.reached.set()
        await self.opened.wait()
        self.passed += 1


class Turnstile:
    """A port that leads to the gate that stands there now."""

    def __init__(self, gates: dict[str, Gate]) -> None:
        self._gates = gates

    async def wait(self) -> None:
        await self._gates["gate"].wait()


class Add(Message[int]):
    amount: int


class Slowly(Message[int]):
    amount: int


class Spend(Message[int]):
    amount: int


class Share(Message[int]):
    to: list[str]
    amounts: list[int]


class Bloat(Message[str]):
    pass


class Break(Message[int]):
    how: str
    times: int = 99


class Total(Message[int]):
    pass


class Whose(Message[str]):
    pass


class Peek(Message[list[int]]):
    pass


class Dare(Message[int]):
    pass


class Added(Event):
    amount: int


class Keyed(Event):
    pass


class Unfoldable(Event):
    reason: str


class Counter(Actor):
    total: int = 0
    seen: list[int] = []
    owner: str = ""

    @command
    async def add(self, msg: Add) -> int:
        self.emit(Added(amount=msg.amount))
        return self.total

    @command
    async def slowly(self, msg: Slowly) -> int:
        self.emit(Added(amount=msg.amount))
        await self.port("gate").wait()
        return self.total

    @command
    async def spend(self, msg: Spend) -> int:
        self.emit(Added(amount=-msg.amount))
        if self.total < 0:
            raise Refused("no funds", balance=self.total + msg.amount)
        return self.total

    @command
    async def share(self, msg: Share) -> int:
        for to in msg.to:
            for amount in msg.amounts:
                self.send(self.ref(Counter, to), Add(amount=amount))
        self.emit(Added(amount=-sum(msg.amounts)))
        return self.total

    @command
    async def fail(self, msg: Break) -> int:
        self.emit(Added(amount=1000))
        log: list[str] = self.port("log")
        log.append(msg.how)
        if len(log) > msg.times:
            return self.total
        match msg.how:
            case "raise":
                raise ValueError("broken")
            case "refuse with what is no json":
                raise Refused("no", at=object())
            case "answer what is no json":
                return object()  # type: ignore[return-value]  # pyright: ignore[reportReturnType]
            case "assign":
                self.total = 3
            case "in place":
                self.seen.append(3)
            case "wrong event":
                self.emit(Added(amount="2"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            case "half an event":
                try:
                    self.emit(Unfoldable(reason="x"))
                except RuntimeError:
                    return self.total
            case "cancelled":
                raise asyncio.CancelledError
            case "no handler":
                self.emit(Orphan())
            case _:
                raise AssertionError(msg.how)
        return self.total

    @command
    async def bloat(self, msg: Bloat) -> str:
        self.emit(Added(amount=1000))
        return "x" * (9 << 20)

    @query
    async def read(self, msg: Total) -> int:
        return self.total

    @query
    async def whose(self, msg: Whose) -> str:
        return f"{self.key} {self.owner}"

    @query
    async def dare(self, msg: Dare) -> int:
        raise Refused("not you", total=self.total)

    @query
    async def peek(self, msg: Peek) -> list[int]:
        self.seen.append(1)
        return self.seen

    @event
    def added(self, fact: Added) -> None:
        self.total += fact.amount

    @event
    def unfoldable(self, fact: Unfoldable) -> None:
        self.seen.append(1)
        raise RuntimeError(fact.reason)

    @event
    def keyed(self, fact: Keyed) -> None:
        self.owner = self.key


class Own(Message[None]):
    pass


class Owned(Counter):
    @command
    async def own(self, msg: Own) -> None:
        self.emit(Keyed())


class Orphan(Event):
    pass


def system(app_name: str, policy: Policy = AT_ONCE, checked: bool = True, **ports: object) -> System:
    made = System(app_name, actors=[Kind(actor=Counter, policy=policy), Owned], ports=ports)
    return made.checked() if checked else made


async def records(bus: Bus, key: str, kind: str = "counter") -> list[Record]:
    return [decode(stored.data, Record, "record") for stored in await bus.log.read(Address(kind, key))]


async def ask_under(bus: Bus, key: str, message: Message[int], message_id: str) -> bytes:
    """Asks through the open mailbox under an id of one's own, as any client may; the body of the reply."""
    replies: asyncio.Queue[bytes] = asyncio.Queue()
    async with bus.expect_reply(lambda reply: replies.put_nowait(reply.body)) as subject:
        given = {headers.ID: message_id, headers.REPLY: subject}
        await bus.mail.post("in", Address("counter", key), encode(message), given)
        return await replies.get()


async def test_events_sends_and_reply_are_one_record(bus: Bus, app_name: str) -> None:
    async with system(app_name).host(bus) as node:
        assert await node.ref(Counter, "a").ask(Share(to=["b"], amounts=[1, 2])) == -3
        (record,) = await records(bus, "a")
    (turn,) = record.entries
    assert isinstance(turn, Turn)
    assert (len(turn.events), len(turn.sends), turn.reply.value) == (1, 2, msgspec.Raw(b"-3"))


async def test_state_and_answers_survive_the_host(open_another: OpenBus, app_name: str) -> None:
    bus = await open_another()
    async with system(app_name).host(bus) as node:
        assert await node.ref(Counter, "a").ask(Add(amount=2)) == 2
        assert await ask_under(bus, "a", Add(amount=3), "mine") == b"5"
    async with system(app_name).host(await open_another()) as node:
        assert await node.ref(Counter, "a").ask(Total()) == 5
        assert await ask_under(node.bus, "a", Add(amount=3), "mine") == b"5"
        assert await node.ref(Counter, "a").ask(Add(amount=1)) == 6


async def test_a_message_that_comes_again_is_answered_from_the_log(bus: Bus, app_name: str) -> None:
    async with system(app_name).host(bus) as node:
        assert await ask_under(bus, "a", Add(amount=2), "same") == b"2"
        assert await ask_under(bus, "a", Add(amount=7), "other") == b"9"
        assert await ask_under(bus, "a", Add(amount=2), "same") == b"2"
        assert await node.ref(Counter, "a").ask(Total()) == 9


async def test_what_was_under_way_when_the_host_went_is_done_by_the_next_one(
    open_another: OpenBus, app_name: str
) -> None:
    first, second = Gate(), Gate()
    second.opened.set()
    bus = await open_another()
    async with system(app_name, gate=first).host(bus) as node:
        asking = asyncio.create_task(node.ref(Counter, "a").ask(Slowly(amount=2)))
        await first.reached.wait()
    assert await records(bus, "a") == []
    async with system(app_name, gate=second).host(await open_another()) as node:
        assert await asking == 2
        assert (first.passed, second.passed) == (0, 1)
        assert await node.ref(Counter, "a").ask(Total()) == 2


async def test_a_refusal_is_a_recorded_reply_with_data_and_decides_nothing_else(bus: Bus, app_name: str) -> None:
    async with system(app_name).host(bus) as node:
        counter = node.ref(Counter, "a")
        await counter.ask(Add(amount=2))
        with pytest.raises(Refused, match="no funds") as no:
            await counter.ask(Spend(amount=3))
        assert no.value.data == {"balance": 2}
        assert await counter.ask(Total()) == 2
        assert await counter.ask(Spend(amount=2)) == 0
        refusal = (await records(bus, "a"))[1].entries[0]
    assert isinstance(refusal, Turn)
    assert refusal.reply.failure is not None
    assert (refusal.reply.failure.kind, refusal.events) == ("refused", ())


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("raise", "ValueError: broken"),
        ("assign", r"Counter\.total is state: it may change only in an @event method"),
        ("in place", "the state of counter/a is not the fold of its events"),
        ("wrong event", r"event of counter cannot be decoded: Expected `int`, got `str` - at `\$.amount`"),
        ("half an event", "an event failed half-way and the handler went on"),
        ("no handler", "Counter has no @event method for Orphan"),
        ("cancelled", "was cancelled by something that it awaited"),
        ("refuse with what is no json", "TypeError: Encoding objects of type object is unsupported"),
        (
            "answer what is no json",
            "DefinitionError: Counter.fail returned object, but Break is answered with int: Encoding objects of type object is unsupported",
        ),
    ],
)
async def test_a_failing_turn_leaves_no_trace_in_the_state(
    bus: Bus, app_name: str, dead_letters: DeadLetters, how: str, sentence: str
) -> None:
    async with system(app_name, log=[]).host(bus) as node:
        counter = node.ref(Counter, "a")
        await counter.ask(Add(amount=2))
        with pytest.raises(AskFailed, match=sentence) as failed:
            await counter.ask(Break(how=how))
        assert failed.value.kind == "defect"
        assert await counter.ask(Add(amount=1)) == 3
        (dead,) = await dead_letters()
    assert dead.message.body == msgspec.Raw(encode(Break(how=how)))


async def test_a_turn_is_tried_again_on_fresh_state(bus: Bus, app_name: str, dead_letters: DeadLetters) -> None:
    async with system(app_name, log=[]).host(bus) as node:
        assert await node.ref(Counter, "a").ask(Break(how="raise", times=2)) == 1000
        assert await dead_letters() == []
        entries = [entry for record in await records(bus, "a") for entry in record.entries]
    assert [type(entry) for entry in entries] == [Failed, Failed, Turn]


async def test_attempts_are_counted_across_restarts(
    open_another: OpenBus, app_name: str, dead_letters: DeadLetters
) -> None:
    log: list[str] = []
    patient = Policy(backoff=Backoff(first_s=3600.0, max_s=3600.0))
    bus = await open_another()
    asking: asyncio.Task[int] | None = None
    for attempts in (1, 2):
        async with system(app_name, patient, log=log).host(bus) as node:
            if asking is None:
                asking = asyncio.create_task(node.ref(Counter, "a").ask(Break(how="raise")))
            await _until_failed(bus, attempts)
    async with system(app_name, patient, log=log).host(await open_another()) as node:
        assert asking is not None
        with pytest.raises(AskFailed, match="broken"):
            await asking
        assert await node.ref(Counter, "a").ask(Add(amount=1)) == 1
    assert len(log) == 3
    assert len(await dead_letters()) == 1


async def _until_failed(bus: Bus, attempts: int) -> None:
    """Reads the log until it has this many failed attempts; a read takes as long as the bus takes."""
    while True:
        entries = [entry for record in await records(bus, "a") for entry in record.entries]
        if sum(isinstance(entry, Failed) for entry in entries) == attempts:
            return


async def test_a_turn_that_was_given_up_is_not_tried_again_while_its_dead_letter_cannot_be_stored(
    bus: Bus, app_name: str, dead_letters: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, refused, log = bus.dead.bury, 2, list[str]()

    async def bury(address: Address, body: bytes, *, message_id: str) -> None:
        nonlocal refused
        refused -= 1
        if refused >= 0:
            raise StoreFull("x")
        await real(address, body, message_id=message_id)

    monkeypatch.setattr(bus.dead, "bury", bury)
    async with system(app_name, Policy(backoff=Backoff(first_s=0.0), mend_after_s=0.01), log=log).host(bus) as node:
        with pytest.raises(AskFailed, match="broken"):
            await node.ref(Counter, "a").ask(Break(how="raise"))
    assert len(log) == 3
    assert len(await dead_letters()) == 1


async def test_a_message_that_comes_again_while_it_is_handled_is_acknowledged_where_it_came_last(
    bus: Bus, app_name: str
) -> None:
    gate = Gate()
    async with system(app_name, gate=gate).host(bus) as node:
        first, again = Letter(encode(Slowly(amount=2))), Letter(encode(Slowly(amount=2)))
        node.host._receive(first)  # pyright: ignore[reportPrivateUsage]
        await gate.reached.wait()
        node.host._receive(again)  # pyright: ignore[reportPrivateUsage]
        gate.opened.set()
        await again.acknowledged.wait()
        assert not first.acknowledged.is_set()
        assert await node.ref(Counter, "a").ask(Total()) == 2
        assert gate.passed == 1


class Letter:
    """A delivery that a test makes itself."""

    box: Box = "in"
    address = Address("counter", "a")
    headers: Mapping[str, str] = {}
    suspect = False
    sequence = 1

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.acknowledged = asyncio.Event()

    def shed(self) -> None: ...

    async def fetch(self) -> bool:
        return True

    async def ack(self) -> None:
        self.acknowledged.set()


async def test_a_temporary_turn_is_tried_once(bus: Bus, app_name: str, dead_letters: DeadLetters) -> None:
    log: list[str] = []
    async with system(app_name, Policy(restart="temporary"), log=log).host(bus) as node:
        with pytest.raises(AskFailed, match="broken"):
            await node.ref(Counter, "a").ask(Break(how="raise"))
    assert len(log) == 1
    assert len(await dead_letters()) == 1


async def test_a_record_larger_than_a_message_is_put_aside_and_its_reply_too_large_is_said_to_be_that(
    open_another: OpenBus, app_name: str
) -> None:
    bus = await open_another()
    async with system(app_name).host(bus) as node:
        bloated: str = await node.ref(Counter, "a").ask(Bloat())
        assert len(bloated) == 9 << 20
        with pytest.raises(AskFailed, match="the turn is recorded, but its reply is not sent"):
            await Client(bus).ref(Counter, "a").ask(Bloat())
    async with system(app_name).host(await open_another()) as node:
        assert await node.ref(Counter, "a").ask(Total()) == 2000


async def test_a_decision_that_does_not_fit_the_bus_fails_its_turn_alone(
    bus: Bus, app_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("claims", "memory_log"):
        monkeypatch.setattr(f"regrow.bus.{module}.CLAIM_BYTES_MAX", 8 << 20)
    async with system(app_name).host(bus) as node:
        counter = node.ref(Counter, "a")
        with pytest.raises(AskFailed, match="does not fit the limit") as failed:
            await counter.ask(Bloat())
        assert (failed.value.kind, failed.value.code) == ("too_large", 413)
        assert await counter.ask(Add(amount=1)) == 1


async def test_a_query_is_answered_on_the_last_committed_state_while_a_command_waits(bus: Bus, app_name: str) -> None:
    gate = Gate()
    async with system(app_name, gate=gate).host(bus) as node:
        counter = node.ref(Counter, "a")
        await counter.ask(Add(amount=2))
        asking = asyncio.create_task(counter.ask(Slowly(amount=5)))
        await gate.reached.wait()
        assert await counter.ask(Total()) == 2
        gate.opened.set()
        assert await asking == 7
        assert await counter.ask(Total()) == 7


async def test_a_query_wakes_an_actor_that_never_had_a_message(bus: Bus, app_name: str) -> None:
    async with system(app_name).host(bus) as node:
        assert await node.ref(Counter, "new").ask(Total()) == 0
        assert await bus.log.read(Address("counter", "new")) == []


async def test_queries_and_the_first_command_share_one_reading_of_the_log(open_another: OpenBus, app_name: str) -> None:
    async with system(app_name).host(await open_another()) as node:
        await node.ref(Counter, "a").ask(Add(amount=2))
    async with system(app_name).host(await open_another()) as node:
        counter = node.ref(Counter, "a")
        answers = await asyncio.gather(
            counter.ask(Total()), counter.ask(Add(amount=1)), *(counter.ask(Total()) for _ in range(5))
        )
        assert answers[1] == 3
        assert set(answers) <= {2, 3}
        assert node.host.statistics["recoveries"] == 1


async def test_a_query_that_changes_the_state_is_found_out(bus: Bus, app_name: str) -> None:
    async with system(app_name).host(bus) as node:
        with pytest.raises(AskFailed, match="FoldDiffers: the state of counter/a is not the fold"):
            await node.ref(Counter, "a").ask(Peek())


async def test_a_query_may_refuse(bus: Bus, app_name: str) -> None:
    async with system(app_name).host(bus) as node:
        with pytest.raises(Refused, match="not you") as no:
            await node.ref(Counter, "a").ask(Dare())
        assert no.value.data == {"total": 0}


async def test_queries_and_events_know_the_key(open_another: OpenBus, app_name: str) -> None:
    async with system(app_name).host(await open_another()) as node:
        await node.ref(Owned, "mine").ask(Own())
        assert await node.ref(Owned, "mine").ask(Whose()) == "mine mine"
    async with system(app_name).host(await open_another()) as node:
        assert await node.ref(Owned, "mine").ask(Whose()) == "mine mine"


@pytest.mark.parametrize("every", [1, 2, 3])
async def test_a_snapshot_after_any_record_changes_nothing(open_another: OpenBus, app_name: str, every: int) -> None:
    policy = Policy(backoff=Backoff(first_s=0.0), snapshot_every=every)
    bus = await open_another()
    for round_ in range(3):
        async with system(app_name, policy, log=[]).host(bus if round_ == 0 else await open_another()) as node:
            counter = node.ref(Counter, "a")
            before = await counter.ask(Total())
            assert await ask_under(node.bus, "a", Add(amount=1), f"id{round_}") == str(before + 1).encode()
            assert await counter.ask(Break(how="raise", times=1)) == before + 1001
            with pytest.raises(Refused):
                await counter.ask(Spend(amount=10_000))
            await counter.ask(Add(amount=1))
            for earlier in range(round_ + 1):
                answer = await ask_under(node.bus, "a", Add(amount=1), f"id{earlier}")
                assert int(answer) == earlier * 1002 + 1
    found = await records(bus, "a")
    assert len(found) <= every + 3
    assert isinstance(found[0].entries[0], Snapshot)


async def test_a_state_that_its_types_do_not_allow_is_never_made_a_snapshot(bus: Bus, app_name: str) -> None:
    class Halve(Message[float]):
        pass

    class Halved(Event):
        pass

    class Half(Actor):
        total: int = 3

        @command
        async def halve(self, msg: Halve) -> float:
            self.emit(Halved())
            return self.total

        @event
        def halved(self, fact: Halved) -> None:
            self.total /= 2  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]

    kind = Kind(actor=Half, policy=Policy(snapshot_every=1))
    async with System(app_name, actors=[kind]).host(bus) as node:
        assert await node.ref(Half, "a").ask(Halve()) == 1.5
    assert len(await records(bus, "a", "half")) == 1


async def test_undecodable_and_unknown_messages_get_typed_errors_and_become_dead_letters(
    bus: Bus, app_name: str, dead_letters: DeadLetters
) -> None:
    async with system(app_name).host(bus) as node:
        for body, sentence in [
            (b'{"type":"Add","amount":"2"}', "Expected `int`, got `str`"),
            (b'{"type":"Sub"}', "counter knows no message 'Sub'; it accepts Add, "),
            (b"nonsense", "malformed"),
        ]:
            failed = await _ask_raw(bus, "counter", "a", body)
            assert failed["code"] in (400, 404)
            assert sentence in str(failed["message"])
        failed = await _ask_raw(bus, "nobody", "a", b"{}")
        assert failed["message"] == "this application has no actors of kind 'nobody'"
        assert await node.ref(Counter, "a").ask(Add(amount=1)) == 1
    assert len(await dead_letters()) == 4


async def _ask_raw(bus: Bus, kind: str, key: str, body: bytes) -> dict[str, object]:
    replies: asyncio.Queue[bytes] = asyncio.Queue()
    async with bus.expect_reply(lambda reply: replies.put_nowait(reply.body)) as subject:
        await bus.mail.post("in", Address(kind, key), body, {headers.REPLY: subject})
        found: dict[str, object] = msgspec.json.decode(await replies.get())
        return found


async def test_a_query_that_came_through_the_mailbox_is_answered_too(bus: Bus, app_name: str) -> None:
    async with system(app_name).host(bus):
        assert await ask_under(bus, "a", Add(amount=4), "x") == b"4"
        assert await ask_under(bus, "a", Total(), "y") == b"4"


class Later(Event):
    amount: int


class Newer(Actor, kind="counter"):
    """A later build of the counter, with an event that the one above does not know."""

    total: int = 0

    @command
    async def add(self, msg: Add) -> int:
        self.emit(Later(amount=msg.amount))
        return self.total

    @event
    def later(self, fact: Later) -> None:
        self.total += fact.amount


async def test_an_actor_whose_log_this_build_cannot_read_waits_alone_and_says_so(
    open_another: OpenBus, app_name: str
) -> None:
    bus = await open_another()
    async with System(app_name, actors=[Newer]).host(bus) as node:
        await node.ref(Newer, "a").ask(Add(amount=2))
    older = Policy(mend_after_s=3600.0)
    async with system(app_name, older).host(bus) as node:
        for _ in range(2):
            with pytest.raises(
                AskFailed, match=r"event of counter cannot be decoded.*Later.*stays in its mailbox"
            ) as failed:
                await node.ref(Counter, "a").ask(Add(amount=1))
            assert failed.value.kind == "corrupt"
        with pytest.raises(AskFailed, match="counter/a cannot be read"):
            await node.ref(Counter, "a").ask(Total())
        assert await node.ref(Counter, "b").ask(Add(amount=1)) == 1
    async with System(app_name, actors=[Newer]).host(await open_another()) as node:
        assert await Client(node.bus).ref(Newer, "a").ask(Add(amount=1)) == 5


async def test_an_actor_that_cannot_go_on_is_tried_again(open_another: OpenBus, app_name: str) -> None:
    bus = await open_another()
    async with system(app_name).host(bus) as node:
        await node.ref(Counter, "a").ask(Add(amount=2))
    real, whole = bus.log.read, asyncio.Event()
    broken = 1

    async def read(address: Address, after: int = 0) -> list[Stored]:
        nonlocal broken
        broken -= 1
        if broken >= 0:
            raise Undecodable("record", "for a moment")
        whole.set()
        return await real(address, after)

    bus.log.read = read  # type: ignore[method-assign]
    async with system(app_name, Policy(mend_after_s=0.01)).host(bus) as node:
        with pytest.raises(AskFailed, match="for a moment"):
            await node.ref(Counter, "a").ask(Add(amount=1))
        await whole.wait()
        assert await node.ref(Counter, "a").ask(Add(amount=1)) == 4


async def test_more_actors_than_may_be_kept_come_back_from_their_logs(bus: Bus, app_name: str) -> None:
    made = System(app_name, actors=[Kind(actor=Counter, idle_max=3)])
    async with made.host(bus) as node:
        for amount in (1, 2):
            for key in range(10):
                assert await node.ref(Counter, str(key)).ask(Add(amount=1)) == amount
        assert node.host.statistics["recoveries"] > 10


class Relay(Message[int]):
    to: str


class Hold(Message[int]):
    pass


class Ring(Actor):
    count: int = 0

    @command
    async def relay(self, msg: Relay) -> int:
        return 1 + await self.ref(Ring, msg.to).ask(Hold(), timeout_s=20.0)

    @command
    async def hold(self, msg: Hold) -> int:
        return 1


class Wait(Message[int]):
    pass


class Crowd(Actor):
    @command
    async def wait(self, msg: Wait) -> int:
        running: list[int] = self.port("running")
        two: asyncio.Event = self.port("two")
        running[0] += 1
        running[1] = max(running)
        if running[0] == 2:
            two.set()
        await two.wait()  # the first one holds its place until another one has come
        await asyncio.sleep(0)
        running[0] -= 1
        return running[1]


async def test_no_more_actors_of_a_kind_are_active_at_once_than_it_allows(bus: Bus, app_name: str) -> None:
    running = [0, 0]
    ports = {"running": running, "two": asyncio.Event()}
    made = System(app_name, actors=[Kind(actor=Crowd, active_max=2)], ports=ports)
    async with made.host(bus) as node:
        await asyncio.gather(*(node.ref(Crowd, str(key)).ask(Wait()) for key in range(20)))
    assert running == [0, 2]


async def test_an_actor_that_waits_for_another_does_not_count_as_active(bus: Bus, app_name: str) -> None:
    async with System(app_name, actors=[Kind(actor=Ring, active_max=1)]).host(bus) as node:
        assert await asyncio.gather(*(node.ref(Ring, f"a{n}").ask(Relay(to=f"b{n}")) for n in range(5))) == [2] * 5


async def test_the_entries_of_a_turn_without_steps_need_no_beginning(bus: Bus, app_name: str) -> None:
    async with system(app_name).host(bus) as node:
        await node.ref(Counter, "a").ask(Add(amount=1))
        entries = [type(entry) for record in await records(bus, "a") for entry in record.entries]
    assert Begun not in entries
    assert Steps not in entries


async def test_a_host_that_is_restarted_by_its_supervisor_goes_on(bus: Bus, app_name: str) -> None:
    gate, again = Gate(), Gate()
    gates = {"gate": gate}
    made = System(app_name, actors=[Counter], ports={"gate": Turnstile(gates)})
    async with made.host(bus) as node:
        counter = node.ref(Counter, "a")
        await counter.ask(Add(amount=1))
        asking = asyncio.create_task(counter.ask(Slowly(amount=2)))
        await gate.reached.wait()
        gates["gate"] = again
        again.opened.set()
        _host_task().cancel()
        assert await asking == 3
        assert (gate.passed, again.passed) == (0, 1)
        assert await counter.ask(Add(amount=1)) == 4


def _host_task() -> asyncio.Task[object]:
    (task,) = (each for each in asyncio.all_tasks() if each.get_name() == "child mail")
    return task
