"""Mail first: when much of it comes at once, it is taken into its mailboxes before more actors begin to act on it.

Mail and turns share one event loop and one server. When thousands of messages come at once (timers that are due together, a
backlog after a takeover), an actor that begins at every message keeps the rest from being read, and what is due waits unseen. So
where many are acting, the others begin when no mail has come for a moment, or when that has lasted too long, and then a few in
each round of the loop. Nothing here waits; what waits is at most one beginning of each actor that has mail.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

ACTING_FREE = 256
"""So many actors begin at once, whatever comes."""
QUIET_S = 0.003
"""No mail for so long: the wave is over."""
MAIL_FIRST_S = 0.5
"""Longer than this no actor waits for a wave to be over; mail that never ceases does not keep turns from running."""
BEGUN_AT_ONCE = 16
"""Actors that begin in one round of the loop after a wave; then the sockets are looked at again."""

Begin = Callable[[], asyncio.Task[None] | None]
"""The task in which an actor acts; None when it is here no more."""


class Intake:
    """Begins what it is given, at once while few are acting, otherwise in its order when the wave of mail is over."""

    def __init__(self) -> None:
        self._waiting: deque[Begin] = deque()
        self._acting = 0
        self._heard_s = 0.0
        self._until_s = 0.0

    def __len__(self) -> int:
        """How many wait to begin."""
        return len(self._waiting)

    def begin(self, act: Begin) -> None:
        """Mail came for an actor: calls this now or soon. It must not raise."""
        if not self._waiting and self._acting < ACTING_FREE:
            self._begin(act)
            return
        loop = asyncio.get_running_loop()
        self._heard_s = loop.time()
        if not self._waiting:
            self._until_s = self._heard_s + MAIL_FIRST_S
            loop.call_later(QUIET_S, self._look)
        self._waiting.append(act)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        if now_s < min(self._until_s, self._heard_s + QUIET_S):
            loop.call_later(QUIET_S, self._look)
            return
        self._until_s = 0.0  # the wave is over, until all who waited have begun
        for _ in range(min(BEGUN_AT_ONCE, len(self._waiting))):
            self._begin(self._waiting.popleft())
        if self._waiting:
            loop.call_soon(self._look)

    def _begin(self, act: Begin) -> None:
        task = act()
        if task is not None:
            self._acting += 1
            task.add_done_callback(self._ended)

    def _ended(self, _: asyncio.Task[Any]) -> None:
        self._acting -= 1
