"""One attempt at a turn: the handler in a task of its own, and the end of everything that it started."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import structlog

from regrow.actors.cancelling import cancel_again
from regrow.actors.errors import ActorError
from regrow.actors.lineage import rooted
from regrow.actors.step import serve
from regrow.actors.turn import RunningTurn

T = TypeVar("T")

GRACE_S = 3.0
"""How long a cancelled handler may take to end before it is left behind; its journal is closed, so it can do no harm."""

_log = structlog.get_logger(__name__)


class HandlerCancelled(ActorError):
    """Something that the handler awaited was cancelled, and nobody had asked the handler to end."""


class TurnSuspended(ActorError):
    """The handler only waited, and has been unloaded. Between the runtime's own parts: no handler ever sees it."""

    def __init__(self, timers: tuple[str, ...]) -> None:
        super().__init__("the turn is suspended")
        self.timers = timers
        """Ids of those that end its waits."""


async def attempt(turn: RunningTurn, handler: Coroutine[Any, Any, T], *, straight: bool = False) -> T:
    """The handler's result. When this returns or raises, nothing that the handler started runs any more.

    The handler sees a context of its own. Cancelled from outside, it can record nothing from then on: whoever goes on with the
    turn finds its steps in the log and runs those again that were under way. One that is ``straight`` awaits nothing: it runs
    here and now, without the task and the turns of the event loop that would cost more than most such handlers do.
    """
    context = rooted(turn.journal.lineage)
    serve(turn, context)
    if straight:
        try:
            return context.run(_run_through, handler)
        except asyncio.CancelledError as error:
            raise _cancelled(turn) from error
        finally:
            turn.journal.close()
            if turn.journal.lineage.family:
                await _end(None, turn)
    if turn.to_end is not None:
        turn.cancelling = asyncio.create_task(cancel_again(turn, turn.to_end))
    task = asyncio.get_running_loop().create_task(handler, context=context)
    turn.task, turn.left = task, asyncio.get_running_loop().create_future()
    task.add_done_callback(turn.leave)
    try:
        await turn.left
    finally:
        turn.journal.close()
        if turn.cancelling is not None:
            turn.cancelling.cancel()
        await _end(task, turn)
    if turn.suspended:
        if not task.cancelled():
            _log.error(
                "a handler went on after its suspension; clean up in except, and let CancelledError pass",
                actor=str(turn.address),
            )
        raise TurnSuspended(turn.suspended)
    if task.cancelled() or not task.done():
        raise _cancelled(turn)
    return task.result()


def _cancelled(turn: RunningTurn) -> HandlerCancelled:
    return HandlerCancelled(f"the handler of {turn.address} was cancelled by something that it awaited")


def _run_through(handler: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never suspends."""
    try:
        handler.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    raise RuntimeError("a handler was suspended although it awaits nothing")


async def _end(task: asyncio.Task[Any] | None, turn: RunningTurn) -> None:
    """Cancels what still runs, and waits for it."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + GRACE_S
    while running := [each for each in (task, *turn.journal.lineage.family) if each is not None and not each.done()]:
        for each in running:
            each.cancel()
        await asyncio.wait(running, timeout=deadline - loop.time())
        if loop.time() >= deadline:
            _log.error("a handler ignores its cancellation and is left behind", actor=str(turn.address))
            break
    if task is not None and task.done():
        with suppress(asyncio.CancelledError):  # seen, and let go of: its frames hold the turn, which holds the task
            task.exception()
