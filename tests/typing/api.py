"""The public types, checked by pyright and mypy in strict mode and never run: what users write keeps its types."""

import asyncio
from collections.abc import Awaitable
from typing import Any, assert_type

from regrow.actors import (
    Actor,
    Client,
    Event,
    LocalActor,
    LocalSystem,
    Message,
    Node,
    Refused,
    Retry,
    StepContext,
    System,
    command,
    current_step,
    event,
    query,
    tool,
)
from regrow.actors.upcast import upcast
from regrow.supervisor import Exit, monitor


class Add(Message[int]):
    amount: int


class Names(Message[list[str]]):
    prefix: str = ""


class Reset(Message[None]):
    pass


class Added(Event):
    amount: int


class NoRoute(Exception):
    pass


@tool
async def fetch(url: str, *, depth: int = 1) -> list[bytes]:
    return [url.encode()] * depth


@tool
def measure(text: str) -> float:
    return float(len(text))


@tool(retry=Retry(attempts=2), raises=(NoRoute,))
async def route(start: str) -> tuple[str, int]:
    return start, 1


async def look_up(order: str) -> int:
    return 1


@tool(
    effect="once", verify=look_up, approve=True, redact=("order",), retry=Retry(elapsed_s=1.0, non_retryable=(NoRoute,))
)
async def charge(order: str) -> int:
    return 1


@tool(pure=True)
def double(number: int) -> int:
    return 2 * number


class Counter(Actor):
    total: int = 0
    names: list[str] = []

    @command
    async def add(self, msg: Add) -> int:
        assert_type(msg.amount, int)
        self.emit(Added(amount=msg.amount))
        assert_type(await fetch("a", depth=2), list[bytes])
        assert_type(await measure("a"), float)
        assert_type(await route("a"), tuple[str, int])
        assert_type(await double(2), int)
        assert_type(await fetch.using(key="left", timeout_s=1.0)("a", depth=2), list[bytes])
        assert_type(await measure.using(retry=Retry(attempts=2))("a"), float)
        assert_type(await charge(order="a"), int)
        assert_type(self.checkpointed(Add), Add | None)
        await self.checkpoint(Add(amount=1))
        self.send(self.ref(Counter, "b"), Reset())
        assert_type(await self.ref(Counter, "b").ask(Add(amount=1)), int)
        if self.total < 0:
            raise Refused("below zero", total=self.total)
        return self.total

    @command
    async def reset(self, msg: Reset) -> None:
        assert_type(self.key, str)

    @query
    async def list_names(self, msg: Names) -> list[str]:
        return [name for name in self.names if name.startswith(msg.prefix)]

    @event
    def added(self, fact: Added) -> None:
        assert_type(fact.amount, int)
        self.total += fact.amount


class Basket(Actor, version=2, persist="fields"):
    """Its fields are assigned in commands; its state was another one once."""

    total: int = 0

    @command
    async def add(self, msg: Add) -> int:
        self.total += msg.amount
        return self.total


@upcast(Basket, 1)
def from_1(old: dict[str, Any]) -> dict[str, Any]:
    return {"total": old["sum"]}


@upcast(Added, "Added.v1", to="Added.v2")
def from_v1(old: dict[str, Any]) -> dict[str, Any]:
    return {"count": old["n"]}


@upcast(Added, "Added.v2", to="Added")
def from_v2(old: dict[str, Any]) -> dict[str, Any]:
    return {"amount": old["count"]}


@upcast(Add, "Plus")
def from_plus(old: dict[str, Any]) -> dict[str, Any]:
    return old


assert_type(from_1({}), dict[str, Any])
app = System("hello", actors=[Counter, Basket])
assert_type(app, System)
assert_type(current_step(), StepContext | None)
kept: Awaitable[list[bytes]] = fetch("a", depth=3)


async def started() -> None:
    """A call is a coroutine, also one of a plain function: tasks can be made of it."""
    assert_type(await asyncio.create_task(fetch("a")), list[bytes])
    async with asyncio.TaskGroup() as group:
        assert_type(await group.create_task(measure("a")), float)


async def outside(client: Client) -> None:
    """An ask is typed by its message, wherever it comes from."""
    counter = client.ref(Counter, "a")
    assert_type(await counter.ask(Add(amount=2)), int)
    assert_type(await counter.ask(Names(prefix="x"), timeout_s=1.0), list[str])
    await counter.ask(Reset())
    assert_type(await counter.tell(Reset()), None)


async def hosted(node: Node) -> None:
    """A node's references are as typed as a client's."""
    assert_type(await node.ref(Counter, "a").ask(Add(amount=2)), int)


async def wrong(client: Client) -> None:
    """What must not pass: each line is an error, and an ignore that is not needed is one too."""
    Add(amount="2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Add(amount=2).amount = 3  # pyright: ignore[reportAttributeAccessIssue]
    await fetch(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await fetch("a", width=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await fetch.using(key="k")(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    fetch.using(memory=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    tool(effect="twice")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    text: str = await client.ref(Counter, "a").ask(Add(amount=1))  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]
    assert text


def wrong_upcasts() -> None:
    """An upcaster reads a tag of an event or a message, or a version of an actor, and takes and returns a dict."""
    upcast(Added, 1)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    upcast(Basket, "1")  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    upcast(Basket, 1, to="2")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    upcast(int, 1)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    upcast(Added, "A")(len)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]

    class Wrong(Actor, persist="memory"):  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportGeneralTypeIssues]
        pass

    Wrong()


class LocalNames(LocalActor):
    names: list[str] = []

    @command
    async def list_names(self, msg: Names) -> list[str]:
        if not self.names:
            self.stash(msg)
        self.become(LoudNames)
        self.unstash_all()
        self.set_timer("again", msg, every_s=1.0)
        self.cancel_timer("again")
        return self.names


class LoudNames(LocalNames):
    @command
    async def list_names(self, msg: Names) -> list[str]:
        return [name.upper() for name in self.names]


async def local(system: LocalSystem) -> None:
    names = system.spawn(LocalNames, "n", mailbox_max=10, overflow="wait", stash_max=5)
    assert_type(await names.ask(Names()), list[str])
    system.groups.join("names", names)
    assert_type(system.tell_all("names", Names()), int)
    assert_type(await monitor(names).wait_down(), Exit)
    system.spawn(LocalNames, "m", overflow="newest")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
