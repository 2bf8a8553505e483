"""The actors whose handlers run random programs, their tools, and what they tell the witness.

The witness is outside the runtime: the system's port ``scene`` begins a ``Run`` for each attempt at a handler, and tool bodies and
handlers report to the run of their context what they execute and what they see.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any, Protocol

from tests.property.programs import (
    Ask,
    Branch,
    Call,
    Catch,
    Compensate,
    Completed,
    Gather,
    Generate,
    Group,
    Node,
    Race,
    Raise,
    Repeat,
    Sequence,
    Shield,
    Thread,
    Ticks,
    Timeout,
)

from regrow.actors import Actor, Event, Message, Refused, command, current_step, event, step, tool

NEVER_S = 3600.0


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


_run: ContextVar[Run] = ContextVar("run")


class Planned(Exception):
    """What ``Raise`` raises."""


class NoRoute(Exception):
    """Declared by a tool."""


async def _executed(name: str, ticks: int) -> str:
    run, context = _run.get(), current_step()
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
    return _run.get().execute_in_thread(context.key if context is not None else "", "thread")


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
        _run.set(scene.begin("peer", self.key))
        token = await work(msg.argument)
        if msg.refused:
            raise Refused(f"no {token}")
        self.emit(Poked(token=token))
        return token

    @event
    def on_poked(self, fact: Poked) -> None:
        self.poked.append(fact.token)


class Perform(Message[list[str]]):
    pass


class Saw(Event):
    what: str


class Performer(Actor):
    """Runs the program that belongs to its key."""

    seen: list[str] = []

    @command
    async def perform(self, msg: Perform) -> list[str]:
        scene: Scene = self.port("scene")
        run = scene.begin("performer", self.key)
        _run.set(run)
        own_task = Task(self, run, "")
        await own_task.run(run.program)
        return own_task.trace

    @event
    def on_saw(self, fact: Saw) -> None:
        self.seen.append(fact.what)


class Task:
    """One asyncio task of a handler: runs parts of the program, and keeps what it has seen, in order."""

    def __init__(self, actor: Performer, run: Run, name: str, last: str = "u0") -> None:
        self.trace: list[str] = []
        self.last = last
        """The token seen last."""
        self._actor = actor
        self._run = run
        self._name = name
        self._children = 0

    async def run(self, node: Node) -> None:
        """Runs a part to its end."""
        match node:
            case Call():
                await self._call(node)
            case Ask(argument, refused, emit):
                await self._ask(Poke(argument=argument, refused=refused), emit)
            case Ticks(number):
                for _ in range(number):
                    await asyncio.sleep(0)
            case Raise():
                raise Planned(f"after {self.last}")
            case Sequence(parts):
                for part in parts:
                    await self.run(part)
            case Repeat(body, times):
                for _ in range(times):
                    await self.run(body)
            case Branch(even, odd):
                await self.run(odd if int(self.last[1:]) % 2 else even)
            case Catch():
                await self._catch(node)
            case Compensate():
                await self._compensate(node)
            case Gather():
                await self._gather(node)
            case Group(parts):
                await self._group(parts)
            case Race():
                await self._race(node)
            case Completed():
                await self._completed(node)
            case Timeout():
                await self._timeout(node)
            case Shield():
                await self._shield(node)
            case Generate():
                await self._generate(node)
            case Thread():
                await self._thread(node)

    def note(self, what: str) -> None:
        """Keeps a decision, and tells the witness."""
        self.trace.append(what)
        self._run.observe(self._name, what)

    async def _call(self, call: Call) -> None:
        TICKS.set(call.ticks)
        await self._see(TOOLS[call.tool](call.argument), call.emit)

    async def _ask(self, poke: Poke, emit: bool) -> None:
        await self._see(self._actor.ref(Peer, self._actor.key).ask(poke), emit)

    async def _see(self, outcome: Awaitable[str], emit: bool) -> None:
        try:
            token = await outcome
        except Exception as error:
            self._run.shown(_said(error))
            raise
        self._run.shown(token)
        self.last = token
        self.note(token)
        if emit:
            self._actor.emit(Saw(what=f"{self._name} {token}"))

    def _child(self) -> "Task":
        self._children += 1
        return Task(self._actor, self._run, f"{self._name}.{self._children}", self.last)

    def _take(self, child: "Task", what: str) -> None:
        """Goes on with what a child has seen."""
        self.last = child.last
        self.note(f"{what} {child.trace}")

    async def _catch(self, node: Catch) -> None:
        try:
            await self.run(node.body)
        except Exception as error:
            self.note(f"caught {_said(error)}")
            await self.run(node.fallback)

    async def _compensate(self, node: Compensate) -> None:
        try:
            await self.run(node.body)
        except asyncio.CancelledError:
            await self._call(node.undo)
            raise

    async def _gather(self, node: Gather) -> None:
        children = [self._child() for _ in node.parts]
        running = [child.run(part) for child, part in zip(children, node.parts, strict=True)]
        outcomes = await asyncio.gather(*running, return_exceptions=node.keep_errors)
        for child, outcome in zip(children, outcomes, strict=True):
            self._take(child, _said(outcome) if isinstance(outcome, BaseException) else "gathered")

    async def _group(self, parts: tuple[Node, ...]) -> None:
        children = [self._child() for _ in parts]
        async with asyncio.TaskGroup() as group:
            for child, part in zip(children, parts, strict=True):
                group.create_task(child.run(part))
        for child in children:
            self._take(child, "of the group")

    async def _race(self, node: Race) -> None:
        children = [self._child() for _ in node.parts]
        tasks = [_started(child.run(part)) for child, part in zip(children, node.parts, strict=True)]
        try:
            done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for index, task in enumerate(tasks):
                if task in done:
                    self._take(children[index], f"{index} won {_ended(task)}")
            if node.losers == "cancel":
                for task in pending:
                    task.cancel()
            if node.losers != "leave" and pending:
                await asyncio.wait(pending)
                self.note(f"losers {[_ended(task) for task in tasks]}")
        except asyncio.CancelledError:
            for task in tasks:
                task.cancel()
            raise

    async def _completed(self, node: Completed) -> None:
        children = [self._child() for _ in node.parts]

        async def run(index: int) -> int:
            await children[index].run(node.parts[index])
            return index

        given: list[Any] = [run(index) for index in range(len(node.parts))]
        if node.tasks:
            given = [_started(each) for each in given]
        for taken, each in enumerate(asyncio.as_completed(given), start=1):
            index: int = await each
            self._take(children[index], f"{index} completed")
            if taken == node.take:
                break
        if node.tasks:
            for task in given:
                task.cancel()

    async def _timeout(self, node: Timeout) -> None:
        async def guarded() -> None:
            await self.run(node.body)
            if node.fires:
                await hang(node.argument)

        try:
            if node.waits_for:
                await asyncio.wait_for(guarded(), node.after_s)
            else:
                async with asyncio.timeout(node.after_s):
                    await guarded()
        except TimeoutError:
            if not node.fires:
                raise
            self.note("timed out")

    async def _shield(self, node: Shield) -> None:
        child, released = self._child(), asyncio.Event()

        async def shielded() -> None:
            await child.run(node.body)
            await released.wait()
            await child.run(node.late)

        task = _started(shielded())
        try:
            async with asyncio.timeout(node.after_s):
                await asyncio.shield(task)
        except TimeoutError:
            self.note("not waited for")
        released.set()
        if node.awaited:
            await task
            self._take(child, "shielded")

    async def _generate(self, node: Generate) -> None:
        async def items() -> AsyncGenerator[str]:
            for part in node.parts:
                await self.run(part)
                yield self.last
            await self._call(node.end)

        taken = 0
        async with aclosing(items()) as generator:
            async for item in generator:
                taken += 1
                self.note(f"item {item}")
                if taken == node.take:
                    break

    async def _thread(self, node: Thread) -> None:
        if not node.calls:
            self.note(await asyncio.to_thread(str, node.argument))
            return
        loop = asyncio.get_running_loop()

        def call() -> str:
            return asyncio.run_coroutine_threadsafe(work(node.argument), loop).result()

        await self._see(asyncio.to_thread(call), emit=False)


def _started(running: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    task = asyncio.create_task(running)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


def _ended(task: asyncio.Task[Any]) -> str:
    if task.cancelled():
        return "cancelled"
    error = task.exception()
    return _said(error) if error is not None else "well"


def _said(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        inner: tuple[BaseException, ...] = error.exceptions  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return f"[{', '.join(_said(each) for each in inner)}]"
    return f"{type(error).__name__} {error}"
