"""Turns that only wait are unloaded, and go on from where they waited when a message ends a wait: in memory, on a real server."""

import asyncio
from collections.abc import AsyncGenerator, Callable, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
import pytest

from regrow.actors import Actor, AskTimeout, Event, Kind, Message, Node, Policy, Refused, System, command, event, query
from regrow.actors import tool as make_tool
from regrow.actors.group import Group
from regrow.actors.records import Begun, Record, Suspended, Turn
from regrow.bus import Address, Bus, MemoryBus, decode
from regrow.bus.subjects import BOXES
from regrow.supervisor import Backoff

pytestmark = pytest.mark.asyncio

POLICY = Policy(backoff=Backoff(first_s=0.0), suspend_after_s=0.0)


class Slow(Message[int]):
    pass


class Plan(Message[int]):
    how: str = "plain"
    number: int = 1
    timeout_s: float = 600.0


class Planned(Event):
    number: int


class Numbers(Message[list[int]]):
    pass


class Probe:
    """What handlers and tools tell a test, and what holds them."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()

    async def hold(self) -> None:
        self.reached.set()
        await self.go_on.wait()


_probe: Probe | None = None


@pytest.fixture(autouse=True)
def probe(monkeypatch: pytest.MonkeyPatch) -> Probe:
    """Also looks for turns to suspend all the time, be their waits ever so short."""
    made = Probe()
    monkeypatch.setattr("regrow.actors.host.TIDY_S", 0.002)
    monkeypatch.setattr("regrow.actors.waits.SOON_MS", -10_000)
    monkeypatch.setattr(f"{__name__}._probe", made)
    return made


def told() -> Probe:
    assert _probe is not None
    return _probe


@make_tool
async def note(what: str) -> str:
    told().said.append(what)
    return what


@make_tool
async def held(what: str) -> str:
    await told().hold()
    return what


class Slowly(Actor):
    """Answers when the test lets it."""

    @command
    async def slow(self, msg: Slow) -> int:
        await held(self.key)
        return 7


class Cleaning:
    async def __aenter__(self) -> None:
        told().said.append("entered")

    async def __aexit__(self, *_: object) -> None:
        told().said.append("left")
        await note("compensated")


class Planner(Actor):
    numbers: list[int] = []

    @command
    async def plan(self, msg: Plan) -> int:
        await note(f"begun {msg.number}")
        slow = self.ref(Slowly, self.key)
        answer = await getattr(self, f"_{msg.how}")(slow, msg)
        if answer == -1:
            return -1
        self.emit(Planned(number=msg.number))
        await note(f"ended {msg.number}")
        return int(answer)

    async def _plain(self, slow: Any, msg: Plan) -> int:
        return int(await slow.ask(Slow(), timeout_s=msg.timeout_s))

    async def _none(self, slow: Any, msg: Plan) -> int:
        return 0

    async def _finally(self, slow: Any, msg: Plan) -> int:
        try:
            return int(await slow.ask(Slow(), timeout_s=600))
        finally:
            told().said.append("finally")
            await note("compensated")

    async def _async_with(self, slow: Any, msg: Plan) -> int:
        async with Cleaning():
            return int(await slow.ask(Slow(), timeout_s=600))

    async def _except(self, slow: Any, msg: Plan) -> int:
        try:
            return int(await slow.ask(Slow(), timeout_s=600))
        except Exception:
            await note("compensated")
            raise

    async def _except_base(self, slow: Any, msg: Plan) -> int:
        try:
            return int(await slow.ask(Slow(), timeout_s=600))
        except BaseException:
            told().said.append("caught")
            await note("compensated")
            raise

    async def _shield(self, slow: Any, msg: Plan) -> int:
        return int(await asyncio.shield(asyncio.ensure_future(slow.ask(Slow(), timeout_s=600))))

    async def _swallow(self, slow: Any, msg: Plan) -> int:
        try:
            return int(await slow.ask(Slow(), timeout_s=600))
        except asyncio.CancelledError:
            self.emit_nothing()
            return -1

    async def _refuse(self, slow: Any, msg: Plan) -> int:
        try:
            return int(await slow.ask(Slow(), timeout_s=600))
        except asyncio.CancelledError:
            raise Refused("swallowed") from None

    async def _tools(self, slow: Any, msg: Plan) -> int:
        asking: asyncio.Task[int] = asyncio.create_task(slow.ask(Slow(), timeout_s=600))
        await asyncio.gather(asking, held("beside"))
        return asking.result()

    async def _timeout(self, slow: Any, msg: Plan) -> int:
        async with asyncio.timeout(500):
            return int(await slow.ask(Slow(), timeout_s=600))

    async def _race(self, slow: Any, msg: Plan) -> int:
        other = self.ref(Slowly, "other")
        done, rest = await asyncio.wait(
            [asyncio.ensure_future(each.ask(Slow(), timeout_s=600)) for each in (slow, other)],
            return_when=asyncio.FIRST_COMPLETED,
        )
        for each in rest:
            each.cancel()
        return int(done.pop().result())

    async def _late(self, slow: Any, msg: Plan) -> int:
        try:
            return int(await slow.ask(Slow(), timeout_s=msg.timeout_s))
        except AskTimeout:
            return -2

    def emit_nothing(self) -> None:
        with pytest.raises(asyncio.CancelledError):
            self.emit(Planned(number=99))
        with pytest.raises(asyncio.CancelledError):
            self.send(self.ref(Planner, "other"), Plan())
        told().said.append("swallowed")

    @query
    async def read(self, msg: Numbers) -> list[int]:
        return self.numbers

    @event
    def planned(self, fact: Planned) -> None:
        self.numbers.append(fact.number)


def system(app: str) -> System:
    often = msgspec.structs.replace(POLICY, deaths_max=1_000)
    return System(app, [Kind(actor=Planner, policy=POLICY), Kind(actor=Slowly, policy=often)])


def group_of(node: Node, kind: str) -> Group:
    return node.host._groups[kind]  # pyright: ignore[reportPrivateUsage]


@asynccontextmanager
async def hosted(bus: Bus, app: str) -> AsyncGenerator[Node]:
    async with asyncio.timeout(30), system(app).host(bus) as node:
        yield node


async def until(holds: Callable[[], bool]) -> None:
    """What only can be looked at."""
    while not holds():  # noqa: ASYNC110
        await asyncio.sleep(0.002)


async def waiting(bus: Bus) -> int:
    """Messages in the mailboxes."""
    if isinstance(bus, MemoryBus):
        return sum(len(bus.mail.waiting(box)) for box in BOXES)
    count = 0
    for box in BOXES:
        answer = await bus.request(f"$JS.API.STREAM.INFO.{bus.subjects.mail_stream(box)}", b"", timeout_s=5.0)
        count += msgspec.json.decode(answer.body)["state"]["messages"]
    return count


async def entries(bus: Bus, key: str) -> list[Any]:
    stored = await bus.log.read(Address("planner", key))
    return [entry for each in stored for entry in decode(each.data, Record, "record").entries]


async def suspended(node: Node, times: int = 1) -> None:
    """Returns when turns have been suspended so often, and the planners are out of memory."""
    await until(lambda: node.host.statistics["suspensions"] >= times and len(group_of(node, "planner")) == 0)


async def test_a_turn_that_only_waits_leaves_the_memory_and_goes_on_when_its_answer_comes(
    bus: Bus, app_name: str, probe: Probe
) -> None:
    async with hosted(bus, app_name) as node:
        await node.ref(Planner, "a").tell(Plan())
        await probe.reached.wait()
        await suspended(node)
        while await waiting(bus) > 2:  # noqa: ASYNC110 # the ask of the one who answers, and the timer where timers are mail
            await asyncio.sleep(0.002)
        assert isinstance((await entries(bus, "a"))[-1], Suspended)
        assert await node.ref(Planner, "a").ask(Numbers()) == []
        probe.go_on.set()
        await until(lambda: "ended 1" in probe.said)
        assert await node.ref(Planner, "a").ask(Plan(how="none", number=2)) == 0
        assert await node.ref(Planner, "a").ask(Numbers()) == [1, 2]
    assert probe.said == ["begun 1", "ended 1", "begun 2", "ended 2"]
    assert await waiting(bus) == 0


async def test_whoever_asked_gets_the_answer_of_a_turn_that_was_suspended(
    bus: Bus, app_name: str, probe: Probe
) -> None:
    async with hosted(bus, app_name) as node:
        asking = asyncio.create_task(node.ref(Planner, "a").ask(Plan(), timeout_s=20))
        await probe.reached.wait()
        await until(lambda: node.host.statistics["suspensions"] == 1)
        probe.go_on.set()
        assert await asking == 7
    assert probe.said == ["begun 1", "ended 1"]


async def test_mail_of_a_suspended_actor_waits_in_its_order_and_wakes_nobody(
    bus: Bus, app_name: str, probe: Probe
) -> None:
    async with hosted(bus, app_name) as node:
        planner = node.ref(Planner, "a")
        await planner.tell(Plan())
        await probe.reached.wait()
        await suspended(node)
        for number in range(2, 6):
            await planner.tell(Plan(how="none", number=number))
        asking = asyncio.create_task(planner.ask(Plan(how="none", number=6)))
        loaded = node.host.statistics["recoveries"]
        await until(lambda: len(group_of(node, "planner")) == 1)
        for number in range(7, 10):
            await planner.tell(Plan(how="none", number=number))
        assert node.host.statistics["recoveries"] <= loaded + 2
        assert probe.said == ["begun 1"]
        probe.go_on.set()
        assert await asking == 0
        await until(lambda: "ended 9" in probe.said)
        assert node.host.statistics["suspensions"] == 1
        while len(numbers := await planner.ask(Numbers())) < 9:  # noqa: ASYNC110 - the last turn is about to be recorded
            await asyncio.sleep(0)
    assert sorted(numbers) == list(range(1, 10)) and numbers[0] == 1
    assert [each for each in numbers if each != 6] == [1, 2, 3, 4, 5, 7, 8, 9]
    assert await waiting(bus) == 0


async def test_another_process_goes_on_with_a_suspended_turn(
    open_another: Callable[[], Any], app_name: str, probe: Probe
) -> None:
    bus = await open_another()
    async with hosted(bus, app_name) as node:
        await node.ref(Planner, "a").tell(Plan())
        await probe.reached.wait()
        await suspended(node)
    probe.go_on.set()
    async with hosted(await open_another(), app_name) as node:
        await until(lambda: "ended 1" in probe.said)
        assert await node.ref(Planner, "a").ask(Plan(how="none", number=2)) == 0
    assert probe.said == ["begun 1", "ended 1", "begun 2", "ended 2"]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("finally", ["finally"]),
        ("async_with", ["entered", "left"]),
        ("except", []),
        ("except_base", ["caught"]),
        ("shield", []),
        ("race", []),
    ],
)
async def test_no_compensation_runs_because_of_a_suspension(
    bus: Bus,
    app_name: str,
    probe: Probe,
    how: str,
    said: list[str],
    logged: list[MutableMapping[str, Any]],
) -> None:
    async with hosted(bus, app_name) as node:
        await node.ref(Planner, "a").tell(Plan(how=how))
        await probe.reached.wait()
        await suspended(node)
        assert probe.said == ["begun 1", *said]
        kinds = [type(entry).__name__ for entry in await entries(bus, "a")]
        assert kinds[:2] == ["Begun", "Steps"] and kinds[-1] == "Suspended"
        assert set(kinds[2:-1]) == {"Asked"}
        probe.go_on.set()
        await until(lambda: "ended 1" in probe.said)
    assert [each["event"] for each in logged if each["log_level"] == "error"] == []


@pytest.mark.parametrize("how", ["swallow", "refuse"])
async def test_a_handler_that_goes_on_after_its_suspension_is_reported_and_unloaded(
    bus: Bus, app_name: str, probe: Probe, how: str, logged: list[MutableMapping[str, Any]]
) -> None:
    async with hosted(bus, app_name) as node:
        await node.ref(Planner, "a").tell(Plan(how=how))
        await probe.reached.wait()
        await suspended(node)
        errors = [each["event"] for each in logged if each["log_level"] == "error"]
        assert errors == ["a handler went on after its suspension; clean up in except, and let CancelledError pass"]
        probe.go_on.set()
        await until(lambda: "ended 1" in probe.said)
        while await node.ref(Planner, "a").ask(Numbers()) != [1]:  # noqa: ASYNC110 # a query looks, whenever that is
            await asyncio.sleep(0.002)
    assert len([entry for entry in await entries(bus, "a") if isinstance(entry, Turn)]) == 1


@pytest.mark.parametrize("how", ["tools", "timeout"])
async def test_a_turn_that_does_more_than_wait_stays(bus: Bus, app_name: str, probe: Probe, how: str) -> None:
    async with hosted(bus, app_name) as node:
        await node.ref(Planner, "a").tell(Plan(how=how))
        await probe.reached.wait()
        looks = 0

        def looked() -> bool:
            nonlocal looks
            looks += 1
            return looks > 20

        await until(looked)
        assert node.host.statistics["suspensions"] == 0
        assert len(group_of(node, "planner")) == 1
        probe.go_on.set()
        await until(lambda: "ended 1" in probe.said)


async def test_an_ask_whose_answer_never_comes_ends_at_its_deadline(bus: Bus, app_name: str, probe: Probe) -> None:
    async with hosted(bus, app_name) as node:
        await node.ref(Planner, "a").tell(Plan(how="late", timeout_s=0.5))
        await suspended(node)
        await until(lambda: "ended 1" in probe.said)
        probe.go_on.set()
    assert probe.said == ["begun 1", "ended 1"]


async def test_the_timer_of_a_wait_that_is_over_is_removed(bus: Bus, app_name: str, probe: Probe) -> None:
    if not isinstance(bus, MemoryBus):
        pytest.skip("what is scheduled is looked at in memory")
    async with hosted(bus, app_name) as node:
        await node.ref(Planner, "a").tell(Plan())
        await probe.reached.wait()
        await suspended(node)
        scheduled = bus.mail._timers  # pyright: ignore[reportPrivateUsage]
        assert len(scheduled) == 1
        probe.go_on.set()
        await until(lambda: "ended 1" in probe.said)
        await until(lambda: not scheduled)


async def test_processes_that_die_while_a_turn_is_suspended_are_not_held_against_it(
    open_another: Callable[[], Any], app_name: str, probe: Probe
) -> None:
    async with AsyncExitStack() as lives:
        first = await open_another()
        node = await lives.enter_async_context(hosted(first, app_name))
        await node.ref(Planner, "a").tell(Plan())
        await probe.reached.wait()
        await suspended(node)
        await node.ref(Planner, "a").tell(Plan(how="none", number=2))
        for _ in range(POLICY.deaths_max + 2):  # taken over from one that has not let go: as if it had died
            node = await lives.enter_async_context(hosted(await open_another(), app_name))
            await until(lambda: len(group_of(node, "planner")) == 1)  # noqa: B023
            await until(lambda: not group_of(node, "planner")._draining)  # noqa: B023  # pyright: ignore[reportPrivateUsage]
        probe.go_on.set()
        await until(lambda: "ended 2" in probe.said)
    assert probe.said == ["begun 1", "ended 1", "begun 2", "ended 2"]
    begun = [entry for entry in await entries(first, "a") if isinstance(entry, Begun)]
    assert [each.attempt for each in begun if each.message.id == begun[0].message.id][:1] == [1]
    assert all(each.attempt <= 2 for each in begun)


async def test_where_more_wait_than_may_be_idle_the_longest_waiting_leave_before_their_time(
    app_name: str, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regrow.actors.passivation.PRESSED_S", 0.0)
    patient = Policy(suspend_after_s=3600.0)
    made = System(app_name, [Kind(actor=Planner, policy=patient, idle_max=2), Kind(actor=Slowly, policy=POLICY)])
    async with asyncio.timeout(30), made.host(MemoryBus(app_name)) as node:
        for key in "abcde":
            await node.ref(Planner, key).tell(Plan())
        await until(lambda: node.host.statistics["suspensions"] == 3)
        assert len(group_of(node, "planner")) == 2
        probe.go_on.set()
        await until(lambda: probe.said.count("ended 1") == 5)
