"""The tools that random programs call, the actor that they ask, and what these tell the witness.

The witness is outside the runtime: the system's port ``scene`` begins a ``Run`` for each attempt at a handler, and tool bodies and
handlers report to the run of their context what they execute and what they see.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Protocol

from tests.property.programs import Node

from regrow.actors import Actor, Event, Message, Refused, command, current_step, event, step, tool


class Run(Protocol):
    """One attempt at a handler, as the witness knows it."""

    program: Node

    async def execute(self, key: str, tool: str) -> str:
        """Notes that a tool's body began; a token that no other execution has. Never returns to a process that is dead."""
        ...

    def execute_in_thread(self, key: str, tool: str) -> str:
        """The same for a body in a thread."""
        ...

    def observe(self, task: str, what: str) -> None:
        """Notes what a task of the handler saw or decided."""
        ...

    def shown(self, text: str) -> None:
        """Checks that every token in an outcome that a handler sees is in the log."""
        ...

    def ticks(self, number: int) -> int:
        """How long a body takes in this life."""
        ...


class Scene(Protocol):
    """Where handlers run."""

    def begin(self, kind: str, key: str) -> Run: ...


running: ContextVar[Run] = ContextVar("run")


class Planned(Exception):
    """What ``Raise`` raises."""


class NoRoute(Exception):
    """Declared by a tool."""


async def _executed(name: str, ticks: int) -> str:
    run, context = running.get(), current_step()
    token = await run.execute(context.key if context is not None else "", name)
    for _ in range(run.ticks(ticks)):
        await asyncio.sleep(0)
    return token


TICKS: ContextVar[int] = ContextVar("ticks", default=0)
"""How long the body of the next call takes: no argument, for it is no part of the call."""


@tool
async def work(argument: int) -> str:
    return await _executed("work", TICKS.get())


@tool(pure=True)
async def look(argument: int) -> str:
    return await _executed("look", TICKS.get())


@tool
async def flaky(argument: int) -> str:
    token = await _executed("flaky", TICKS.get())
    if int(token[1:]) % 2:
        raise OSError(f"failed {token}")
    return token


@tool(raises=(NoRoute,))
async def route(argument: int) -> str:
    raise NoRoute(f"no route {await _executed('route', TICKS.get())}", argument)


@tool
async def burst(argument: int) -> str:
    raise ValueError(f"burst {await _executed('burst', TICKS.get())}")


@tool
def thread(argument: int) -> str:
    context = current_step()
    return running.get().execute_in_thread(context.key if context is not None else "", "thread")


@tool
async def hang(argument: int) -> str:
    await _executed("hang", 0)
    await asyncio.Event().wait()
    return ""


async def own(argument: int) -> str:
    async def body() -> str:
        return await _executed("own", TICKS.get())

    found: str = await step("own", {"argument": argument}, body, str)
    return found


TOOLS: dict[str, Callable[[int], Awaitable[str]]] = {
    "work": work,
    "look": look,
    "flaky": flaky,
    "route": route,
    "burst": burst,
    "thread": thread,
    "own": own,
}


class Poke(Message[str]):
    argument: int
    refused: bool


class Poked(Event):
    token: str


class Peer(Actor):
    """Is asked."""

    poked: list[str] = []

    @command
    async def poke(self, msg: Poke) -> str:
        scene: Scene = self.port("scene")
        running.set(scene.begin("peer", self.key))
        token = await work(msg.argument)
        if msg.refused:
            raise Refused(f"no {token}")
        self.emit(Poked(token=token))
        return token

    @event
    def on_poked(self, fact: Poked) -> None:
        self.poked.append(fact.token)
