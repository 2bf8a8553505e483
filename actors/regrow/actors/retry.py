"""When a failing tool runs again: attempts, elapsed time and what is worth another try, as pure decisions."""

import math
from collections.abc import Iterator, Mapping

import msgspec

from regrow.actors.classifier import Classifier, Rule, classify
from regrow.actors.errors import Failure
from regrow.actors.failure_action import Action, GiveUp, Repeat, RollBack, action_of
from regrow.supervisor import Backoff

DECLARED = "declared"
"""The kind of a failure that the tool announces in ``raises``."""
SPREAD = 0.1
"""Share of the time which the other side asks for that is waited beyond it, at most: not all who were sent away come back at once."""


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """How often a failing tool runs again before its failure is the step's outcome.

    What is done depends on the failure's kind (docs/failures.md), within both limits. Attempts count across crashes: one that
    failed is in the log before the next one begins, and the one that a crash cut off runs again under its number. Declared
    errors (``raises``) are never retried.
    """

    attempts: int = 3
    """1 or more, the first one included. 1: it never runs again, whatever the kind."""
    elapsed_s: float = 600.0
    """No attempt begins later than this after the first one began, by the wall clock, crashes included."""
    backoff: Backoff = Backoff()
    """How long to wait before an attempt; its jitter is a full one."""
    non_retryable: tuple[type[Exception], ...] = ()
    """Exceptions, and those of classes below them, after which another try is in vain."""
    on: dict[str, Action] = {}
    """What is done about failures of a kind, where it is not the usual: ``{"network": Repeat(attempts=10)}``."""
    rules: tuple[Rule, ...] = ()
    """What exceptions mean, asked before the rules that regrow brings."""

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"Retry(attempts={self.attempts}): a tool runs at least once")
        if not 0 <= self.elapsed_s < math.inf:
            raise ValueError(f"Retry(elapsed_s={self.elapsed_s}): give seconds, 0 or more")

    @property
    def classifier(self) -> Classifier:
        """Says of which kind a failure is."""
        return classify.first(self.rules)

    def action_of(self, kind: str) -> Action:
        """What is done about a failure of this kind."""
        if kind == DECLARED:
            return GiveUp()
        return self.on.get(kind) or action_of(kind)

    def wait_s(
        self, number: int, failed: Failure, elapsed_s: float, draw: float, apart: Mapping[str, int] | None = None
    ) -> float | None:
        """Seconds to wait before the next attempt after that of this number (from 1) failed; None when there is none.

        ``draw``: a random number from 0.0 up to, not including, 1.0. ``apart``: failures before this one that spent none of
        ``attempts``, by kind; see ``counted``.
        """
        action, before = self.action_of(failed.kind), apart or {}
        if isinstance(action, RollBack | GiveUp):
            return None
        if action.attempts is None:
            tries, limit = number - sum(before.values()), self.attempts
        else:
            tries, limit = before.get(failed.kind, 0) + 1, action.attempts
        if self.attempts == 1 or tries >= limit or failed.type in set(_names(self.non_retryable)):
            return None
        wait_s = self.backoff.delay_s(tries - 1, draw)
        if failed.retry_after_s is not None:
            wait_s = max(wait_s, failed.retry_after_s * (1 + SPREAD * draw))
        return wait_s if elapsed_s + wait_s <= self.elapsed_s else None

    def counted(self, apart: dict[str, int], kind: str) -> dict[str, int]:
        """The failures that spend none of ``attempts``, by kind, with one of this kind."""
        if self.action_of(kind) == Repeat(None):
            return apart
        return {**apart, kind: apart.get(kind, 0) + 1}


NO_RETRY = Retry(attempts=1)


def _names(kinds: tuple[type[Exception], ...]) -> Iterator[str]:
    """Of these classes and all below: a failure that comes from a tool agent has no more than its class's name."""
    for kind in kinds:
        yield kind.__name__
        yield from _names(tuple(kind.__subclasses__()))
