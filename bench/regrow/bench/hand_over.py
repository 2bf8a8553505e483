"""The floor in memory: the least that asyncio needs to hand a message to another task and a reply back.

A consumer by hand for one kind of message: a deque, one future to wake it, one future per reply. It calls the same handler
with the same message as the actor does. It has no limit, no deadline, no supervision, and cannot be stopped politely; what
those cost is the distance to it.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

M = TypeVar("M")
R = TypeVar("R")


class HandOver(Generic[M, R]):
    """A task that takes messages one at a time; ``run`` is to be run in it."""

    def __init__(self, handler: Callable[[M], Awaitable[R]]) -> None:
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        self._mail: deque[tuple[M, asyncio.Future[R] | None]] = deque()
        self._parked: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Handles messages until cancelled."""
        mail, handler = self._mail, self._handler
        while True:
            while mail:
                message, reply = mail.popleft()
                value = await handler(message)
                if reply is not None:
                    reply.set_result(value)
            self._parked = self._loop.create_future()
            await self._parked

    def tell(self, message: M, reply: asyncio.Future[R] | None = None) -> None:
        """Leaves a message."""
        self._mail.append((message, reply))
        if self._parked is not None:
            self._parked.set_result(None)
            self._parked = None

    async def ask(self, message: M) -> R:
        """The handler's result."""
        reply: asyncio.Future[R] = self._loop.create_future()
        self.tell(message, reply)
        return await reply
