"""The end of a handler: what is cancelled, what is recorded about it, and what is left behind."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextvars import ContextVar
from typing import Any

import pytest

from regrow.actors import Actor, Message, System, attempt, command, tool
from regrow.actors.records import Cancelled, Record
from regrow.bus import Address, Bus, MemoryBus, decode
from regrow.testing.appends import replace_append

pytestmark = pytest.mark.asyncio

RAN: list[str] = []
SEEN: ContextVar[str] = ContextVar("seen", default="nothing")
GATES: dict[str, asyncio.Event] = {}


@pytest.fixture(autouse=True)
def fresh_witness() -> Iterator[None]:
    RAN.clear()
    GATES.clear()
    GATES.update(reached=asyncio.Event(), opened=asyncio.Event())
    yield


@tool
async def wait_long(name: str) -> str:
    RAN.append(name)
    GATES["reached"].set()
    await asyncio.Event().wait()
    return name


@tool
async def quick(name: str) -> str:
    RAN.append(name)
    return name


class Do(Message[str]):
    how: str


class Actress(Actor):
    @command
    async def do(self, msg: Do) -> str:
        return await HOW[msg.how]()


async def _ignores() -> str:
    GATES["reached"].set()
    while not GATES["opened"].is_set():
        with contextlib.suppress(asyncio.CancelledError):
            await GATES["opened"].wait()
    return "too late"


async def _sets_a_variable() -> str:
    before = SEEN.get()
    SEEN.set("something")
    return before


async def _cancels_twice() -> str:
    """The second cancellation comes while the first one is being recorded."""
    task = asyncio.create_task(wait_long("a"))
    await GATES["reached"].wait()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait((task,))
    return f"{task.cancelled()} {await quick('b')}"


async def _cancels_itself() -> str:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    try:
        await quick("a")
    except asyncio.CancelledError:
        task.uncancel()
    return await quick("b")


async def _nested_timeouts() -> str:
    try:
        async with asyncio.timeout(0.7):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await wait_long("inner")
            await wait_long("outer")
    except TimeoutError:
        return await quick("after")
    return "never"


HOW: dict[str, Callable[[], Awaitable[str]]] = {
    "ignores": _ignores,
    "sets a variable": _sets_a_variable,
    "cancels twice": _cancels_twice,
    "cancels itself": _cancels_itself,
    "nested timeouts": _nested_timeouts,
}


def system(app_name: str) -> System:
    return System(app_name, actors=[Actress]).checked()


async def cancelled(bus: Bus) -> list[str]:
    """The tools and arguments of recorded cancellations."""
    return [
        f"{entry.step.tool} {bytes(entry.step.arguments).decode()}"
        for stored in await bus.log.read(Address("actress", "a"))
        for entry in decode(stored.data, Record, "record").entries
        if isinstance(entry, Cancelled)
    ]


async def test_a_handler_that_ignores_its_cancellation_is_left_behind_and_said_so(
    app_name: str, monkeypatch: pytest.MonkeyPatch, logged: list[MutableMapping[str, Any]]
) -> None:
    monkeypatch.setattr(attempt, "GRACE_S", 0.05)
    bus = MemoryBus(app_name)
    async with system(app_name).host(bus) as node:
        asking = asyncio.create_task(node.ref(Actress, "a").ask(Do(how="ignores")))
        await GATES["reached"].wait()
    assert "a handler ignores its cancellation and is left behind" in [entry["event"] for entry in logged]
    GATES["opened"].set()
    async with system(app_name).host(bus) as node:
        assert await asking == "too late"
        assert len(await bus.log.read(Address("actress", "a"))) == 1, "what was left behind recorded nothing"


async def test_each_handler_has_a_context_of_its_own(bus: Bus, app_name: str) -> None:
    SEEN.set("the test's")
    async with system(app_name).host(bus) as node:
        for _ in range(2):
            assert await node.ref(Actress, "a").ask(Do(how="sets a variable")) == "nothing"


async def test_a_second_cancellation_does_not_lose_the_record_of_the_first(bus: Bus, app_name: str) -> None:
    async with system(app_name).host(bus) as node:
        assert await node.ref(Actress, "a").ask(Do(how="cancels twice")) == "True b"
    assert await cancelled(bus) == ['wait_long {"name":"a"}']


async def test_a_handler_may_cancel_and_uncancel_itself(bus: Bus, app_name: str) -> None:
    async with system(app_name).host(bus) as node:
        assert await node.ref(Actress, "a").ask(Do(how="cancels itself")) == "b"
    assert await cancelled(bus) == ['quick {"name":"a"}']


async def test_each_of_nested_timeouts_records_the_step_that_it_ended(bus: Bus, app_name: str) -> None:
    async with system(app_name).host(bus) as node:
        assert await node.ref(Actress, "a").ask(Do(how="nested timeouts")) == "after"
    assert await cancelled(bus) == ['wait_long {"name":"inner"}', 'wait_long {"name":"outer"}']
    assert RAN == ["inner", "outer", "after"]


async def test_a_cancellation_that_cannot_be_recorded_ends_the_turn(bus: Bus, app_name: str) -> None:
    """Somebody else has the log: the handler goes on nowhere, and the turn is tried again on what the log says."""
    real, appends = bus.log.append, 0

    async def append(address: Address, data: bytes, *, rid: str, after: int, rollup: bool = False) -> int:
        nonlocal appends
        appends += 1
        if appends == 1:
            await real(address, b'{"v":1,"rid":"other","entries":[]}', rid="other", after=after)
        return await real(address, data, rid=rid, after=after, rollup=rollup)

    replace_append(bus.log, append)
    async with system(app_name).host(bus) as node:
        assert await node.ref(Actress, "a").ask(Do(how="nested timeouts")) == "after"
        assert node.host.statistics["recoveries"] == 2
    assert RAN == ["inner", "inner", "outer", "after"]
