"""The actor whose handler runs a random program with plain asyncio and durable timeouts."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Coroutine
from contextlib import aclosing
from typing import Any

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
from tests.property.tools import TICKS, TOOLS, Peer, Planned, Poke, Run, Scene, hang, running, work

from regrow.actors import Actor, Event, Message, command, event, timeout

NEVER_S = 3600.0


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
        running.set(run)
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
            match node.by:
                case "wait_for":
                    await asyncio.wait_for(guarded(), node.after_s)
                case "timeout":
                    async with asyncio.timeout(node.after_s):
                        await guarded()
                case "durable":
                    async with timeout(node.after_s):
                        await guarded()
        except TimeoutError:
            if not node.fires:
                raise
            self.note("timed out")

    async def _shield(self, node: Shield) -> None:
        child, released = self._child(), asyncio.Event()

        async def shielded() -> None:
            try:
                await child.run(node.body)
            except Exception:  # it never ends before its waiter has timed out: which comes first is no step
                await released.wait()
                raise
            await released.wait()
            await child.run(node.late)

        task = _started(shielded())
        try:
            async with timeout(node.after_s) if node.durable else asyncio.timeout(node.after_s):
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
