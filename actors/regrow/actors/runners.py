"""Runners: the few tasks that let many local actors take their turns.

An actor with mail stands in one queue; a runner takes actors off it, one quantum each, and gives the loop back after a
slice of time. A handler that waits keeps its runner, and another one goes on with the queue. Everything is on one event loop.

Whenever an actor is in the queue, a runner is on its way or has the loop: ``_awake`` says so, and is looked at again as soon
as that runner has given the loop back, by finishing or by waiting inside a handler.
"""

import asyncio
from collections import deque
from contextvars import Context
from typing import Protocol

SLICE_S = 0.001
"""How long actors run before sockets and timers get their turn; a single handler may take longer."""
PARKED_MAX = 64
"""Runners kept for the next burst; more exist only while so many handlers wait at once."""


class Runnable(Protocol):
    """Somebody who has work to do."""

    async def drain(self) -> bool:
        """Does some of it; True when more is left."""
        ...


class Runners:
    """Gives turns to whoever is activated, in that order. Its tasks belong to the given group."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._ready: deque[Runnable] = deque()
        self._parked: list[asyncio.Future[None]] = []
        self._awake = False
        self._closed = False

    def activate(self, runnable: Runnable) -> None:
        """Queues somebody who was idle."""
        self._ready.append(runnable)
        if not self._awake:
            self._wake()

    def close(self) -> None:
        """Lets the runners go, each after the handler it is in."""
        self._closed = True
        for parked in self._parked:
            parked.cancel()

    def _wake(self) -> None:
        self._awake = True
        while self._parked:
            parked = self._parked.pop()
            if not parked.done():
                parked.set_result(None)
                return
        # In a context of its own: a handler must not see what happened to be set where the first message came from.
        Context().run(self._tasks.create_task, self._run())

    def _given_back(self) -> None:
        self._awake = False
        if self._ready and not self._closed:
            self._wake()

    async def _run(self) -> None:
        ready, time = self._ready, self._loop.time
        while True:
            self._loop.call_soon(self._given_back)
            until = time() + SLICE_S
            while ready:
                runnable = ready.popleft()
                if await runnable.drain():
                    ready.append(runnable)
                if ready and time() >= until:
                    break
            if self._closed or len(self._parked) >= PARKED_MAX:
                break
            parked = self._loop.create_future()
            self._parked.append(parked)
            if ready and not self._awake:
                self._wake()
            await parked
        if ready and not self._awake and not self._closed:
            self._wake()
