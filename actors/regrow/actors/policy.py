"""What is done about a turn whose handler raised, as pure decisions, and what is said of it to caller, log and dead letter."""

from collections.abc import Iterator
from typing import Literal, cast

import msgspec

from regrow.actors.errors import (
    DEADLOCK,
    DEFECT,
    REFUSED,
    TOO_LARGE,
    AmbiguousStep,
    DefinitionError,
    Failure,
    FoldDiffers,
    NotApproved,
    OutcomeUnknown,
    Refused,
    StateChangedOutsideEvent,
    StepFailed,
    WouldDeadlock,
    failure,
)
from regrow.actors.failure_action import GiveUp, action_of
from regrow.actors.records import Outcome
from regrow.bus import PayloadTooLarge, encode
from regrow.supervisor import Backoff, Crashed, decide
from regrow.supervisor.spec import Restart

CERTAIN = (
    AmbiguousStep,
    DefinitionError,
    FoldDiffers,
    NotApproved,
    OutcomeUnknown,
    PayloadTooLarge,
    StateChangedOutsideEvent,
    WouldDeadlock,
)
"""Errors that would come again however often the turn is tried."""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What is done about the failures of an actor's turns, and how much of it is kept at hand."""

    restart: Restart = "permanent"
    """``temporary``: a turn whose handler raised is not tried again."""
    backoff: Backoff = Backoff()
    on_drift: Literal["park", "run"] = "park"
    """A handler that no longer takes the way of its recorded steps, because the code was changed under an unfinished turn.
    ``park``: the actor waits, and says why, until a build runs that fits. ``run``: the steps are set aside with a warning and
    the handler begins anew; a recorded step answers where it takes the same one again, whatever else it takes runs."""
    cleanup_timeout_s: float = 30.0
    """How long a handler that was cancelled from outside may go on, with steps if need be, before it is ended where it stands."""
    attempts_max: int = 3
    """Attempts at one turn, counted in the log; then its message becomes a dead letter and the next one is taken."""
    deaths_max: int = 5
    """Processes that may die one after the other while they are at the same turn, without a step of it recorded in between;
    then its message is taken for poison and becomes a dead letter."""
    history: Literal["compact", "keep"] = "compact"
    """``compact``: snapshots replace the records before them. ``keep``: they lie beside the log, which stays whole for
    projections and audits, and grows for ever."""
    snapshot_every: int = 500
    """Records of an actor after which a snapshot is taken."""
    snapshot_distance: int = 50_000
    """Records of all actors of its stream after which one is taken: what lies far back is slow to recover, however little."""
    recovery_timeout_s: float = 60.0
    """How long reading a log may take; then the actor waits for ``mend_after_s`` like one that cannot be read."""
    mend_after_s: float = 5.0
    """An actor that cannot go on (its log cannot be folded, its turn has drifted, the store is full) is tried again after
    this time; its mail waits."""
    suspend_after_s: float = 30.0
    """How long a turn that only waits (for other actors, for a long sleep to end) stays in memory; then it is unloaded, and the
    message that ends a wait brings it back."""
    check_folds: bool = False
    """After every turn compare the state with the fold of the recorded events: for development and tests."""


def tries_again(policy: Policy, error: Exception, number: int) -> bool:
    """Whether a turn is attempted once more after its attempt of this number (from 1) ended in this error."""
    return (
        decide(policy.restart, Crashed(error)) == "restart" and number < policy.attempts_max and not _is_certain(error)
    )


def _is_certain(error: BaseException) -> bool:
    """Whether it would come again: one of those errors, a step's failure that nothing is done about, a group with one of them."""
    if isinstance(error, BaseExceptionGroup):
        return any(map(_is_certain, cast(BaseExceptionGroup[BaseException], error).exceptions))
    if isinstance(error, StepFailed):
        return isinstance(action_of(error.kind), GiveUp)
    return isinstance(error, CERTAIN)


def refusal(no: Refused) -> Outcome:
    """A refusal as a reply. Raises TypeError when its data is no JSON."""
    encode(no.data)
    return Outcome(failure=failure(REFUSED, no.message, **no.data))


def defect(error: Exception) -> Failure:
    """What the caller, the log and the dead letter say of it; of a group, what its members say."""
    match error:
        case WouldDeadlock():
            kind = DEADLOCK
        case PayloadTooLarge():
            kind = TOO_LARGE
        case _:
            kind = DEFECT
    return failure(kind, "; ".join(dict.fromkeys(_said(error))))


def _said(error: BaseException) -> Iterator[str]:
    if isinstance(error, BaseExceptionGroup):
        for inner in cast(BaseExceptionGroup[BaseException], error).exceptions:
            yield from _said(inner)
    else:
        yield f"{type(error).__name__}: {error}"
