"""Monitors: being told of a death without dying of it. After OTP's `monitor/2`: one-way, and as many as one likes.

Belongs to one event loop. The target holds its monitors until it dies or they are taken back, never longer.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from regrow.supervisor.errors import SupervisorError
from regrow.supervisor.exits import Exit, NoProcess
from regrow.supervisor.mortal import Mortal


class Demonitored(SupervisorError):
    """The monitor was taken back while somebody waited on it, or before."""

    def __init__(self, target: str) -> None:
        super().__init__(f"the monitor of {target!r} was taken back, so nobody is told of its end")
        self.target = target


class Monitor:
    """One monitor of one target; independent of all others. Made by `monitor`. As a block it is taken back at its end."""

    __slots__ = ("_callback", "_changed", "_dropped", "_target", "down")

    def __init__(self, target: Mortal | None, callback: Callable[[Exit], None] | None) -> None:
        self.down: Exit | None = None
        """How the target ended, as soon as it has."""
        self._callback = callback
        self._changed: asyncio.Event | None = None
        self._dropped = ""
        self._target = target
        if target is None:
            self._fall(NoProcess())
        else:
            target.watch(self._fall)

    async def wait_down(self) -> Exit:
        """How the target ended, once it has; at once for the dead. Raises `Demonitored`."""
        while self.down is None:
            if self._dropped:
                raise Demonitored(self._dropped)
            if self._changed is None:
                self._changed = asyncio.Event()
            await self._changed.wait()
        return self.down

    def demonitor(self) -> None:
        """Nothing is told from now on, and who waits gets `Demonitored`; after the target's death it does nothing."""
        if self._target is None:
            return
        self._target.unwatch(self._fall)
        self._dropped = self._target.name or "a nameless one"
        self._let_go()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.demonitor()

    def _fall(self, cause: Exit) -> None:
        callback, self.down = self._callback, cause
        self._let_go()
        if callback is not None:
            callback(cause)

    def _let_go(self) -> None:
        self._target = self._callback = None
        if self._changed is not None:
            self._changed.set()


def monitor(target: Mortal | None, callback: Callable[[Exit], None] | None = None) -> Monitor:
    """Tells of the target's end, by `wait_down`, by `down`, and by calling back once, which must not raise.

    One that is dead already is told at once, before this returns; so is nobody, as `NoProcess`.
    """
    return Monitor(target, callback)


def demonitor(watching: Monitor) -> None:
    """Takes a monitor back, as `Monitor.demonitor` does."""
    watching.demonitor()
