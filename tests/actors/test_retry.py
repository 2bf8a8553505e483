"""What is done about each kind of failure of a tool: as a table, in a running turn, and over deaths and suspensions."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from regrow.actors import (
    Action,
    Actor,
    AskFailed,
    Diagnosis,
    GiveUp,
    Kind,
    Message,
    Node,
    Policy,
    Repair,
    Repeat,
    Retry,
    StepFailed,
    System,
    Wait,
    action_of,
    command,
    tool,
)
from regrow.actors.errors import Failure
from regrow.actors.records import Entry, Record, Started
from regrow.actors.retry import DECLARED
from regrow.bus import Address, MemoryBus, decode
from regrow.supervisor import Backoff
from regrow.testing import in_memory, virtual_time

APP = "retry"
HOUR_S = 3600.0
AT_ONCE = Backoff(first_s=0.0)
RETRY = Retry(attempts=3, elapsed_s=100.0, backoff=Backoff(first_s=1.0))


def failed(kind: str, after_s: float | None = None) -> Failure:
    return Failure(kind, 500, "x", type="X", retry_after_s=after_s)


# The table


@pytest.mark.parametrize(
    ("kind", "action"),
    [
        ("semantic", Repair(attempts=3)),
        ("infrastructure", Repeat(attempts=5)),
        ("network", Repeat()),
        ("throttled", Wait()),
        ("busy", Wait()),
        ("store", Wait()),
        ("quota", GiveUp()),
        ("rejected", GiveUp()),
        ("defect", Repeat()),
        ("timeout", Repeat()),
        ("brewing", Repeat()),
        (DECLARED, GiveUp()),
    ],
)
def test_each_kind_has_its_action(kind: str, action: Action) -> None:
    assert RETRY.action_of(kind) == action
    assert kind == DECLARED or action_of(kind) == action


@pytest.mark.parametrize(
    ("number", "apart", "kind", "again"),
    [
        (1, {}, "network", True),
        (2, {}, "network", True),
        (3, {}, "network", False),
        (9, {"throttled": 6}, "network", False),
        (8, {"throttled": 5, "infrastructure": 1}, "network", True),
        (999, {"throttled": 998}, "throttled", True),
        (1_000, {"throttled": 999}, "throttled", False),
        (50, {"throttled": 47}, "throttled", True),
        (6, {"infrastructure": 3}, "infrastructure", True),
        (7, {"infrastructure": 4}, "infrastructure", False),
        (2, {"semantic": 1}, "semantic", True),
        (3, {"semantic": 2}, "semantic", False),
        (1, {}, "quota", False),
        (1, {}, "rejected", False),
        (1, {}, "corrupt_context", False),
        (1, {}, DECLARED, False),
    ],
)
def test_only_what_is_the_tool_s_fault_spends_its_attempts(
    number: int, apart: dict[str, int], kind: str, again: bool
) -> None:
    assert (RETRY.wait_s(number, failed(kind), 0.0, 0.5, apart) is not None) is again


def test_failures_apart_are_counted_by_kind() -> None:
    apart: dict[str, int] = {}
    for kind in ("throttled", "network", "throttled", "infrastructure", "defect"):
        apart = RETRY.counted(apart, kind)
    assert apart == {"throttled": 2, "infrastructure": 1}


@pytest.mark.parametrize(
    ("after_s", "elapsed_s", "draw", "wait_s"),
    [
        (7.0, 0.0, 0.0, 7.0),
        (7.0, 0.0, 0.5, 7.35),
        (0.0, 0.0, 0.5, 0.5),
        (None, 0.0, 0.5, 0.5),
        (7.0, 93.0, 0.0, 7.0),
        (7.0, 93.1, 0.0, None),
        (HOUR_S, 0.0, 0.0, None),
    ],
)
def test_a_wait_is_as_long_as_the_other_side_asks_and_a_little_longer(
    after_s: float | None, elapsed_s: float, draw: float, wait_s: float | None
) -> None:
    found = RETRY.wait_s(1, failed("throttled", after_s), elapsed_s, draw)
    assert found == (None if wait_s is None else pytest.approx(wait_s))


def test_a_tool_may_say_otherwise() -> None:
    retry = msgspec.structs.replace(
        RETRY, on={"quota": Wait(attempts=2), "network": GiveUp(), "infrastructure": Repeat()}
    )
    assert retry.wait_s(1, failed("quota", 7.0), 0.0, 0.0) == 7.0
    assert retry.wait_s(2, failed("quota", 7.0), 0.0, 0.0, {"quota": 1}) is None
    assert retry.wait_s(1, failed("network"), 0.0, 0.0) is None
    assert retry.wait_s(3, failed("infrastructure"), 0.0, 0.0) is None
    assert retry.counted({}, "infrastructure") == {}
    assert retry.wait_s(1, failed("semantic"), 0.0, 0.0) == 0.0, "the others stay as they are"


def test_one_attempt_is_one_whatever_the_kind() -> None:
    assert Retry(attempts=1).wait_s(1, failed("throttled", 0.0), 0.0, 0.0) is None


@pytest.mark.parametrize("action", [Repeat, Wait, Repair])
def test_an_action_s_attempts_are_one_or_more(action: type[Any]) -> None:
    with pytest.raises(ValueError, match="attempts=0"):
        action(attempts=0)


# A running turn


class Call(Message[int]):
    tool: str


class Odd(Exception):
    """Something that only the application knows."""


def odd_is_throttled(error: BaseException) -> Diagnosis | None:
    return Diagnosis("throttled", HOUR_S) if isinstance(error, Odd) else None


RAN: list[float] = []
"""When each body ran, by the loop's clock."""
FAULTS: list[Exception] = []
"""What the next runs of the body raise, in this order."""


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    RAN.clear()
    FAULTS.clear()
    yield


