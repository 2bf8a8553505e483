"""Code that changes under unfinished turns: what is said of it, what the policy makes of it, and what a check finds beforehand.

A kill is the host's end while the handler waits in its last step, ``z``. ``RAN`` is the witness: which tool bodies ran.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from regrow.actors import Actor, AskFailed, Event, Kind, Message, Policy, Refused, System, command, event, query, tool
from regrow.actors.checking import Finding, check
from regrow.actors.drift import another_step, differences, no_step
from regrow.actors.lineage import StepKey
from regrow.actors.records import Drifted, Record, Step
from regrow.bus import Address, Bus, decode
from regrow.supervisor import Backoff

pytestmark = pytest.mark.asyncio

OpenBus = Callable[[], Awaitable[Bus]]
Plan = Callable[[], Awaitable[str]]
Logged = list[MutableMapping[str, Any]]

RAN: list[str] = []
HELD: dict[str, asyncio.Event] = {}
"""Tools named here announce themselves and then wait for ever."""


@pytest.fixture(autouse=True)
def fresh_witness() -> Iterator[None]:
    RAN.clear()
    HELD.clear()
    yield


@tool
async def work(name: str) -> str:
    RAN.append(name)
    if name in HELD:
        HELD[name].set()
        await asyncio.Event().wait()
    return name.upper()


@tool
async def other(name: str) -> str:
    RAN.append(name)
    return name.upper()


class Run(Message[str]):
    pass


class RunAgain(Message[str], tag="RunAgain"):
    pass


class Did(Event):
    what: str


class Counted(Event, tag="Did"):
    what: int


def build(plan: Plan) -> type[Actor]:
    """The class of a build whose handler goes this way."""

    class Runner(Actor, kind="runner"):
        done: str = ""

        @command
        async def run(self, msg: Run) -> str:
            self.emit(Did(what=await plan()))
            return self.done

        @event
        def did(self, fact: Did) -> None:
            self.done = fact.what

    return Runner


def system(name: str, cls: type[Actor], **policy: Any) -> System:
    policy = {"backoff": Backoff(first_s=0.0), "mend_after_s": 0.05, **policy}
    return System(name, [Kind(actor=cls, policy=Policy(**policy))])


async def original() -> str:
    return await work("a") + await work("b") + await work("z")


async def one_argument() -> str:
    return await work("a") + await work("c") + await work("z")


async def swapped() -> str:
    return await work("b") + await work("a") + await work("z")


async def another_tool() -> str:
    return await other("a") + await work("b") + await work("z")


async def shorter() -> str:
    return await work("a")


async def refusing() -> str:
    raise Refused("not today")


async def in_two_tasks() -> str:
    return "".join(await asyncio.gather(work("a"), work("b"))) + await work("z")


async def swallowed_in_a_task() -> str:
    await asyncio.gather(work("b"), work("a"), return_exceptions=True)
    return "went on"


@asynccontextmanager
async def killed_at_z(bus: Bus, app: str, plan: Plan = original) -> AsyncGenerator[asyncio.Task[str]]:
    """A turn whose host ended while the turn waited in its last step."""
    HELD["z"] = asyncio.Event()
    cls = build(plan)
    async with system(app, cls).host(bus) as node:
        asking = asyncio.create_task(node.ref(cls, "a").ask(Run()))
        await HELD["z"].wait()
    del HELD["z"]
    yield asking
    asking.cancel()


async def findings(app: str, cls: type[Actor], bus: Bus, **policy: Any) -> list[Finding]:
    return [each async for each in check(system(app, cls, **policy), bus)]


async def misfit(app: str, cls: type[Actor], bus: Bus) -> tuple[str, str]:
    """Kind and words of the only actor's misfit."""
    (found,) = await findings(app, cls, bus)
    assert found.address == Address("runner", "a")
    return (found.misfit.kind, found.misfit.message) if found.misfit is not None else ("", "")


# What differs


@pytest.mark.parametrize(
    ("recorded", "wanted", "said"),
    [
        ({"route": {"from": "FRA"}}, {"route": {"from": "MUC"}}, ['$.route.from: "FRA" was recorded, "MUC" is wanted']),
        (
            {"a": [1, 2]},
            {"a": [1, 3, 4]},
            ["$.a[1]: 2 was recorded, 3 is wanted", "$.a[2]: nothing was recorded, 4 is wanted"],
        ),
        ({"a": 1, "b": None}, {"a": 1}, ["$.b: null was recorded, nothing is wanted"]),
        ({"a": 1}, {"a": 1.0}, ["$.a: 1 was recorded, 1.0 is wanted"]),
        ({"a": True}, {"a": 1}, ["$.a: true was recorded, 1 is wanted"]),
        ({"a": {}}, {"a": []}, ["$.a: {} was recorded, [] is wanted"]),
        ("x" * 100, "y", [f'$: "{"x" * 78}… was recorded, "y" is wanted']),
        ({"a": 1}, {"a": 1}, []),
    ],
)
async def test_a_difference_has_the_path_of_the_argument(recorded: object, wanted: object, said: list[str]) -> None:
    assert list(differences(msgspec.json.encode(recorded), msgspec.json.encode(wanted))) == said


