"""Dead letters of local actors: counted by reason, the latest kept by name, reported in the log.

A message is not kept itself, only its type: it may hold anything, and be large. Everything is on one event loop.
"""

from collections import deque
from collections.abc import Mapping
from typing import Literal, get_args

import msgspec
import structlog

from regrow.bus import Address
from regrow.supervisor.repeats import Repeats

LATEST = 100
"""Dead letters kept by name."""

_log = structlog.get_logger(__name__)

Reason = Literal["drop_newest", "drop_oldest", "stopped", "late", "late_reply", "stash_full", "timer", "group"]
"""The mailbox was full (which of two messages went says its overflow), the actor was stopped before it came to the message, whoever
asked had given up by the time that it did, or before the handler's reply came; the
stash was full; a timer's message, or one to a whole group, found no room."""


class LocalDeadLetter(msgspec.Struct, frozen=True):
    """A message, or the reply to one, that reached nobody."""

    to: Address
    message: str
    """The class name of the message."""
    reason: Reason


class LocalDeadLetters(msgspec.Struct, frozen=True):
    """How many there have been since the system was entered."""

    counts: Mapping[Reason, int]
    latest: tuple[LocalDeadLetter, ...]
    """The last ``LATEST`` of them, oldest first."""


class DeadLetterOffice:
    """Where cells hand in what reaches nobody. What is alike, by actor and reason, is said once a second."""

    def __init__(self) -> None:
        self._counts: dict[Reason, int] = dict.fromkeys(get_args(Reason), 0)
        self._latest: deque[LocalDeadLetter] = deque(maxlen=LATEST)
        self._repeats: Repeats[LocalDeadLetter] = Repeats(_say)

    def add(self, to: Address, message: object, reason: Reason) -> None:
        """One more."""
        letter = LocalDeadLetter(to, type(message).__name__, reason)
        self._counts[reason] += 1
        self._latest.append(letter)
        self._repeats.add((to, reason), letter)

    def seen(self) -> LocalDeadLetters:
        """What there has been so far."""
        return LocalDeadLetters(dict(self._counts), tuple(self._latest))

    def close(self) -> None:
        """Says what was counted."""
        self._repeats.close()


def _say(letter: LocalDeadLetter, repeated: int) -> None:
    more = {"repeated": repeated} if repeated else {}
    _log.warning("dead letter", actor=str(letter.to), message=letter.message, reason=letter.reason, **more)
