"""Steps: run once, answered from the log after a crash, and in the order in which they once completed.

A kill is the host's end in the middle of a turn: what is not in the log is lost. The second host finds other timing: what was
slow is fast and the other way round. ``RAN`` is the witness, outside the runtime: which tool bodies ran.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from regrow.actors import (
    Actor,
    AskFailed,
    AskTimeout,
    Event,
    Kind,
    Message,
    Policy,
    Refused,
    Retry,
    StepFailed,
    System,
    command,
    current_step,
    event,
    query,
    step,
    tool,
)
from regrow.actors.records import Cancelled, Record, Steps
from regrow.actors.records import Step as Recorded
from regrow.bus import Address, Bus, decode
from regrow.supervisor import Backoff
from regrow.testing.appends import replace_append

pytestmark = pytest.mark.asyncio

OpenBus = Callable[[], Awaitable[Bus]]

RAN: list[str] = []
KEYS: list[str] = []
DELAYS: dict[str, float] = {}
HELD: dict[str, asyncio.Event] = {}
"""Tools named here announce themselves and then wait for ever."""


@pytest.fixture(autouse=True)
def fresh_witness() -> Iterator[None]:
    for each in (RAN, KEYS, DELAYS, HELD):
        each.clear()
    yield


class NoRoute(Exception):
    pass


class NoBridge(NoRoute):
    pass


class Odd(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")


async def witnessed(name: str) -> str:
    context = current_step()
    RAN.append(name)
    if context is not None:
        KEYS.append(context.key)
    await asyncio.sleep(DELAYS.get(name, 0.0))
    if name in HELD:
        HELD[name].set()
        await asyncio.Event().wait()
    return name.upper()


@tool
async def work(name: str) -> str:
    return await witnessed(name)


@tool
async def hold(name: str) -> str:
    return await witnessed(name)


@tool(pure=True)
async def look(name: str) -> str:
    return await witnessed(name)


@tool
def count_in_thread(name: str) -> tuple[str, bool]:
    RAN.append(name)
    return name.upper(), threading.current_thread() is threading.main_thread()


@tool(raises=(NoRoute, Odd))
async def route(name: str) -> str:
    RAN.append(name)
    match name:
        case "declared":
            raise NoRoute("closed", 3)
        case "below":
            raise NoBridge("gone")
        case "odd":
            raise Odd(code=3)
        case "no json":
            raise NoRoute(NotImplemented)
        case "result":
            return object()  # type: ignore[return-value]  # pyright: ignore[reportReturnType]
        case "from within":
            raise asyncio.CancelledError("lost")
        case _:
            raise KeyError(name)


@tool(retry=Retry(attempts=3, backoff=Backoff(first_s=0.0)), raises=(NoRoute,))
async def flaky(name: str, good_at: int) -> int:
    context = current_step()
    RAN.append(name)
    if name == "declared":
        raise NoRoute("closed")
    attempt = context.attempt if context is not None else 0
    if attempt < good_at:
        raise ConnectionError(f"attempt {attempt}")
    return attempt


@tool
async def outer(name: str) -> str:
    return await work(f"inner {name}") + await work(f"inner {name}")


class Run(Message[list[str]]):
    how: str


class Did(Event):
    what: list[str]


class Worker(Actor):
    done: list[str] = []

    @command
    async def run(self, msg: Run) -> list[str]:
        result = await HOW[msg.how](self)
        self.emit(Did(what=result))
        return result

    @event
    def did(self, fact: Did) -> None:
        self.done = fact.what


async def _in_turn(actor: Worker) -> list[str]:
    return [await work("a"), await work("a"), await work("b"), await hold("z")]


async def _gather(actor: Worker) -> list[str]:
    return [*await asyncio.gather(work("a"), work("b"), work("c")), await hold("z")]


async def _group(actor: Worker) -> list[str]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_pair(name)) for name in "ab"]
    return [part for task in tasks for part in task.result()] + [await hold("z")]


async def _pair(name: str) -> list[str]:
    return list(await asyncio.gather(work(f"{name}1"), work(f"{name}2")))


async def _completed(actor: Worker) -> list[str]:
    order = [await each for each in asyncio.as_completed([work("a"), work("b"), work("c")])]
    return [*order, await hold("z")]


async def _completed_of_a_set(actor: Worker) -> list[str]:
    return [await each for each in asyncio.as_completed({work(name) for name in "abc"})]


async def _completed_tasks_of_a_set(actor: Worker) -> list[str]:
    tasks = [asyncio.create_task(work(name)) for name in "abc"]
    return [*[await each for each in asyncio.as_completed(set(tasks))], await hold("z")]


async def _in_time(actor: Worker) -> list[str]:
    return [
        await asyncio.wait_for(work("a"), 5.0),
        await work("b"),
        await asyncio.wait_for(work("c"), None),
        await hold("z"),
    ]


async def _race(actor: Worker) -> list[str]:
    racers = [asyncio.create_task(work(name), name=name) for name in "abc"]
    done, pending = await asyncio.wait(racers, return_when=asyncio.FIRST_COMPLETED)
    for each in pending:
        each.cancel()
    await asyncio.wait(racers)
    return [str(len(done)), *(each.get_name() for each in done), await hold("z")]


async def _race_to_the_end(actor: Worker) -> list[str]:
    racers = [asyncio.create_task(work(name), name=name) for name in "abc"]
    rounds: list[str] = []
    waiting: set[asyncio.Task[str]] = set(racers)
    while waiting:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        rounds.append("+".join(sorted(each.get_name() for each in done)))
    return [*rounds, await hold("z")]


async def _nested_race(actor: Worker) -> list[str]:
    async def slowly(name: str) -> str:
        async with asyncio.TaskGroup() as group:
            inner = group.create_task(asyncio.wait_for(work(name), 5.0))
        return inner.result()

    racers = [asyncio.create_task(slowly(name), name=name) for name in "ab"]
    done, _ = await asyncio.wait(racers, return_when=asyncio.FIRST_COMPLETED)
    winner = sorted(each.get_name() for each in done)
    await asyncio.wait(racers)
    return [*winner, await hold("z")]


async def _thread(actor: Worker) -> list[str]:
    (a, a_in_loop), (b, b_in_loop) = await asyncio.gather(count_in_thread("a"), count_in_thread("b"))
    plain = await asyncio.to_thread(str, 3)
    return [a, b, plain, str(a_in_loop or b_in_loop), await hold("z")]


async def _fallback(actor: Worker) -> list[str]:
    try:
        async with asyncio.timeout(0.05):
            first = await hold("slow")
    except TimeoutError:
        first = await work("fallback")
    return [first, await hold("z")]


async def _failing_group(actor: Worker) -> list[str]:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(hold("slow"))
            group.create_task(route("declared"))
    except* NoRoute:
        pass
    return [await work("after"), await hold("z")]


async def _stored_but_not_seen(actor: Worker) -> list[str]:
    """The loser of a race whose record is already there is cancelled before it sees its outcome."""
    racers = [asyncio.create_task(work(name), name=name) for name in "ab"]
    await asyncio.wait(racers, return_when=asyncio.FIRST_COMPLETED)
    losers = [each for each in racers if not each.done()]
    for each in losers:
        each.cancel()
    await asyncio.wait(racers)
    return [each.get_name() for each in racers if not each.cancelled()] + [await hold("z")]


async def _leaf(actor: Worker) -> list[str]:
    return [await outer("x"), await hold("z")]


async def _own_step(actor: Worker) -> list[str]:
    async def body() -> int:
        RAN.append("own")
        return 7

    return [str(await step("own", {"x": 1}, body, int)), await hold("z")]


HOW: dict[str, Callable[[Worker], Awaitable[list[str]]]] = {
    "in turn": _in_turn,
    "gather": _gather,
    "group": _group,
    "completed": _completed,
    "completed of a set": _completed_of_a_set,
    "completed tasks of a set": _completed_tasks_of_a_set,
    "in time": _in_time,
    "race": _race,
    "race to the end": _race_to_the_end,
    "nested race": _nested_race,
    "thread": _thread,
    "fallback": _fallback,
    "failing group": _failing_group,
    "stored but not seen": _stored_but_not_seen,
    "leaf": _leaf,
    "own step": _own_step,
}


def system(app_name: str, **more: object) -> System:
    policy = Policy(backoff=Backoff(first_s=0.0), mend_after_s=3600.0)
    return System(app_name, actors=[Kind(actor=Worker, policy=policy), Asker], ports=more).checked()


async def recorded(bus: Bus, key: str = "a", kind: str = "worker") -> list[Recorded]:
    entries = [
        entry
        for stored in await bus.log.read(Address(kind, key))
        for entry in decode(stored.data, Record, "record").entries
    ]
    steps: list[Recorded] = []
    for entry in entries:
        if isinstance(entry, Steps):
            steps.extend(entry.steps)
        elif isinstance(entry, Cancelled):
            steps.append(entry.step)
    return steps


@asynccontextmanager
async def killed_at_z(bus: Bus, app_name: str, how: str) -> AsyncGenerator[asyncio.Task[list[str]]]:
    """Runs a turn until it waits in its last step, and ends its host there; then every step runs at once, whatever it took."""
    HELD["z"] = asyncio.Event()
    async with system(app_name).host(bus) as node:
        asking = asyncio.create_task(node.ref(Worker, "a").ask(Run(how=how)))
        await HELD["z"].wait()
    del HELD["z"]
    DELAYS.clear()
    HELD.pop("slow", None)
    yield asking
    if not asking.done():
        asking.cancel()


@pytest.mark.parametrize(
    ("how", "ran", "answer"),
    [
        ("in turn", ["a", "a", "b"], ["A", "A", "B", "Z"]),
        ("gather", ["a", "b", "c"], ["A", "B", "C", "Z"]),
        ("group", ["a1", "a2", "b1", "b2"], ["A1", "A2", "B1", "B2", "Z"]),
        ("completed", ["a", "b", "c"], ["C", "B", "A", "Z"]),
        ("completed tasks of a set", ["a", "b", "c"], ["C", "B", "A", "Z"]),
        ("in time", ["a", "b", "c"], ["A", "B", "C", "Z"]),
        ("race", ["a", "b", "c"], ["1", "c", "Z"]),
        ("race to the end", ["a", "b", "c"], ["c", "b", "a", "Z"]),
        ("nested race", ["a", "b"], ["b", "Z"]),
        ("thread", ["a", "b"], ["A", "B", "3", "False", "Z"]),
        ("leaf", ["inner x", "inner x"], ["INNER XINNER X", "Z"]),
        ("own step", ["own"], ["7", "Z"]),
        ("fallback", ["slow", "fallback"], ["FALLBACK", "Z"]),
        ("failing group", ["slow", "declared", "after"], ["AFTER", "Z"]),
    ],
)
async def test_after_a_kill_a_turn_goes_on_where_it_was(
    open_another: OpenBus, app_name: str, how: str, ran: list[str], answer: list[str]
) -> None:
    DELAYS.update(a=0.06, b=0.03)
    HELD["slow"] = asyncio.Event()
    bus = await open_another()
    async with killed_at_z(bus, app_name, how) as asking:
        assert sorted(RAN) == sorted([*ran, "z"])
        before = [step.key for step in await recorded(bus)]
        async with system(app_name).host(await open_another()) as node:
            assert await asking == answer
            assert sorted(RAN) == sorted([*ran, "z", "z"])
            after = [step.key for step in await recorded(bus)]
            assert after[: len(before)] == before
            assert len(after) == len(before) + 1
            assert node.host.statistics["steps_run"] == 1


async def test_outcomes_that_share_a_record_still_come_one_at_a_time(open_another: OpenBus, app_name: str) -> None:
    """Three steps that end in the same turn of the loop are one append; live as replayed, each wins its own round."""
    bus = await open_another()
    async with killed_at_z(bus, app_name, "race to the end") as asking, system(app_name).host(await open_another()):
        assert await asking == ["a", "b", "c", "Z"]
    assert RAN == ["a", "b", "c", "z", "z"]


async def test_a_loser_that_was_cancelled_with_its_record_stored_stays_cancelled(
    open_another: OpenBus, app_name: str
) -> None:
    bus = await open_another()
    async with killed_at_z(bus, app_name, "stored but not seen") as asking:
        cancelled = [step for step in await recorded(bus) if step.cancelled]
        assert len(cancelled) == 1
        assert [step.key for step in await recorded(bus)].count(cancelled[0].key) == 2
        async with system(app_name).host(await open_another()):
            assert await asking == ["a", "Z"]
    assert RAN == ["a", "b", "z", "z"]


async def test_a_timed_out_step_is_recorded_as_cancelled_and_times_out_again(
    open_another: OpenBus, app_name: str
) -> None:
    HELD["slow"] = asyncio.Event()
    bus = await open_another()
    async with killed_at_z(bus, app_name, "fallback") as asking:
        assert [(step.tool, step.cancelled) for step in await recorded(bus)] == [("hold", True), ("work", False)]
        async with system(app_name).host(await open_another()):
            assert await asking == ["FALLBACK", "Z"]
    assert RAN == ["slow", "fallback", "z", "z"]


async def test_what_the_host_cancels_is_not_recorded_and_runs_again(open_another: OpenBus, app_name: str) -> None:
    bus = await open_another()
    async with killed_at_z(bus, app_name, "in turn") as asking:
        assert [step.cancelled for step in await recorded(bus)] == [False] * 3
        async with system(app_name).host(await open_another()):
            assert (await asking)[-1] == "Z"
    assert RAN.count("z") == 2


async def test_the_key_of_a_step_is_the_same_when_it_runs_again(open_another: OpenBus, app_name: str) -> None:
    bus = await open_another()
    async with killed_at_z(bus, app_name, "gather") as asking, system(app_name).host(await open_another()):
        await asking
    assert KEYS[-1] == KEYS[-2]
    assert len(set(KEYS)) == 4


# Failures


async def _failures(actor: Worker) -> list[str]:
    seen: list[str] = []
    for name in ("declared", "below", "odd", "no json", "other", "result", "from within"):
        try:
            await route(name)
        except (NoRoute, StepFailed) as error:
            seen.append(f"{type(error).__name__}{error.args}")
    return [*seen, await hold("z")]


HOW["failures"] = _failures

FAILURES = [
    "NoRoute('closed', 3)",
    "NoRoute('gone',)",
    "StepFailed('Odd: code 3',)",
    "StepFailed('NoRoute: NotImplemented',)",
    "StepFailed(\"KeyError: 'other'\",)",
    "StepFailed('TypeError: the result of route cannot be recorded: $ is an object, which is no JSON (",
    "StepFailed('CancelledError: lost',)",
]


async def test_failures_are_the_same_live_and_replayed(open_another: OpenBus, app_name: str) -> None:
    bus = await open_another()
    async with system(app_name).host(bus) as node:
        live = await node.ref(Worker, "live").ask(Run(how="failures"))
    async with killed_at_z(bus, app_name, "failures") as asking, system(app_name).host(await open_another()):
        replayed = await asking
    assert replayed == live
    assert len(live) == len(FAILURES) + 1
    for seen, expected in zip(live, FAILURES, strict=False):
        assert seen.startswith(expected)


async def _retries(actor: Worker) -> list[str]:
    seen = [str(await flaky("good at last", 3))]
    for name, good_at in [("never", 9), ("declared", 1)]:
        try:
            await flaky(name, good_at)
        except (StepFailed, NoRoute) as error:
            seen.append(str(error))
    return seen


HOW["retries"] = _retries


async def test_a_tool_is_tried_again_as_often_as_it_says_but_never_after_a_declared_error(
    bus: Bus, app_name: str
) -> None:
    async with system(app_name).host(bus) as node:
        answer = await node.ref(Worker, "a").ask(Run(how="retries"))
    assert answer == ["3", "ConnectionError: attempt 3", "closed"]
    assert RAN == ["good at last"] * 3 + ["never"] * 3 + ["declared"]
    assert len(await recorded(bus)) == 3


async def test_outside_a_handler_tools_and_steps_just_run() -> None:
    async def body() -> int:
        return 7

    assert await work("a") == "A"
    assert await flaky("a", 0) == 0
    assert await step("own", {}, body, int) == 7
    with pytest.raises(NoBridge):
        await route("below")
    assert KEYS == []


async def _bad_argument(actor: Worker) -> list[str]:
    return [await work(object())]  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def _wrong_argument(actor: Worker) -> list[str]:
    return [await work(3)]  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


HOW["bad argument"] = _bad_argument
HOW["wrong argument"] = _wrong_argument


async def test_an_argument_that_is_no_json_or_no_such_type_is_named(bus: Bus, app_name: str) -> None:
    async with system(app_name).host(bus) as node:
        with pytest.raises(AskFailed, match="an argument of work cannot be recorded"):
            await node.ref(Worker, "a").ask(Run(how="bad argument"))
        with pytest.raises(AskFailed, match="Expected `str`, got `int`"):
            await node.ref(Worker, "a").ask(Run(how="wrong argument"))
    assert RAN == []


# Ambiguity and drift


async def test_coroutines_that_would_start_by_chance_are_refused_at_once(bus: Bus, app_name: str) -> None:
    async with system(app_name).host(bus) as node:
        with pytest.raises(AskFailed, match="in a handler give as_completed a list"):
            await node.ref(Worker, "a").ask(Run(how="completed of a set"))


async def test_a_step_has_the_same_key_whether_wait_for_makes_a_task_or_not(bus: Bus, app_name: str) -> None:
    async with system(app_name).host(bus) as node:
        await node.ref(Worker, "a").ask(Run(how="in time"))
        assert [step.key.partition("/")[0] for step in await recorded(bus)] == ["", "", "", ""]


async def _equal(actor: Worker) -> list[str]:
    return list(await asyncio.gather(work("a"), work("a")))


async def _equal_pure(actor: Worker) -> list[str]:
    return list(await asyncio.gather(look("a"), look("a")))


HOW["equal"] = _equal
HOW["equal pure"] = _equal_pure


async def test_equal_calls_in_two_tasks_at_once_are_ambiguous_unless_the_tool_is_pure(bus: Bus, app_name: str) -> None:
    async with system(app_name).host(bus) as node:
        with pytest.raises(AskFailed, match="AmbiguousStep: work is called with equal arguments in two tasks at once"):
            await node.ref(Worker, "a").ask(Run(how="equal"))
        assert await node.ref(Worker, "b").ask(Run(how="equal pure")) == ["A", "A"]


async def _changed(actor: Worker) -> list[str]:
    return [await work("something else")]


async def _skips(actor: Worker) -> list[str]:
    return [await work("b"), await hold("z")]


async def _asks_for_less(actor: Worker) -> list[str]:
    return [await work("a")]


async def _one_task_less(actor: Worker) -> list[str]:
    async def nothing() -> str:
        return "-"

    return [*await asyncio.gather(nothing(), work("b"), work("c")), await hold("z")]


@pytest.mark.parametrize(
    ("how", "instead", "sentence"),
    [
        (
            "in turn",
            _changed,
            r'worker/a has .*: work is called with .*: \$.name: "a" was recorded, "something else" is wanted',
        ),
        ("in turn", _skips, r'worker/a has .*: work is called with .*: \$.name: "a" was recorded, "b" is wanted'),
        ("in turn", _asks_for_less, "worker/a has .*: work was recorded, nothing is wanted"),
        ("gather", _one_task_less, r"worker/a has .*: work was recorded, nothing is wanted \(in its task 0\)"),
    ],
)
async def test_a_handler_that_was_changed_under_an_unfinished_turn_waits_alone(
    open_another: OpenBus,
    app_name: str,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
    instead: Callable[[Worker], Awaitable[list[str]]],
    sentence: str,
) -> None:
    bus = await open_another()
    async with killed_at_z(bus, app_name, how) as asking:
        original = HOW[how]
        monkeypatch.setitem(HOW, how, instead)
        ran = len(RAN)
        async with system(app_name).host(await open_another()) as node:
            with pytest.raises(AskFailed, match=sentence) as failed:
                await asking
            assert failed.value.kind == "drift"
            assert await node.ref(Worker, "b").ask(Run(how="equal pure")) == ["A", "A"]
        assert len(RAN) <= ran + 2
        monkeypatch.setitem(HOW, how, original)
        async with system(app_name).host(await open_another()) as node:
            assert (await node.ref(Worker, "a").ask(Run(how="own step")))[0] == "7"
            assert RAN.count("z") == 3


async def _sleeps(actor: Worker) -> list[str]:
    """One task waits for its turn while the one before it takes its time without any step."""

    async def late(name: str) -> str:
        await asyncio.sleep(0.0 if "z" in HELD else 1.2)
        return await work(name)

    return [*await asyncio.gather(late("a"), work("b")), await hold("z")]


HOW["sleeps"] = _sleeps


async def test_a_task_that_sleeps_before_its_step_is_no_drift(open_another: OpenBus, app_name: str) -> None:
    DELAYS["b"] = 0.02
    bus = await open_another()
    async with killed_at_z(bus, app_name, "sleeps") as asking, system(app_name).host(await open_another()):
        assert await asking == ["A", "B", "Z"]
    assert sorted(RAN) == ["a", "b", "z", "z"]


# What a handler leaves behind


async def _leaves_a_task(actor: Worker) -> list[str]:
    HELD["left"] = asyncio.Event()
    left = asyncio.create_task(_left(), name="left")
    actor.port("left").append(left)
    await HELD["left"].wait()
    return ["returned"]


async def _left() -> None:
    try:
        await hold("left")
    finally:
        RAN.append("left ended")


async def _swallows(actor: Worker) -> list[str]:
    for _ in range(3):
        try:
            await hold("z")
        except asyncio.CancelledError:
            RAN.append("swallowed")
    return ["went on"]


HOW["leaves a task"] = _leaves_a_task
HOW["swallows"] = _swallows


async def test_what_a_handler_started_ends_with_its_turn(bus: Bus, app_name: str) -> None:
    left: list[asyncio.Task[None]] = []
    async with system(app_name, left=left).host(bus) as node:
        assert await node.ref(Worker, "a").ask(Run(how="leaves a task")) == ["returned"]
        assert left[0].cancelled()
        assert RAN == ["left", "left ended"]
        assert await recorded(bus) == []


async def test_a_handler_that_swallows_its_cancellation_decides_nothing(open_another: OpenBus, app_name: str) -> None:
    bus = await open_another()
    async with killed_at_z(bus, app_name, "swallows") as asking:
        assert RAN == ["z", "swallowed", "swallowed", "swallowed"]
        assert await bus.log.read(Address("worker", "a")) == []
        async with system(app_name).host(await open_another()) as node:
            assert await asking == ["went on"]
            assert node.host.statistics["steps_run"] == 3


# Asks between actors


class Add(Message[int]):
    amount: int


class Total(Message[int]):
    pass


class Forward(Message[int]):
    to: str
    amount: int


class Around(Message[int]):
    through: str


class Deaf(Message[int]):
    timeout_s: float


class Forever(Message[int]):
    pass


class Added(Event):
    amount: int


class Asker(Actor):
    total: int = 0

    @command
    async def add(self, msg: Add) -> int:
        if msg.amount > 100:
            raise Refused("too much", limit=100)
        self.emit(Added(amount=msg.amount))
        return self.total

    @command
    async def forward(self, msg: Forward) -> int:
        answer = await self.ref(Asker, msg.to).ask(Add(amount=msg.amount))
        again = await self.ref(Asker, msg.to).ask(Add(amount=msg.amount))
        seen = await self.ref(Asker, msg.to).ask(Total())
        await hold("z")
        self.emit(Added(amount=1))
        return answer + again + seen

    @command
    async def around(self, msg: Around) -> int:
        return await self.ref(Asker, msg.through).ask(Forward(to=self.key, amount=1))

    @command
    async def deaf(self, msg: Deaf) -> int:
        try:
            return await self.ref(Asker, "held").ask(Forever(), timeout_s=msg.timeout_s)
        except AskTimeout:
            await hold("z")
            return -1

    @command
    async def forever(self, msg: Forever) -> int:
        await asyncio.Event().wait()
        return 0

    @query
    async def read(self, msg: Total) -> int:
        return self.total

    @event
    def added(self, fact: Added) -> None:
        self.total += fact.amount


async def test_an_ask_inside_a_handler_is_a_step(open_another: OpenBus, app_name: str) -> None:
    bus = await open_another()
    HELD["z"] = asyncio.Event()
    async with system(app_name).host(bus) as node:
        asking = asyncio.create_task(node.ref(Asker, "a").ask(Forward(to="b", amount=2)))
        await HELD["z"].wait()
    del HELD["z"]
    async with system(app_name).host(await open_another()) as node:
        assert await asking == 2 + 4 + 4
        assert await node.ref(Asker, "b").ask(Total()) == 4
        assert node.host.statistics["steps_from_log"] == 3
        assert node.host.statistics["steps_run"] == 1


async def test_a_refusal_in_another_actor_is_one_here_unless_it_is_caught(bus: Bus, app_name: str) -> None:
    async with system(app_name).host(bus) as node:
        with pytest.raises(Refused) as no:
            await node.ref(Asker, "a").ask(Forward(to="b", amount=101))
        assert no.value.data == {"limit": 100}


async def test_an_ask_that_would_wait_for_itself_fails_at_once(bus: Bus, app_name: str) -> None:
    async with system(app_name).host(bus) as node:
        with pytest.raises(AskFailed, match="asking asker/a would never end") as failed:
            await node.ref(Asker, "a").ask(Forward(to="a", amount=1))
        assert failed.value.kind == "deadlock"
        with pytest.raises(
            AskFailed, match=r"asking asker/a would never end: .*asker/a -> asker/b -> asker/a"
        ) as failed:
            await node.ref(Asker, "a").ask(Around(through="b"))
        assert await node.ref(Asker, "b").ask(Total()) == 0


async def test_an_ask_that_timed_out_times_out_again_without_waiting(open_another: OpenBus, app_name: str) -> None:
    HELD["z"] = asyncio.Event()
    async with system(app_name).host(await open_another()) as node:
        asking = asyncio.create_task(node.ref(Asker, "a").ask(Deaf(timeout_s=0.05)))
        await HELD["z"].wait()
    del HELD["z"]
    async with system(app_name).host(await open_another()) as node:
        assert await asking == -1
        assert node.host.statistics["steps_from_log"] == 1


async def test_a_reply_that_was_lost_with_the_asker_is_found_in_the_log_of_the_asked(
    open_another: OpenBus, app_name: str
) -> None:
    """The asker dies between the asked one's record and its own: its ask comes again under the same id."""
    bus = await open_another()
    real, stored = bus.log.append, asyncio.Event()

    async def append(address: Address, data: bytes, *, rid: str, after: int, rollup: bool = False) -> int:
        if address.key == "a":
            stored.set()
            await asyncio.Event().wait()
        return await real(address, data, rid=rid, after=after, rollup=rollup)

    undo = replace_append(bus.log, append)
    async with system(app_name).host(bus) as node:
        asking = asyncio.create_task(node.ref(Asker, "a").ask(Forward(to="b", amount=2)))
        await stored.wait()
    undo()
    async with system(app_name).host(await open_another()) as node:
        assert await asking == 2 + 4 + 4
        assert await node.ref(Asker, "b").ask(Total()) == 4


