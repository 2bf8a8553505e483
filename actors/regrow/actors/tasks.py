"""The tasks of one supervised child: they live no longer than its block, and each of them fails alone.

Everything belongs to one event loop.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context
from types import TracebackType
from typing import Self

import structlog

_log = structlog.get_logger(__name__)


class Tasks:
    """Starts tasks while its block runs; leaving it by an error or a cancellation cancels them, and waits for all."""

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._group.__aexit__(kind, error, trace)
        except BaseExceptionGroup as ended:
            if ended.exceptions != (error,):
                raise
            # What ended the block goes on as it was: it is its child's cause of death.

    def start(self, function: Callable[..., Awaitable[None]], *arguments: object) -> asyncio.Task[None]:
        """A task in a context of its own: what a handler's context carries is none of its business.

        Raises RuntimeError outside the block, and while it is being left.
        """
        guarded = _guarded(function, *arguments)
        try:
            return Context().run(self._group.create_task, guarded)
        except RuntimeError:
            guarded.close()
            raise


async def _guarded(function: Callable[..., Awaitable[None]], *arguments: object) -> None:
    """Runs a task whose failure is nobody's but its own, lest it takes all tasks beside it with it."""
    try:
        await function(*arguments)
    except Exception as error:  # the supervised edge: what no actor is to blame for
        _log.exception("a task of the host failed", error=str(error))
