"""Runners: the few tasks that let many local actors take their turns.

An actor with mail stands in one queue; a runner takes actors off it, a quantum each, and gives the loop back after a slice of
time. A handler that waits keeps its runner, and another one goes on with the queue. Everything is on one event loop.

Whenever an actor is in the queue, a runner is on its way, or has the loop, or the loop is about to call ``_look``, which sends
one when the last that had the loop has given it back, by finishing or by waiting inside a handler.
"""

import asyncio
from collections import deque
from contextvars import Context
from time import monotonic
from typing import Any, Protocol

SLICE_S = 0.001
"""How long actors run before tasks, sockets and timers get their turn; a single handler may take longer."""
FLOODED_S = 100e-6
"""The same where one of them has more mail than it got done: the others' senders are to wait for little of that."""
LOOK_EVERY = 16
"""Messages taken one by one between two looks at the clock."""
PARKED_MAX = 64
"""Runners kept for the next burst; more exist only while so many handlers wait at once."""


class Runnable(Protocol):
    """Somebody who has work to do."""

    def take_one(self) -> bool:
        """Does all there is, where that is so little that it needs no ``drain``; False when it is not."""
        ...

    async def drain(self, runner: "asyncio.Task[Any]") -> bool:
        """Does some of it in that task, until ``Runners.is_due`` says that others should have their turn; True when more is left."""
        ...


class Runners:
    """Gives turns to whoever is activated, in that order. Its tasks belong to the given group."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._ready: deque[Runnable] = deque()
        self._parked: list[asyncio.Future[None]] = []
        self._coming = False  # a runner has been sent and has not begun
        self._running = False  # one has begun and, as far as is known, has not given the loop back
        self._looking = False
        self._looking_since = 0.0
        self.answered = False
        """Set by whoever answers an ask: while more is left than fits a quantum, the loop gets its turn first."""
        self._since = 0.0
        self._taken = 0
        self._closed = False
        self.context = Context()
        """Where handlers run that whoever asks runs himself."""

    def activate(self, runnable: Runnable) -> None:
        """Queues somebody who was idle."""
        self._ready.append(runnable)
        if not self._coming:
            if not self._running:
                self._send()
            elif not self._looking:
                self._look_soon()

    def is_due(self, *, enough: bool) -> bool:
        """Whether somebody should give way: if he has had ``enough`` to others who are ready or were answered, or to the loop."""
        return (enough and (self.answered or bool(self._ready))) or self._is_over(FLOODED_S)

    def is_free(self) -> bool:
        """Whether somebody may do a turn himself, without a runner: for a slice each time that the loop comes round."""
        if self._looking:
            return monotonic() - self._looking_since < FLOODED_S
        self._look_soon()
        self._looking_since = monotonic()
        return True

    def close(self) -> None:
        """Lets the runners go, each after the handler it is in."""
        self._closed = True
        for parked in self._parked:
            parked.cancel()

    def _is_over(self, slice_s: float) -> bool:
        now = monotonic()
        if not self._since:  # the clock is not looked at for what is done at once
            self._since = now
        return now - self._since >= slice_s

    def _is_slice_over(self) -> bool:
        """Looks at the clock now and then."""
        self._taken += 1
        return not self._taken % LOOK_EVERY and self._is_over(SLICE_S)

    def _send(self) -> None:
        self._coming = True
        while self._parked:
            parked = self._parked.pop()
            if not parked.done():
                parked.set_result(None)
                return
        # In a context of its own: a handler must not see what happened to be set where the first message came from.
        Context().run(self._tasks.create_task, self._run())

    def _look_soon(self) -> None:
        self._looking = True
        self._loop.call_soon(self._look)

    def _look(self) -> None:
        self._looking = self._running = False
        if self._ready and not self._coming and not self._closed:
            self._send()

    async def _run(self) -> None:
        runner = asyncio.current_task()
        assert runner is not None
        ready = self._ready
        while True:
            self._coming, self.answered, self._since = False, False, 0.0
            while ready:
                self._running = True
                runnable = ready.popleft()
                if ready and not self._looking:
                    self._look_soon()
                if runnable.take_one():
                    if not ready or not self._is_slice_over():
                        continue
                    break
                if await runnable.drain(runner):
                    ready.append(runnable)
                    if self.answered or self._is_over(FLOODED_S):
                        break
                elif ready and self._is_over(SLICE_S):
                    break
            self._running = False
            if self._closed or len(self._parked) >= PARKED_MAX:
                break
            if not ready or self._coming:
                parked: asyncio.Future[None] = asyncio.Future(loop=self._loop)
                self._parked.append(parked)
                await parked
            else:
                self._coming = True
                await asyncio.sleep(0)
        if ready and not self._coming and not self._closed:
            self._send()
