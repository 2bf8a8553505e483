"""A running turn that is ended from outside: at once, all that it has started, cleanup included, and the same after any death."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec
import pytest

from regrow.actors import Actor, Administration, AskFailed, Kind, Message, Policy, System, command, tool
from regrow.actors.administration import CancellationWaits
from regrow.actors.image import CANCEL_KEY, Image
from regrow.actors.records import CancelAsked, Cancelled, Failed, Letter, Record, Steps, Turn
from regrow.bus import Address, Bus, decode, headers
from regrow.supervisor import Backoff

pytestmark = pytest.mark.asyncio

OpenBus = Callable[[], Awaitable[Bus]]

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
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            RAN.append(f"{name} cancelled")
            raise
    return name.upper()


class Run(Message[str]):
    how: str


class Worker(Actor, kind="worker"):
    @command
    async def run(self, msg: Run) -> str:
        return await HOW[msg.how]()


async def _plain() -> str:
    return await work("a") + await work("z")


async def _children() -> str:
    async with asyncio.TaskGroup() as group:
        group.create_task(work("y"))
        group.create_task(work("z"))
    return "done"


async def _cleans_up() -> str:
    try:
        return await work("a") + await work("z")
    except asyncio.CancelledError:
        await work("undo a")
        raise
    finally:
        await work("close")


async def _returns() -> str:
    try:
        return await work("z")
    except asyncio.CancelledError:
        return await work("instead")


async def _fails() -> str:
    try:
        return await work("z")
    except asyncio.CancelledError:
        raise ValueError("in the cleanup") from None


async def _for_ever() -> str:
    while True:
        try:
            await work("z")
        except asyncio.CancelledError:
            await asyncio.Event().wait()


HOW: dict[str, Callable[[], Awaitable[str]]] = {
    "plain": _plain,
    "children": _children,
    "cleans up": _cleans_up,
    "returns": _returns,
    "fails": _fails,
    "for ever": _for_ever,
}


def system(name: str, **policy: Any) -> System:
    return System(name, [Kind(actor=Worker, policy=Policy(backoff=Backoff(first_s=0.0), **policy))])


def hold(*names: str) -> None:
    for name in names:
        HELD[name] = asyncio.Event()


async def entries(bus: Bus) -> list[Any]:
    return [
        each for stored in await bus.log.read(Address("worker", "a")) for each in decode(stored.data, Record).entries
    ]


@pytest.mark.parametrize(
    ("how", "ran"),
    [
        ("plain", ["a", "z", "z cancelled"]),
        ("children", ["y", "y cancelled", "z", "z cancelled"]),
        ("cleans up", ["a", "close", "undo a", "z", "z cancelled"]),
        ("fails", ["z", "z cancelled"]),
    ],
)
async def test_a_running_turn_ends_with_all_that_it_has_started(
    bus: Bus, app_name: str, how: str, ran: list[str]
) -> None:
    hold("y", "z")
    async with system(app_name).host(bus) as node:
        asking = asyncio.create_task(node.ref(Worker, "a").ask(Run(how=how)))
        await HELD["z"].wait()
        waiting = asyncio.create_task(node.ref(Worker, "a").ask(Run(how="returns")))
        assert await Administration(bus).cancel("worker", "a", "no longer wanted")
        with pytest.raises(AskFailed, match="the turn was cancelled: no longer wanted") as failed:
            await asking
        assert (failed.value.kind, failed.value.code) == ("cancelled", 499)
        assert sorted(RAN[: len(ran)]) == ran
        found = await entries(bus)
        assert [each.reason for each in found if isinstance(each, CancelAsked)] == ["no longer wanted"]
        assert not [each for each in found if isinstance(each, Failed)]
        HELD["z"].clear()
        del HELD["z"]
        waiting.cancel()


async def test_a_handler_that_catches_its_cancellation_and_returns_has_done_so(bus: Bus, app_name: str) -> None:
    hold("z")
    async with system(app_name).host(bus) as node:
        asking = asyncio.create_task(node.ref(Worker, "a").ask(Run(how="returns")))
        await HELD["z"].wait()
        assert await Administration(bus).cancel("worker", "a")
        assert await asking == "INSTEAD"


async def test_an_actor_that_runs_no_turn_has_none_to_cancel(bus: Bus, app_name: str) -> None:
    async with system(app_name).host(bus) as node:
        assert not await Administration(bus).cancel("worker", "a")
        assert await node.ref(Worker, "a").ask(Run(how="plain")) == "AZ"
        assert not await Administration(bus).cancel("worker", "a")
        assert await node.ref(Worker, "a").ask(Run(how="plain")) == "AZ"
    with pytest.raises(CancellationWaits, match="no node took it within 0 s"):
        await Administration(bus).cancel("worker", "a", wait_s=0)
    with pytest.raises(ValueError, match="at most 1,000 characters"):
        await Administration(bus).cancel("worker", "a", "x" * 1001)


async def test_the_first_order_counts_and_each_is_taken_once() -> None:
    image = Image(act_seq=5)
    image.cancel("too late", 6)
    assert (image.ahead, image.opened) == ((6,), None)
    opened = image.open(Letter("in", 1, "m", msgspec.Raw(b"null")))
    image.cancel("enough", 7)
    for sequence in (7, 5):
        image.cancel("again", sequence)
    assert (image.ahead, opened.cancel) == ((6, 7), "enough")
    assert [(step.key, bytes(step.arguments)) for step in opened.steps] == [(CANCEL_KEY, b'"enough"')]


async def test_an_order_without_a_reason_that_can_be_read_has_none(bus: Bus, app_name: str) -> None:
    hold("z")
    async with system(app_name).host(bus) as node:
        asking = asyncio.create_task(node.ref(Worker, "a").ask(Run(how="plain")))
        await HELD["z"].wait()
        await bus.mail.post("act", Address("worker", "a"), b"{", {headers.ID: "x", headers.TYPE: "cancel"})
        with pytest.raises(AskFailed, match=r"the turn was cancelled: $"):
            await asking


async def test_who_cleans_up_for_too_long_is_ended(bus: Bus, app_name: str) -> None:
    hold("z")
    async with system(app_name, cleanup_timeout_s=0.05).host(bus) as node:
        asking = asyncio.create_task(node.ref(Worker, "a").ask(Run(how="for ever")))
        await HELD["z"].wait()
        assert await Administration(bus).cancel("worker", "a")
        with pytest.raises(AskFailed, match="the turn was cancelled"):
            await asking


async def test_a_cleanup_goes_on_in_the_next_process_where_it_was(open_another: OpenBus, app_name: str) -> None:
    hold("z", "close")
    bus = await open_another()
    async with system(app_name).host(bus) as node:
        asking = asyncio.create_task(node.ref(Worker, "a").ask(Run(how="cleans up")))
        await HELD["z"].wait()
        assert await Administration(bus).cancel("worker", "a", "enough")
        await HELD["close"].wait()
    RAN.clear()
    HELD.clear()
    async with system(app_name).host(await open_another()):
        with pytest.raises(AskFailed, match="the turn was cancelled: enough"):
            await asking
    assert RAN == ["close"]
    found = await entries(bus)
    assert [type(each) for each in found[-3:]] == [Cancelled, Steps, Steps, Turn][-3:]


async def test_an_order_that_waits_ends_the_turn_that_is_open_when_a_node_comes(
    open_another: OpenBus, app_name: str
) -> None:
    hold("z")
    bus = await open_another()
    async with system(app_name).host(bus) as node:
        asking = asyncio.create_task(node.ref(Worker, "a").ask(Run(how="plain")))
        await HELD["z"].wait()
    with pytest.raises(CancellationWaits):
        await Administration(bus).cancel("worker", "a", "late", wait_s=0)
    async with system(app_name).host(await open_another()) as node:
        with pytest.raises(AskFailed, match="the turn was cancelled: late"):
            await asking
        HELD.clear()
        assert await node.ref(Worker, "a").ask(Run(how="plain")) == "AZ"
