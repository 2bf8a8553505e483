"""What an actor is told when it comes to life, and what it may not do then."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar

import pytest

from regrow.actors import (
    Actor,
    ActorStopped,
    AskFailed,
    DefinitionError,
    Event,
    Kind,
    LocalActor,
    LocalPolicy,
    LocalSystem,
    Message,
    Node,
    Policy,
    Start,
    System,
    command,
    event,
    query,
)
from regrow.bus import Address, Box, Bus, MemoryBus, encode
from regrow.supervisor import Backoff, Crashed, NodeLost, Poison, Shutdown

pytestmark = pytest.mark.asyncio

AT_ONCE = Backoff(first_s=0.0)
POLICY = Policy(backoff=AT_ONCE, mend_after_s=0.01, attempts_max=2)


class Add(Message[int]):
    amount: int


class Total(Message[int]):
    pass


class Added(Event):
    amount: int


class Counter(Actor):
    total: int = 0

    async def on_start(self, start: Start) -> None:
        await self.port("on start")(self, start)

    @command
    async def add(self, msg: Add) -> int:
        if msg.amount < 0:
            raise ValueError("negative")
        self.emit(Added(amount=msg.amount))
        return self.total

    @query
    async def read(self, msg: Total) -> int:
        return self.total

    @event
    def added(self, fact: Added) -> None:
        self.total += fact.amount


class Fields(Actor, persist="fields"):
    total: int = 0

    async def on_start(self, start: Start) -> None:
        self.total = 7

    @command
    async def add(self, msg: Add) -> int:
        self.total += msg.amount
        return self.total


class Starts:
    """What the actors were told, with the state that they had then; and what they do."""

    def __init__(self, does: Callable[[Actor], Any] = lambda _: None) -> None:
        self.told: list[Start] = []
        self.states: list[int] = []
        self.does = does

    async def __call__(self, actor: Counter, start: Start) -> None:
        self.told.append(start)
        self.states.append(actor.total)
        done = self.does(actor)
        if isinstance(done, Awaitable):
            await done


def system(app: str, starts: Starts, **policy: Any) -> System:
    kept = Policy(backoff=AT_ONCE, mend_after_s=0.01, attempts_max=2, **policy)
    return System(app, [Kind(Counter, policy=kept), Kind(Fields, policy=POLICY)], ports={"on start": starts}).checked()


async def test_a_new_actor_is_told_before_its_first_turn_and_only_then(bus: Bus, app_name: str) -> None:
    starts = Starts()
    async with system(app_name, starts).host(bus) as node:
        for total in (1, 2, 3):
            assert await node.ref(Counter, "a").ask(Add(amount=1)) == total
    assert starts.told == [Start(None, 0, recovered=False)]


async def test_an_actor_with_a_log_is_told_that_it_was_recovered_and_has_its_state(bus: Bus, app_name: str) -> None:
    starts = Starts()
    for total in (1, 2):
        async with system(app_name, starts).host(bus) as node:
            assert await node.ref(Counter, "a").ask(Add(amount=1)) == total
    assert starts.told == [Start(None, 0, recovered=False), Start(None, 0, recovered=True)]
    assert starts.states == [0, 1]


async def test_an_attempt_that_raised_is_the_cause_of_the_next_start(bus: Bus, app_name: str) -> None:
    starts = Starts()
    async with system(app_name, starts).host(bus) as node:
        with pytest.raises(AskFailed):
            await node.ref(Counter, "a").ask(Add(amount=-1))
        assert await node.ref(Counter, "a").ask(Add(amount=1)) == 1
    assert [(type(each.cause), each.restarts) for each in starts.told] == [
        (type(None), 0),
        (Crashed, 1),
        (Crashed, 2),
    ], "the first attempt, the second one, and the next message"
    cause = starts.told[1].cause
    assert isinstance(cause, Crashed)
    assert str(cause.error) == "negative"


class Anybody:
    address = Address("counter", "b")


DECISIONS: dict[str, Callable[[Any], Any]] = {
    "emit": lambda actor: actor.emit(Added(amount=1)),
    "send": lambda actor: actor.send(Anybody(), Total()),
    "set_timer": lambda actor: actor.set_timer("x", Total(), after_s=1.0),
    "cancel_timer": lambda actor: actor.cancel_timer("x"),
    "ref": lambda actor: actor.ref(Counter, "b"),
    "sleep": lambda actor: actor.sleep(1.0),
    "checkpoint": lambda actor: actor.checkpoint(1),
    "checkpointed": lambda actor: actor.checkpointed(int),
}


@pytest.mark.parametrize("what", DECISIONS)
async def test_a_start_decides_nothing(app_name: str, what: str) -> None:
    starts = Starts(DECISIONS[what])
    async with system(app_name, starts).host(MemoryBus(app_name)) as node:
        with pytest.raises(AskFailed, match=f"Counter.on_start may only read: {what} belongs in a @command"):
            await node.ref(Counter, "a").ask(Add(amount=1))


async def test_a_start_assigns_no_field(bus: Bus, app_name: str) -> None:
    starts = Starts(lambda actor: setattr(actor, "total", 3))
    async with system(app_name, starts).host(bus) as node:
        with pytest.raises(AskFailed, match="total is state"):
            await node.ref(Counter, "a").ask(Add(amount=1))
        with pytest.raises(AskFailed, match="assign it only in a running @command"):
            await node.ref(Fields, "a").ask(Add(amount=1))


async def test_a_start_that_raises_is_tried_again_with_its_error_and_the_mail_waits(bus: Bus, app_name: str) -> None:
    def fail_twice(actor: Actor) -> None:
        if len(starts.told) <= 2:
            raise OSError("no world")
        began.set()

    starts, began = Starts(fail_twice), asyncio.Event()
    async with system(app_name, starts).host(bus) as node:
        with pytest.raises(AskFailed, match="did not start: it crashed with OSError: no world") as failed:
            await node.ref(Counter, "a").ask(Add(amount=1))
        assert failed.value.kind == "defect"
        await began.wait()
        assert await node.ref(Counter, "a").ask(Add(amount=1)) == 2, "the first message was kept"


async def test_a_start_that_takes_too_long_is_ended(bus: Bus, app_name: str) -> None:
    starts = Starts(lambda _: asyncio.Event().wait())
    async with system(app_name, starts, recovery_timeout_s=0.01).host(bus) as node:
        with pytest.raises(AskFailed, match="TimeoutError"):
            await node.ref(Counter, "a").ask(Add(amount=1))


class Suspect:
    """A letter that was waiting when a process died."""

    box: Box = "in"
    address = Address("counter", "a")
    headers: Mapping[str, str] = {}
    suspect = True

    def __init__(self, sequence: int, message: Message[int]) -> None:
        self.sequence = sequence
        self.body = encode(message)
        self.acknowledged = asyncio.Event()

    def shed(self) -> None: ...

    async def fetch(self) -> bool:
        return True

    async def ack(self) -> None:
        self.acknowledged.set()


async def given(node: Node, letter: Suspect) -> None:
    node.host._receive(letter)  # pyright: ignore[reportPrivateUsage]
    await letter.acknowledged.wait()


async def test_after_the_death_of_the_process_that_had_the_actor_the_cause_is_a_lost_node(
    bus: Bus, app_name: str
) -> None:
    starts = Starts()
    async with system(app_name, starts).host(bus) as node:
        await given(node, Suspect(1, Add(amount=1)))
    assert starts.told == [Start(NodeLost("unknown"), 0, recovered=False)]


async def test_after_a_message_that_kills_processes_the_cause_is_poison(bus: Bus, app_name: str) -> None:
    starts = Starts()
    async with system(app_name, starts, deaths_max=1).host(bus) as node:
        await given(node, Suspect(1, Add(amount=1)))
        assert starts.told == [], "it was given up before anything ran"
        assert await node.ref(Counter, "a").ask(Add(amount=1)) == 1
    assert starts.told == [Start(Poison(1), 1, recovered=False)]


async def test_an_actor_whose_kind_was_stopped_is_told_so(bus: Bus, app_name: str) -> None:
    starts = Starts()
    async with system(app_name, starts).host(bus) as node:
        assert await node.ref(Counter, "a").ask(Add(amount=1)) == 1
        await node.supervisor.terminate_child("actors.counter")
        await node.supervisor.restart_child("actors.counter")
        assert await node.ref(Counter, "a").ask(Add(amount=1)) == 2
    assert starts.told[1:] == [Start(Shutdown(), 1, recovered=True)]


async def test_an_on_start_that_cannot_be_awaited_is_refused() -> None:
    with pytest.raises(DefinitionError, match="on_start must be async def"):

        class Wrong(Actor):  # pyright: ignore[reportUnusedClass]
            def on_start(self, start: Start) -> None: ...  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]

    with pytest.raises(DefinitionError, match="on_start must be async def"):

        class WrongToo(LocalActor):  # pyright: ignore[reportUnusedClass]
            def on_start(self, start: Start) -> None: ...  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]


# Local actors


class Memory(LocalActor):
    total: int = 0
    told: ClassVar[list[Start]] = []
    failing: ClassVar[list[Exception]] = []

    async def on_start(self, start: Start) -> None:
        self.told.append(start)
        if self.failing:
            raise self.failing.pop()
        self.total = 100

    @command
    async def add(self, msg: Add) -> int:
        if msg.amount < 0:
            raise ValueError("negative")
        self.total += msg.amount
        return self.total


@pytest.fixture(autouse=True)
def forgotten() -> None:
    Memory.told.clear()
    Memory.failing.clear()


LOCAL = LocalPolicy(backoff=AT_ONCE)


async def test_a_local_actor_starts_when_it_is_spawned_and_may_set_its_fields() -> None:
    async with LocalSystem("x") as local:
        memory = local.spawn(Memory, "a", policy=LOCAL)
        assert await memory.ask(Add(amount=1)) == 101
    assert Memory.told == [Start(None, 0, recovered=False)]


async def test_a_restarted_local_actor_is_told_what_its_last_incarnation_died_of() -> None:
    async with LocalSystem("x") as local:
        memory = local.spawn(Memory, "a", policy=LOCAL)
        with pytest.raises(AskFailed):
            await memory.ask(Add(amount=-1))
        assert await memory.ask(Add(amount=1)) == 101
    (first, second) = Memory.told
    assert (first.cause, second.restarts) == (None, 1)
    assert isinstance(second.cause, Crashed)
    assert str(second.cause.error) == "negative"


async def test_a_local_actor_whose_start_raises_is_restarted_and_its_mail_waits() -> None:
    Memory.failing.append(OSError("no world"))
    async with LocalSystem("x") as local:
        memory = local.spawn(Memory, "a", policy=LOCAL)
        assert await memory.ask(Add(amount=1)) == 101
        assert memory.restarts == 1


async def test_a_local_actor_that_never_starts_is_stopped() -> None:
    Memory.failing.extend(OSError("no world") for _ in range(9))
    async with LocalSystem("x") as local:
        memory = local.spawn(Memory, "a", policy=LOCAL)
        with pytest.raises(ActorStopped, match="crashed with OSError: no world"):
            await memory.ask(Add(amount=1))


async def test_a_local_actor_that_is_stopped_before_it_starts_is_not_told() -> None:
    async with LocalSystem("x") as local:
        await local.spawn(Memory, "a", policy=LOCAL).stop()
        await asyncio.sleep(0)
    assert Memory.told == []