# Another attempt


async def _cleans_up(actor: Worker) -> list[str]:
    """The step that fails is followed by others, in its own task and in tasks of their own, before its failure goes on."""
    try:
        return [await first_time_fails("x"), await hold("z")]
    except StepFailed:
        await work("clean")
        await asyncio.gather(work("a"), work("b"))
        raise


async def _cancels_a_sibling(actor: Worker) -> list[str]:
    async with asyncio.TaskGroup() as group:
        slow = group.create_task(slow_at_first("slow"))
        late = group.create_task(first_time_fails("late"))
    return [slow.result(), late.result(), await hold("z")]


@tool
async def first_time_fails(name: str) -> str:
    RAN.append(name)
    if RAN.count(name) == 1:
        await asyncio.sleep(0)
        raise ConnectionError("not yet")
    return name.upper()


@tool
async def slow_at_first(name: str) -> str:
    RAN.append(name)
    if RAN.count(name) == 1:
        await asyncio.Event().wait()
    return name.upper()


async def _races_again(actor: Worker) -> list[str]:
    """The first attempt leaves steps behind that the second asks for in another order, and goes on to others."""
    if "failed" not in RAN:
        await asyncio.gather(work("a"), work("b"))
        RAN.append("failed")
        raise ValueError("by something that is not a step")
    return [await work("b"), await work("a"), await work("c"), await hold("z")]


