"""A local actor that does what its messages say, for tests of what happens around a handler."""

import asyncio
from collections.abc import Callable
from typing import Any

from regrow.actors import LocalActor, LocalPolicy, LocalRef, Message, command
from regrow.supervisor import Backoff

AT_ONCE = LocalPolicy(backoff=Backoff(first_s=0.0))


class Do(Message[Any]):
    """Done by a handler that never awaits."""

    act: Callable[["Probe", Message[Any]], object]


class DoAwaiting(Message[Any]):
    """Done by a handler that awaits something first."""

    act: Callable[["Probe", Message[Any]], object]


class Hold(Message[None]):
    """Handled once ``until`` is set; ``started`` tells that the handler has it."""

    started: asyncio.Event
    until: asyncio.Event


class Probe(LocalActor):
    open: bool = False

    @command
    async def do(self, msg: Do) -> Any:
        return msg.act(self, msg)

    @command
    async def do_awaiting(self, msg: DoAwaiting) -> Any:
        await nothing()
        return msg.act(self, msg)

    @command
    async def hold(self, msg: Hold) -> None:
        msg.started.set()
        await msg.until.wait()


async def nothing() -> None: ...


async def begun(task: "asyncio.Task[Any]") -> None:
    """Returns once the task has run as far as it can."""
    await asyncio.wait([task], timeout=0)


async def until(there: Callable[[], bool]) -> None:
    """Lets the others run until it is so."""
    while not there():  # noqa: ASYNC110 # nobody says when
        await asyncio.sleep(0)


async def held(ref: LocalRef) -> asyncio.Event:
    """The actor in a handler that goes on when the event is set."""
    message = Hold(started=asyncio.Event(), until=asyncio.Event())
    ref.tell(message)
    await message.started.wait()
    return message.until


def fail(actor: Probe, message: Message[Any]) -> None:
    raise ValueError("no such thing")