async def test_a_report_names_actor_tool_arguments_and_task() -> None:
    step = Step("/work/d/0", "work", msgspec.Raw(b'{"a":1,"b":1,"c":1,"d":1}'))
    wanted = StepKey.of(".1.0", "work", "e", 0)
    drift = another_step("trip/7", wanted, b"{}", step)
    assert str(drift).startswith(
        "trip/7 has drifted from its recorded steps: work is called with other arguments: $.a: 1 was"
    )
    assert drift.why.endswith("$.c: 1 was recorded, nothing is wanted; and 1 more (in its task 1.0)")
    assert (drift.actor, drift.wanted, drift.recorded) == ("trip/7", ".1.0/work/e/0", "/work/d/0")
    assert another_step("t/7", StepKey.of("", "pay", "e", 0), b"{}", step).why == "work was recorded, pay is wanted"
    same = another_step("t/7", StepKey.of("", "work", "d", 1), bytes(step.arguments), step)
    assert same.why == "work is called at another place"
    assert no_step("t/7", step).why == "work was recorded, nothing is wanted"
    assert list(differences(b"{", b"[")) == ['"{" was recorded']
    assert list(differences(b"{", b"{")) == []


# What is done about it


@pytest.mark.parametrize("plan", [one_argument, swapped, another_tool, shorter, refusing, swallowed_in_a_task])
async def test_who_has_drifted_waits_whatever_his_handler_makes_of_it(
    open_another: OpenBus, app_name: str, plan: Plan
) -> None:
    bus = await open_another()
    before = in_two_tasks if plan is swallowed_in_a_task else original
    async with killed_at_z(bus, app_name, before) as asking:
        cls = build(plan)
        async with system(app_name, cls).host(await open_another()):
            with pytest.raises(AskFailed) as failed:
                await asking
            assert failed.value.kind == "drift"
        again = build(before)
        async with system(app_name, again).host(await open_another()) as node:
            assert await node.ref(again, "a").ask(Run()) == "ABZ"
    assert "".join(RAN) == "abzzabz"


@pytest.mark.parametrize(
    ("plan", "answer", "ran"),
    [
        (one_argument, "ACZ", "cz"),
        (swapped, "BAZ", "z"),
        (another_tool, "ABZ", "az"),
        (shorter, "A", ""),
        (in_two_tasks, "ABZ", "abz"),
    ],
)
async def test_where_the_policy_says_so_steps_are_set_aside_and_those_that_fit_answer(
    open_another: OpenBus, app_name: str, plan: Plan, answer: str, ran: str, logged: Logged
) -> None:
    bus = await open_another()
    changed = system(app_name, build(plan), on_drift="run")
    async with killed_at_z(bus, app_name) as asking, changed.host(await open_another()):
        assert await asking == answer
    assert sorted(RAN) == sorted(f"abz{ran}")
    warned = [each for each in logged if each["event"] == "recorded steps are set aside"]
    assert [each["log_level"] for each in warned] == ["warning"]


async def test_a_turn_that_went_on_after_drift_is_replayed_as_it_went(open_another: OpenBus, app_name: str) -> None:
    """Killed once more behind the drift: nothing is set aside again, and only what was in flight runs again."""
    bus = await open_another()
    async with killed_at_z(bus, app_name) as asking:
        changed = build(one_argument)
        HELD["z"] = asyncio.Event()
        async with system(app_name, changed, on_drift="run").host(await open_another()):
            await HELD["z"].wait()
        del HELD["z"]
        async with system(app_name, changed).host(await open_another()):
            assert await asking == "ACZ"
    assert "".join(RAN) == "abzczz"
    entries = [
        entry for each in await bus.log.read(Address("runner", "a")) for entry in decode(each.data, Record).entries
    ]
    assert [entry.why for entry in entries if isinstance(entry, Drifted)] == [
        'work is called with other arguments: $.name: "b" was recorded, "c" is wanted'
    ]


# What a check finds


@pytest.mark.parametrize(
    ("before", "plan", "kind", "said"),
    [
        (original, original, "", ""),
        (
            original,
            one_argument,
            "drift",
            'work is called with other arguments: $.name: "b" was recorded, "c" is wanted',
        ),
        (original, swapped, "drift", 'work is called with other arguments: $.name: "a" was recorded, "b" is wanted'),
        (original, another_tool, "drift", "work was recorded, other is wanted"),
        (original, shorter, "drift", "work was recorded, nothing is wanted"),
        (original, refusing, "drift", "work was recorded, nothing is wanted"),
        (in_two_tasks, in_two_tasks, "", ""),
        (in_two_tasks, original, "drift", "work was recorded, nothing is wanted (in its task 0)"),
        (
            in_two_tasks,
            swallowed_in_a_task,
            "drift",
            'work is called with other arguments: $.name: "a" was recorded, "b" is wanted (in its task 0)',
        ),
    ],
)
async def test_a_check_says_who_would_wait_and_why(
    bus: Bus, app_name: str, before: Plan, plan: Plan, kind: str, said: str
) -> None:
    async with killed_at_z(bus, app_name, before):
        log = await bus.log.read(Address("runner", "a"))
        assert await misfit(app_name, build(plan), bus) == (kind, said)
        assert await bus.log.read(Address("runner", "a")) == log
    assert sorted(RAN) == [*"abz"]