async def _keeps(actor: Worker) -> list[str]:
    """What the first attempt had done is asked for again between steps of the second."""
    seen = [await work("a")] if "failed" not in RAN else [await work("first"), await work("a")]
    seen += await asyncio.gather(work("b"), work("c"))
    if "failed" not in RAN:
        RAN.append("failed")
        raise ValueError("by something that is not a step")
    return [*seen, await work("last"), await hold("z")]


HOW["keeps"] = _keeps
HOW["cleans up"] = _cleans_up
HOW["cancels a sibling"] = _cancels_a_sibling
HOW["races again"] = _races_again


@pytest.mark.parametrize(
    ("how", "answer", "ran"),
    [
        ("cleans up", ["X", "Z"], ["x", "clean", "a", "b", "x", "z", "z"]),
        ("cancels a sibling", ["SLOW", "LATE", "Z"], ["slow", "late", "slow", "late", "z", "z"]),
        ("keeps", ["FIRST", "A", "B", "C", "LAST", "Z"], ["a", "b", "c", "failed", "first", "last", "z", "z"]),
        ("races again", ["B", "A", "C", "Z"], ["a", "b", "failed", "b", "a", "c", "z", "z"]),
    ],
)
async def test_another_attempt_may_take_another_way_and_goes_on_there_after_a_kill(
    open_another: OpenBus, app_name: str, how: str, answer: list[str], ran: list[str]
) -> None:
    bus = await open_another()
    async with killed_at_z(bus, app_name, how) as asking, system(app_name).host(await open_another()):
        assert await asking == answer
    assert ran == RAN
