"""When a failing tool runs again: attempts, elapsed time and what is worth another try, as pure decisions."""

import math
from collections.abc import Iterator

import msgspec

from regrow.actors.errors import Failure
from regrow.supervisor import Backoff

DECLARED = "declared"
"""The kind of a failure that the tool announces in ``raises``."""


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """How often a failing tool runs again before its failure is the step's outcome.

    It runs again while both limits allow it. Attempts count across crashes: one that failed is in the log before the next one
    begins, and the one that a crash cut off runs again under its number. Declared errors (``raises``) are never retried.
    """

    attempts: int = 3
    """1 or more, the first one included."""
    elapsed_s: float = 600.0
    """No attempt begins later than this after the first one began, by the wall clock, crashes included."""
    backoff: Backoff = Backoff()
    """How long to wait before an attempt; its jitter is a full one."""
    non_retryable: tuple[type[Exception], ...] = ()
    """Exceptions, and those of classes below them, after which another try is in vain."""

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"Retry(attempts={self.attempts}): a tool runs at least once")
        if not 0 <= self.elapsed_s < math.inf:
            raise ValueError(f"Retry(elapsed_s={self.elapsed_s}): give seconds, 0 or more")

    def wait_s(self, number: int, failed: Failure, elapsed_s: float, draw: float) -> float | None:
        """Seconds to wait before the next attempt after that of this number (from 1) failed; None when there is none.

        ``draw``: a random number from 0.0 up to, not including, 1.0.
        """
        if number >= self.attempts or failed.kind == DECLARED:
            return None
        if self.non_retryable and failed.type in set(_names(self.non_retryable)):
            return None
        wait_s = self.backoff.delay_s(number - 1, draw)
        return wait_s if elapsed_s + wait_s <= self.elapsed_s else None


NO_RETRY = Retry(attempts=1)


def _names(kinds: tuple[type[Exception], ...]) -> Iterator[str]:
    """Of these classes and all below: a failure that comes from a tool agent has no more than its class's name."""
    for kind in kinds:
        yield kind.__name__
        yield from _names(tuple(kind.__subclasses__()))