async def waits_for_real() -> str:
    """Nothing of this takes any time when it is replayed by a check."""
    first = await work("a")
    await asyncio.sleep(0.02)
    async with asyncio.timeout(3600):
        second = await work("b")
    try:
        async with asyncio.timeout(0.05):
            await work("slow")
    except TimeoutError:
        second += await asyncio.to_thread(str.lower, "T")
    return first + second + await work("z")


async def for_an_hour() -> str:
    first = await work("a")
    await asyncio.sleep(3600)
    return first + await work("b") + await work("z")


async def fails_late() -> str:
    await work("a")
    raise ValueError("new defect")


async def fails_in_the_end() -> str:
    await original()
    raise ValueError("whatever")


async def turns_in_circles() -> str:
    await work("a")
    while True:  # noqa: ASYNC110 # a handler's author may write it
        await asyncio.sleep(0)


async def never_lets_go() -> str:
    first = await work("a")
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            first += "x"


@pytest.mark.parametrize(
    ("before", "plan", "kind", "said"),
    [
        (waits_for_real, waits_for_real, "", ""),
        (original, for_an_hour, "", ""),
        (
            original,
            fails_late,
            "defect",
            "the handler raises ValueError: new defect, where its record goes on; work was recorded, nothing is wanted",
        ),
        (original, fails_in_the_end, "", ""),
        (original, turns_in_circles, "drift", "work was recorded, nothing is wanted"),
        (original, never_lets_go, "drift", "work was recorded, nothing is wanted"),
    ],
)
async def test_a_check_takes_no_time_and_is_not_held_up(
    bus: Bus, app_name: str, before: Plan, plan: Plan, kind: str, said: str
) -> None:
    HELD["slow"] = asyncio.Event()
    async with killed_at_z(bus, app_name, before):
        begun_s = time.monotonic()
        assert await misfit(app_name, build(plan), bus) == (kind, said)
        assert await misfit(app_name, build(before), bus) == ("", "")
        assert time.monotonic() - begun_s < 30, "it would be an hour"


async def test_a_check_says_whose_message_is_handled_no_more(bus: Bus, app_name: str) -> None:
    class Runner(Actor, kind="runner"):
        @command
        async def run(self, msg: RunAgain) -> str:
            return ""

    class Asked(Actor, kind="runner"):
        @query
        async def run(self, msg: Run) -> str:
            return ""

    async with killed_at_z(bus, app_name):
        kind, said = await misfit(app_name, Runner, bus)
        assert (kind, "runner knows no message 'Run'" in said) == ("undecodable", True)
        assert await misfit(app_name, Asked, bus) == (
            "undecodable",
            "Asked has no @command for Run any more, the message of its open turn",
        )


async def test_a_check_says_whose_events_or_state_cannot_be_read(bus: Bus, app_name: str) -> None:
    class Unknowing(Actor, kind="runner"):
        done: str = ""

    class Counting(Actor, kind="runner"):
        done: int = 0

        @event
        def did(self, fact: Counted) -> None:
            self.done = fact.what

    class Failing(Actor, kind="runner"):
        done: str = ""

        @event
        def did(self, fact: Did) -> None:
            raise KeyError(fact.what)

    class Mistyped(Actor, kind="runner"):
        done: int = 0

        @event
        def did(self, fact: Did) -> None:
            self.done = fact.what  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]

    built = build(original)
    async with system(app_name, built).host(bus) as node:
        await node.ref(built, "a").ask(Run())
    assert await misfit(app_name, built, bus) == ("", "")
    assert (await misfit(app_name, Unknowing, bus))[0] == "undecodable"
    kind, said = await misfit(app_name, Counting, bus)
    assert (kind, "Expected `int`, got `str`" in said) == ("undecodable", True)
    assert await misfit(app_name, Failing, bus) == ("corrupt", "KeyError: 'ABZ'")
    assert (await misfit(app_name, Mistyped, bus))[0] == "undecodable"


async def test_actors_of_a_kind_that_is_gone_are_named_when_something_of_theirs_waits(bus: Bus, app_name: str) -> None:
    class Stranger(Actor, kind="stranger"):
        pass

    built = build(original)
    async with system(app_name, built).host(bus) as node:
        await node.ref(built, "b").ask(Run())
    async with killed_at_z(bus, app_name):
        found = await findings(app_name, Stranger, bus)
        assert [(each.address.key, each.fits) for each in found] == [("a", False), ("b", True)]
        assert found[0].misfit is not None
        assert found[0].misfit.message == (
            "the application has no actors of kind 'runner' any more, and a turn or a timer of it waits"
        )
        assert all(each.fits for each in await findings(app_name, built, bus))
