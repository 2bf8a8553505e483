"""The end of a running turn that was asked for from outside: recorded first, then its handler is cancelled, and may clean up.

The request has a place of its own among the recorded outcomes, so that a replay cancels behind the same ones. Whatever the
handler still takes from there on is recorded and replayed like any other step.
"""

import asyncio
from contextlib import suppress
from typing import Protocol

import structlog

from regrow.actors.errors import Drift
from regrow.actors.image import CANCEL_KEY
from regrow.actors.journal import Journal
from regrow.actors.lineage import StepKey, path_of

_log = structlog.get_logger(__name__)

_KEY = StepKey(path_of(CANCEL_KEY), CANCEL_KEY, CANCEL_KEY)


class Cancellable(Protocol):
    """A running turn, as far as its end is concerned."""

    journal: Journal
    task: asyncio.Task[object] | None
    reason: str | None
    cleanup_timeout_s: float

    def abort(self) -> None: ...
    def leave(self) -> None: ...


async def cancel_at(turn: Cancellable, position: int, stored: asyncio.Future[None], reason: str) -> None:
    """Cancels the handler once the request is in the log and all outcomes before it have passed."""
    await asyncio.wait((stored,))
    if stored.cancelled() or stored.exception() is not None:
        turn.journal.give_up(position)
        return
    with suppress(Drift):  # then the turn ends of that
        await turn.journal.arrive(position)
        await _cancel(turn, reason)


async def cancel_again(turn: Cancellable, reason: str) -> None:
    """Cancels the handler where it was cancelled before; at once where what came before that is forgotten."""
    with suppress(Drift):
        recorded = turn.journal.recorded(_KEY)
        if recorded is not None:
            await turn.journal.replay(recorded)
        else:
            await asyncio.sleep(0)
        await _cancel(turn, reason)


async def _cancel(turn: Cancellable, reason: str) -> None:
    """Cancels the handler, and leaves it behind when it has not ended in time."""
    task = turn.task
    assert task is not None
    if task.done():
        return
    turn.reason = reason
    task.cancel()
    await asyncio.wait((task,), timeout=turn.cleanup_timeout_s)
    if not task.done():
        _log.error("a cancelled handler cleans up for too long and is ended", allowed_s=turn.cleanup_timeout_s)
        turn.abort()
        turn.leave()