def run() -> int:
    RAN.append(asyncio.get_running_loop().time())
    if FAULTS:
        raise FAULTS.pop(0)
    return len(RAN)


@tool(retry=Retry(attempts=2, backoff=AT_ONCE))
async def fetch() -> int:
    return run()


@tool(retry=Retry(attempts=2, elapsed_s=24 * HOUR_S, backoff=AT_ONCE, rules=(odd_is_throttled,)))
async def patient() -> int:
    return run()


@tool(effect="once", retry=Retry(attempts=2, elapsed_s=24 * HOUR_S, backoff=AT_ONCE))
async def once() -> int:
    return run()


@tool
async def bare() -> int:
    return run()


TOOLS = {each.name: each for each in (fetch, patient, once, bare)}


class Caller(Actor):
    @command
    async def call(self, msg: Call) -> int:
        return await TOOLS[msg.tool]()


@asynccontextmanager
async def hosted(bus: MemoryBus) -> AsyncGenerator[Node]:
    policy = Policy(backoff=AT_ONCE)
    async with in_memory(System(APP, [Kind(actor=Caller, policy=policy)]).checked(), bus=bus) as node:
        yield node


async def entries(bus: MemoryBus) -> list[Entry]:
    stored = await bus.log.read(Address("caller", "a"))
    return [entry for each in stored for entry in decode(each.data, Record, "record").entries]


async def started(bus: MemoryBus) -> list[Started]:
    return [each for each in await entries(bus) if isinstance(each, Started)]


def throttled(after_s: float) -> Exception:
    return StepFailed("throttled", "Busy", "later", after_s)


@virtual_time
async def test_waiting_spends_no_attempt_and_is_recorded() -> None:
    bus = MemoryBus(APP)
    FAULTS.extend([throttled(0.0), throttled(0.0), ConnectionResetError("reset"), throttled(0.0), MemoryError()])
    async with hosted(bus) as node:
        assert await node.ref(Caller, "a").ask(Call(tool="fetch")) == 6
    assert [each.apart for each in await started(bus)] == [
        {"throttled": 1},
        {"throttled": 2},
        {"throttled": 2},
        {"throttled": 3},
        {"throttled": 3, "infrastructure": 1},
    ]
    assert [each.failure and each.failure.kind for each in await started(bus)] == [
        "throttled",
        "throttled",
        "network",
        "throttled",
        "infrastructure",
    ]


