"""What is done about each kind of failure, as a table of values; ``Retry`` puts it into practice, and may say otherwise."""

import msgspec

from regrow.actors.errors import BUSY, STORE
from regrow.actors.failure_kind import CORRUPT_CONTEXT, INFRASTRUCTURE, QUOTA, REJECTED, SEMANTIC, THROTTLED


def _check(attempts: int | None) -> None:
    if attempts is not None and attempts < 1:
        raise ValueError(f"attempts={attempts}: what has failed has run at least once")


class Repeat(msgspec.Struct, frozen=True):
    """Run it again after a backoff."""

    attempts: int | None = None
    """How many failures of this kind end it, 1 or more; None: each spends one of the tool's attempts."""

    def __post_init__(self) -> None:
        _check(self.attempts)


class Wait(msgspec.Struct, frozen=True):
    """Run it again when the other side asks for it, after a backoff where it does not say when. Spends none of the tool's
    attempts; what is longer than the rest of the tool's ``elapsed_s`` is not waited for."""

    attempts: int = 1_000
    """How many failures of this kind end it, 1 or more: a bound for a server that always says "now"."""

    def __post_init__(self) -> None:
        _check(self.attempts)


class Repair(msgspec.Struct, frozen=True):
    """Ask again, with the validator's words. A tool, which nothing can be said to, runs again after a backoff."""

    attempts: int = 3
    """How many failures of this kind end it, 1 or more; they spend none of the tool's attempts."""

    def __post_init__(self) -> None:
        _check(self.attempts)


class RollBack(msgspec.Struct, frozen=True):
    """Nothing helps but to go on from an earlier point; the call is not made again as it is."""


class GiveUp(msgspec.Struct, frozen=True):
    """It is not run again, and neither is the turn that does not catch it."""


Action = Repeat | Wait | Repair | RollBack | GiveUp

ACTIONS: dict[str, Action] = {
    SEMANTIC: Repair(),
    INFRASTRUCTURE: Repeat(attempts=5),
    THROTTLED: Wait(),
    BUSY: Wait(),
    STORE: Wait(),
    QUOTA: GiveUp(),
    REJECTED: GiveUp(),
    CORRUPT_CONTEXT: RollBack(),
}
"""By kind; of every other kind, ``network`` and ``defect`` among them, a failure spends one of the tool's attempts."""


def action_of(kind: str) -> Action:
    """What is done about a failure of this kind where nobody says otherwise."""
    return ACTIONS.get(kind, Repeat())
