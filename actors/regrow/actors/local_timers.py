"""The timers of one local actor, by name, after Pekko's: what is cancelled or replaced is not handled. One event loop.

A timer that is due lies in the mailbox itself, and is looked at when its turn comes: one that is not the actor's any more is passed
over, however long it has lain there.
"""

import asyncio
from collections.abc import Callable
from math import inf
from typing import Any

from regrow.actors.message import Message


class Tick:
    """One timer, and its message in the mailbox."""

    __slots__ = ("_every_s", "_timers", "message", "name", "timer")

    def __init__(self, name: str, message: Message[Any], every_s: float | None, timers: "LocalTimers") -> None:
        self.name = name
        self.message = message
        self.timer: asyncio.TimerHandle | None = None
        self._every_s = every_s
        self._timers = timers

    def take(self) -> Message[Any] | None:
        """Its message, out of the mailbox; the next is set from now on. None when it was cancelled or replaced meanwhile."""
        if not self._timers.has(self):
            return None
        if self._every_s is None:
            self._timers.cancel(self.name)
        else:
            self._timers.start(self, self._every_s)
        return self.message


def check_period(every_s: float | None) -> None:
    """Raises ``ValueError`` for a period that is none."""
    if every_s is not None and not 0 < every_s < inf:
        raise ValueError(f"every_s must be more than 0 seconds, and finite, not {every_s}")


class LocalTimers:
    """Those that are set. Made with the first; ``post`` puts one that is due into the mailbox."""

    __slots__ = ("_loop", "_post", "_ticks")

    def __init__(self, post: Callable[[Tick], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._post = post
        self._ticks: dict[str, Tick] = {}

    def set(self, name: str, message: Message[Any], delay_s: float, every_s: float | None) -> None:
        """A timer in place of the one that had the name."""
        self.cancel(name)
        tick = self._ticks[name] = Tick(name, message, every_s, self)
        self.start(tick, delay_s)

    def cancel(self, name: str) -> None:
        """The timer of that name is over, if there is one."""
        tick = self._ticks.pop(name, None)
        if tick is not None and tick.timer is not None:
            tick.timer.cancel()

    def cancel_all(self) -> None:
        """All are over."""
        for name in tuple(self._ticks):
            self.cancel(name)

    def has(self, tick: Tick) -> bool:
        """Whether it is still one of them."""
        return self._ticks.get(tick.name) is tick

    def start(self, tick: Tick, delay_s: float) -> None:
        """Posts it after so many seconds."""
        tick.timer = self._loop.call_later(max(0.0, delay_s), self._post, tick)