@virtual_time
async def test_a_long_wait_frees_the_actor_and_ends_when_the_other_side_said() -> None:
    bus = MemoryBus(APP)
    FAULTS.append(throttled(8 * HOUR_S))
    async with hosted(bus) as node:
        asking = asyncio.create_task(node.ref(Caller, "a").ask(Call(tool="patient"), timeout_s=1e8))
        await asyncio.sleep(HOUR_S)
        assert node.host.statistics["suspensions"] == 1
        assert await asking == 2
    assert 8 * HOUR_S <= RAN[1] - RAN[0] <= 8.81 * HOUR_S
    names = [type(each).__name__ for each in await entries(bus)]
    assert names == ["Begun", "Started", "Slept", "Suspended", "Steps", "Turn"]


@virtual_time
async def test_after_a_death_only_the_rest_is_waited_and_what_was_counted_still_counts() -> None:
    bus = MemoryBus(APP)
    FAULTS.extend([ConnectionResetError("reset"), throttled(20.0)])
    async with hosted(bus) as node:
        await node.ref(Caller, "a").tell(Call(tool="patient"))
        await asyncio.sleep(15.0)
    assert len(RAN) == 2
    FAULTS.append(throttled(1.0))
    began_s = asyncio.get_running_loop().time()
    async with hosted(bus):
        while len(RAN) < 4:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert 20.0 <= RAN[2] - RAN[1] <= 22.1
    assert RAN[2] - began_s <= 7.1
    assert [(each.attempt, each.apart) for each in await started(bus)] == [
        (2, {}),
        (3, {"throttled": 1}),
        (4, {"throttled": 2}),
    ]


@virtual_time
async def test_an_attempt_that_a_death_cut_off_does_not_wait_again() -> None:
    bus = MemoryBus(APP)
    FAULTS.append(throttled(20.0))
    async with hosted(bus) as node:
        await node.ref(Caller, "a").tell(Call(tool="patient"))
        await asyncio.sleep(1.0)
    await asyncio.sleep(HOUR_S)
    began_s = asyncio.get_running_loop().time()
    async with hosted(bus):
        while len(RAN) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert RAN[1] - began_s < 1.0


@virtual_time
async def test_a_rule_of_the_tool_says_what_its_exceptions_mean() -> None:
    FAULTS.extend([Odd(), Odd()])
    async with hosted(MemoryBus(APP)) as node:
        assert await node.ref(Caller, "a").ask(Call(tool="patient"), timeout_s=1e8) == 3
    assert RAN[2] - RAN[0] >= 2 * HOUR_S


@virtual_time
async def test_a_tool_that_runs_once_waits_where_it_is() -> None:
    bus = MemoryBus(APP)
    FAULTS.append(throttled(HOUR_S))
    async with hosted(bus) as node:
        assert await node.ref(Caller, "a").ask(Call(tool="once"), timeout_s=1e8) == 2
        assert node.host.statistics["suspensions"] == 0


@pytest.mark.parametrize("name", ["fetch", "bare"])
@pytest.mark.parametrize("kind", ["quota", "rejected"])
def test_what_nobody_can_mend_by_trying_is_tried_once_by_tool_and_turn(kind: str, name: str) -> None:
    @virtual_time
    async def play() -> None:
        FAULTS.append(StepFailed(kind, "Paid", "no"))
        async with hosted(MemoryBus(APP)) as node:
            with pytest.raises(AskFailed, match="no"):
                await node.ref(Caller, "a").ask(Call(tool=name))
        assert len(RAN) == 1

    play()


@virtual_time
async def test_a_wait_longer_than_the_tool_s_time_is_its_failure_and_tells_how_long() -> None:
    bus = MemoryBus(APP)
    FAULTS.extend([throttled(HOUR_S)] * 9)
    async with hosted(bus) as node:
        with pytest.raises(AskFailed):
            await node.ref(Caller, "a").ask(Call(tool="fetch"))
    steps: Any = [each for each in await entries(bus) if type(each).__name__ == "Steps"]
    assert {each.steps[0].outcome.failure.retry_after_s for each in steps} == {HOUR_S}


def test_records_of_earlier_builds_are_read() -> None:
    old = b'{"type":"Started","key":"k","tool":"t","arguments":{},"attempt":2,"since_ms":1,"failure":{"kind":"defect","code":500,"message":"x"}}'
    entry = msgspec.json.decode(old, type=Started)
    assert (entry.apart, entry.failure and entry.failure.retry_after_s) == ({}, None)
    assert b"apart" not in msgspec.json.encode(entry)
    assert b"retry_after_s" not in msgspec.json.encode(entry)
