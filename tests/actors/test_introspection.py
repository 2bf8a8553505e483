"""A running application is seen and steered: its tree, who waits for whom, one actor suspended and traced."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

import msgspec
import pytest

from regrow.actors import (
    Actor,
    Administration,
    Event,
    Kind,
    Message,
    NoActor,
    Node,
    Policy,
    System,
    command,
    event,
    query,
    tool,
)
from regrow.actors.cycle_watch import LOOK_S, OLD_MS, CycleWatch
from regrow.actors.insight import (
    BRANCHES_MAX,
    CHILDREN_MAX,
    KindSeen,
    OldWaits,
    OpenAsk,
    Seen,
    branch_of,
    waits_subject,
)
from regrow.actors.overview import Attempted, overview_of
from regrow.actors.records import Asked, Begun, Letter, Record, Started
from regrow.actors.steering import NoNode, Unserved
from regrow.actors.trace import WAITING_MAX, Traced, Tracer
from regrow.bus import Address, Bus, MemoryBus, Stored, encode, shard_of
from regrow.bus.subjects import SHARDS
from regrow.supervisor import Crashed, Killed, TreeInfo

pytestmark = pytest.mark.asyncio

OpenBus = Callable[[], Awaitable[Bus]]
Logged = list[MutableMapping[str, Any]]

SECRET = "the-secret"


class Meet(Message[str]):
    other: str


class Hear(Message[str]):
    pass


class Work(Message[int]):
    what: str = SECRET


class Total(Message[int]):
    pass


class Worked(Event):
    amount: int


class Probe:
    """What handlers tell a test, and what holds them."""

    def __init__(self) -> None:
        self.come: dict[str, asyncio.Event] = {each: asyncio.Event() for each in "abc"}
        self.go_on = asyncio.Event()


_probe: Probe | None = None


@pytest.fixture(autouse=True)
def probe(monkeypatch: pytest.MonkeyPatch) -> Probe:
    made = Probe()
    monkeypatch.setattr(f"{__name__}._probe", made)
    return made


def told() -> Probe:
    assert _probe is not None
    return _probe


@tool
async def doubled(what: str, times: int) -> int:
    return 2 * times


class Guest(Actor):
    """Asks another guest, who can only hear once he has been answered himself."""

    total: int = 0

    @command
    async def meet(self, msg: Meet) -> str:
        told().come[self.key].set()
        await told().go_on.wait()
        return await self.ref(Guest, msg.other).ask(Hear(), timeout_s=60.0)

    @command
    async def hear(self, msg: Hear) -> str:
        return self.key

    @command
    async def work(self, msg: Work) -> int:
        self.emit(Worked(amount=await doubled(msg.what, 2)))
        return self.total

    @query
    async def read(self, msg: Total) -> int:
        return self.total

    @event
    def worked(self, fact: Worked) -> None:
        self.total += fact.amount


def app(bus: Bus) -> System:
    return System(bus.subjects.app, actors=[Guest])


def counted(seen: Seen) -> KindSeen:
    (found,) = (kind for kind in seen.nodes[0].kinds if kind.kind == "guest")
    return found


async def meet(node: Node, tasks: asyncio.TaskGroup, *pairs: tuple[str, str]) -> list[asyncio.Task[str]]:
    """Each first guest of a pair asks the second one, all at the same time."""
    asks = [tasks.create_task(node.ref(Guest, one).ask(Meet(other=other), timeout_s=60.0)) for one, other in pairs]
    for one, _ in pairs:
        await told().come[one].wait()
    told().go_on.set()
    return asks


async def wait_until(holds: Callable[[], bool]) -> None:
    """Returns when it holds, which others bring about in turns of the event loop."""
    while not holds():  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0)


# Cycles of asks


async def test_actors_that_ask_each_other_at_the_same_time_are_named(nats_bus: Bus, logged: Logged) -> None:
    async with app(nats_bus).host(nats_bus) as node, asyncio.TaskGroup() as tasks:
        asks = await meet(node, tasks, ("a", "b"), ("b", "a"))
        assert await node.introspection.watch.wait_named() == (("guest/a", "guest/b"),)
        await node.introspection.watch.look()
        seen = await Administration(nats_bus).tree()
        for each in asks:
            each.cancel()
    assert seen.cycles == (("guest/a", "guest/b"),)
    assert {(each.waiter, each.on) for each in seen.waits} == {("guest/a", "guest/b"), ("guest/b", "guest/a")}
    assert all(each.step.startswith("/ask/") and each.deadline_ms > each.since_ms for each in seen.waits)
    assert counted(seen).waiting == 2
    assert [each["path"] for each in logged if each["event"] == "ask_cycle"] == ["guest/a -> guest/b -> guest/a"]


async def test_a_cycle_is_named_within_a_second_of_its_last_ask() -> None:
    """It is old, its node looks and tells it, and another node looks: three times the worst."""
    assert OLD_MS / 1000 + 2 * LOOK_S < 1.0


async def test_a_circle_of_three_is_named_and_who_waits_for_it_is_not(nats_bus: Bus) -> None:
    async with app(nats_bus).host(nats_bus) as node, asyncio.TaskGroup() as tasks:
        asks = await meet(node, tasks, ("a", "b"), ("b", "c"), ("c", "a"))
        assert await node.introspection.watch.wait_named() == (("guest/a", "guest/b", "guest/c"),)
        for each in asks:
            each.cancel()


async def test_asks_that_are_answered_are_no_cycle(nats_bus: Bus) -> None:
    async with app(nats_bus).host(nats_bus) as node, asyncio.TaskGroup() as tasks:
        asks = await meet(node, tasks, ("a", "b"), ("b", "c"))
        assert [await each for each in asks] == ["b", "c"]
        await node.introspection.watch.look()
        assert node.introspection.watch.named == ()
        assert (await Administration(nats_bus).tree()).waits == ()


async def test_a_cycle_of_turns_that_no_process_holds_any_more_is_named(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regrow.actors.host.TIDY_S", 0.002)
    monkeypatch.setattr("regrow.actors.cycle_watch.OLD_MS", 0)
    kind = Kind(actor=Guest, policy=Policy(suspend_after_s=0.0))
    async with System(bus.subjects.app, actors=[kind]).host(bus) as node:
        for one, other in ("a", "b"), ("b", "a"):
            await node.ref(Guest, one).tell(Meet(other=other))
            await told().come[one].wait()
        told().go_on.set()
        await wait_until(lambda: [each.suspended for each in node.introspection.open_asks()] == [True, True])
        await node.introspection.watch.look()
        assert node.introspection.watch.named == (("guest/a", "guest/b"),)
        assert counted(await Administration(bus).tree()).waiting == 2


def ask(waiter: str, on: str, at_ms: int = 0) -> OpenAsk:
    return OpenAsk(Address("k", waiter), Asked("/ask/0", ("k", on), msgspec.Raw(b"{}"), at_ms, at_ms + 60_000))


def are(*keys: str) -> Callable[[Address], bool]:
    return lambda actor: actor.key in keys


async def test_a_cycle_over_two_nodes_is_named_by_one_of_them(open_nats: OpenBus, logged: Logged) -> None:
    watches = [
        CycleWatch(await open_nats(), "one", lambda: [ask("a", "b"), ask("a", "x")], are("a", "x")),
        CycleWatch(await open_nats(), "two", lambda: [ask("b", "a")], are("b")),
    ]
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(each.run()) for each in watches]
        assert await watches[0].wait_named() == (("k/a", "k/b"),)
        for each in running:
            each.cancel()
    assert watches[1].named == ()
    assert [each["path"] for each in logged if each["event"] == "ask_cycle"] == ["k/a -> k/b -> k/a"]


async def test_a_cycle_is_named_again_only_when_it_was_over(logged: Logged) -> None:
    asks = circle = [ask("a", "b"), ask("b", "a")]
    watch = CycleWatch(MemoryBus("x"), "one", lambda: asks, lambda _: True)
    for asks in (circle, circle, [], circle):  # noqa: B007 - the watch reads it
        await watch.look()
    assert len([each for each in logged if each["event"] == "ask_cycle"]) == 2


async def test_an_ask_that_has_only_begun_is_not_looked_at() -> None:
    fresh = [ask("a", "b", 1 << 60), ask("b", "a", 1 << 60)]
    watch = CycleWatch(MemoryBus("x"), "one", lambda: fresh, lambda _: True)
    await watch.look()
    assert watch.named == ()


async def test_what_another_node_told_cannot_be_read_and_does_no_harm() -> None:
    bus = MemoryBus("x")
    watch = CycleWatch(bus, "one", list[OpenAsk], lambda _: True)
    running = asyncio.ensure_future(watch.run())
    await asyncio.sleep(0)
    for body in (b"nonsense", encode(OldWaits("one", ())), encode(OldWaits("two", (("k/a", "k/b"),)))):
        await bus.publish(waits_subject("x"), body)
    await asyncio.sleep(0)
    assert not running.done()
    running.cancel()


# The tree


async def test_the_tree_shows_every_node_its_children_and_its_actors(bus: Bus) -> None:
    async with app(bus).host(bus) as node:
        await node.ref(Guest, "a").ask(Work())
        seen = await Administration(bus).tree()
        (one,) = seen.nodes
        assert (one.tree.name, one.tree.strategy, one.tree.state) == (bus.subjects.app, "one_for_one", "running")
        assert {"gateway", "introspection"} <= {each.name for each in one.tree.children}
        (gateway,) = (each for each in one.tree.children if each.name == "gateway")
        assert (gateway.type, gateway.state, gateway.restarts, gateway.cause) == ("worker", "running", 0, None)
        assert gateway.since_ms >= one.tree.since_ms > 0
        assert one.shards == tuple(range(SHARDS))
        (group,) = (each for each in one.tree.children if each.detail.get("in_memory") == 1)
        assert (group.detail["at_work"], group.detail["mail"]) == (0, 0)
        assert counted(seen).idle == 1
        assert (seen.silent, seen.waits, seen.cycles) == ((), (), ())


async def test_a_node_that_stands_by_answers_too(open_another: OpenBus) -> None:
    first, second = await open_another(), await open_another()
    async with app(first).host(first), app(second).host(second):
        await Administration(second).actors()
        seen = await Administration(first).tree()
        while sorted(len(each.shards) for each in seen.nodes) != [
            0,
            SHARDS,
        ]:  # the first one has not heard of its loss yet
            seen = await Administration(first).tree()
        assert sorted(len(each.shards) for each in seen.nodes) == [0, SHARDS]


async def test_where_no_node_runs_that_is_said(bus: Bus) -> None:
    with pytest.raises(NoNode, match=r"no node of .* answered within 0\.01 s; start one"):
        await Administration(bus).tree(wait_s=0.01)
    with pytest.raises(Unserved, match=r"no node said within 0\.01 s that it serves guest/a"):
        await Administration(bus).suspend("guest", "a", wait_s=0.01)


async def test_of_an_exception_only_the_class_is_shown_and_of_many_children_only_some() -> None:
    def info(name: str, *children: TreeInfo, cause: Any = None) -> TreeInfo:
        return TreeInfo(
            name=name,
            type="worker",
            strategy=None,
            state="running",
            restarts=1,
            cause=cause,
            since=0.0,
            children=children,
        )

    crashed, killed = info("a", cause=Crashed(ValueError(SECRET))), info("b", cause=Killed(9))
    shown = branch_of(info("root", crashed, killed), 1.0)
    assert [each.cause for each in shown.children] == ["crashed with ValueError", "was killed by SIGKILL"]
    many = info("many", *(info(str(number)) for number in range(CHILDREN_MAX + 3)))
    assert branch_of(many, 1.0).hidden == 3
    whole = branch_of(info("root", *[many] * CHILDREN_MAX), 1.0)
    assert sum(len(each.children) for each in whole.children) + len(whole.children) == BRANCHES_MAX


# Suspend and resume


async def test_a_suspended_actor_takes_no_mail_until_it_is_resumed_and_loses_none(bus: Bus) -> None:
    async with app(bus).host(bus) as node, asyncio.TaskGroup() as tasks:
        guest, administration = node.ref(Guest, "a"), node.client.administration
        assert await guest.ask(Work()) == 4
        assert await administration.suspend("guest", "a")
        assert not await administration.suspend("guest", "a")
        asks = [tasks.create_task(guest.ask(Work())) for _ in range(2)]
        await guest.tell(Work())
        while counted(seen := await administration.tree()).mail < 3:
            pass
        assert (counted(seen).suspended, seen.nodes[0].busiest[0].actor) == (1, "guest/a")
        assert await guest.ask(Total()) == 4
        assert not any(each.done() for each in asks)
        assert await administration.resume("guest", "a")
        assert not await administration.resume("guest", "a")
        await asyncio.gather(*asks)
        assert await guest.ask(Work()) == 20


async def test_the_turn_that_runs_when_its_actor_is_suspended_goes_on_to_its_end(bus: Bus) -> None:
    async with app(bus).host(bus) as node, asyncio.TaskGroup() as tasks:
        ask = tasks.create_task(node.ref(Guest, "a").ask(Meet(other="b")))
        await told().come["a"].wait()
        assert await node.client.administration.suspend("guest", "a")
        told().go_on.set()
        assert await ask == "b"
        assert (await node.client.administration.get_state(Guest, "a")) == {"total": 0}
        assert not node.host.rosters["guest"].cell(Address("guest", "a")).idle


async def test_a_suspension_lives_no_longer_than_the_copy_of_its_actor(bus: Bus) -> None:
    async with app(bus).host(bus) as node:
        await node.client.administration.suspend("guest", "a")
        await node.ref(Guest, "a").tell(Work())
    async with app(bus).host(bus) as node:
        assert await node.ref(Guest, "a").ask(Work()) == 8


async def test_a_suspension_ends_when_its_kind_is_restarted(bus: Bus) -> None:
    async with app(bus).host(bus) as node:
        await node.client.administration.suspend("guest", "a")
        cell = node.host.rosters["guest"].cell(Address("guest", "a"))
        cell.drop(Killed(9))
        assert not cell.paused


# Trace


async def some(told_by: AsyncIterator[Traced], until: str) -> list[Traced]:
    """What is told, up to the first thing of that sort."""
    found: list[Traced] = []
    async for each in told_by:
        found.append(each)
        if each.what == until:
            break
    return found


async def test_a_trace_tells_messages_steps_and_turns_and_nothing_that_was_said(bus: Bus) -> None:
    async with app(bus).host(bus) as node:
        guest, administration = node.ref(Guest, "a"), node.client.administration
        async with administration.trace("guest", "a") as told_by:
            await guest.ask(Work())
            done = await some(told_by, "recorded")
            await guest.ask(Total())
            asked = await some(told_by, "query")
        assert [(each.what, each.type, each.tool, each.failure) for each in done] == [
            ("taken", "Work", "", ""),
            ("began", "", "", ""),
            ("step began", "", "doubled", ""),
            ("step ended", "", "doubled", ""),
            ("recorded", "", "", ""),
        ]
        assert done[3].took_ms > 0
        assert [each.type for each in asked] == ["Total"]
        assert SECRET not in encode([*done, *asked]).decode()


async def test_a_trace_begins_in_the_middle_of_a_turn_and_tells_how_it_fails(bus: Bus) -> None:
    async with app(bus).host(bus) as node:
        administration = node.client.administration
        await node.ref(Guest, "a").tell(Meet(other="b"))
        await told().come["a"].wait()
        async with administration.trace("guest", "a") as told_by:
            await administration.suspend("guest", "b")
            told().go_on.set()
            begun = await some(told_by, "step began")
            await administration.cancel("guest", "a")
            ended = await some(told_by, "recorded")
        assert [each.tool for each in begun] == ["ask"]
        assert [(each.what, each.failure) for each in ended] == [("step ended", "cancelled"), ("recorded", "cancelled")]


async def test_a_tracer_that_nobody_asks_for_any_more_is_gone(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regrow.actors.trace.TRACE_S", 0.0)
    async with app(bus).host(bus) as node:
        await node.ref(Guest, "a").ask(Work())
        cell = node.host.rosters["guest"].cell(Address("guest", "a"))
        async with node.client.administration.trace("guest", "a"):
            await wait_until(lambda: cell.tracer is None)
        assert await node.ref(Guest, "a").ask(Work()) == 8


async def test_what_comes_too_fast_for_a_trace_is_counted() -> None:
    bus, found = MemoryBus("x"), list[Traced]()
    tracer = Tracer(bus, "rg.x.sys.traced.k.a")
    for _ in range(WAITING_MAX + 3):
        tracer.tell("taken", type="Work")
    done = asyncio.Event()

    async with bus.serve(
        "rg.x.sys.traced.>", lambda request: found.append(msgspec.json.decode(request.body, type=Traced))
    ):
        running = asyncio.ensure_future(tracer.run(done.set))
        await wait_until(lambda: len(found) > WAITING_MAX)
        running.cancel()
        await done.wait()
    assert (found[-1].what, found[-1].lost) == ("lost", 3)


# State


async def test_the_committed_state_is_read_from_the_log(bus: Bus) -> None:
    async with app(bus).host(bus) as node:
        await node.ref(Guest, "a").ask(Work())
        assert await node.client.administration.get_state(Guest, "a") == {"total": 4}
        with pytest.raises(NoActor):
            await node.client.administration.get_state(Guest, "b")


async def test_an_overview_says_which_steps_have_begun() -> None:
    letter = Letter("in", 1, "m1", msgspec.Raw(b"{}"))
    started = Started("/charge/0", "charge", msgspec.Raw(b'["secret"]'), 2, 5, once=True)
    record = encode(Record(1, "r", (Begun(letter), started)))
    overview = overview_of(Address("guest", "a"), [Stored(1, 1, record)])
    assert overview is not None
    assert overview.opened is not None
    assert overview.opened.started == (Attempted("charge", 2, once=True),)
    assert shard_of(Address("guest", "a")) < SHARDS
