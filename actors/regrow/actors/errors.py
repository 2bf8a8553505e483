"""What can go wrong with actors, named by what the caller should conclude."""

import msgspec


class ActorError(Exception):
    """The root of this package's errors."""


class DefinitionError(ActorError, TypeError):
    """An actor, message, event or tool is written in a way that could not work; raised when the class is made."""


class StateChangedOutsideEvent(ActorError, AttributeError):
    """A handler assigned state directly, which the log would not know of."""

    def __init__(self, actor: str, field: str) -> None:
        super().__init__(
            f"{actor}.{field} is state: it may change only in an @event method; emit an event that changes it"
        )
        self.actor = actor
        self.field = field


class FoldDiffers(ActorError):
    """State was changed in place outside an event: folding the log gives another state than the actor has."""

    def __init__(self, actor: str, held: str, folded: str) -> None:
        super().__init__(
            f"the state of {actor} is not the fold of its events: it holds {held}, its log gives {folded}; "
            "change state only in @event methods, and there only by what the event carries"
        )
        self.actor = actor


class Refused(ActorError):
    """A handler says no. The caller gets this as the reply; it is recorded, nothing restarts, nothing is retried.

    A turn that refuses decides nothing else: what it has emitted and sent before is dropped.

    ``raise Refused("no funds", balance=3)``: the keywords travel to the caller as ``data`` and must be JSON.
    """

    def __init__(self, message: str, **data: object) -> None:
        super().__init__(message)
        self.message = message
        self.data = data


class AskFailed(ActorError):
    """The actor could not answer: its handler failed for good, or the message does not fit it."""

    def __init__(self, kind: str, code: int, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.code = code
        self.message = message


class AskTimeout(ActorError, TimeoutError):
    """No reply within the deadline. The message may still be handled: of a durable actor in any case, of a
    ``LocalActor`` when it was being handled already."""

    def __init__(self, actor: str, timeout_s: float) -> None:
        super().__init__(f"{actor} did not answer within {timeout_s:g} s; the message may still be handled")
        self.actor = actor
        self.timeout_s = timeout_s


class ActorStopped(ActorError):
    """The actor was stopped, or failed more often than it may be restarted: it takes no messages any more."""

    def __init__(self, actor: str, why: str) -> None:
        super().__init__(f"{actor} is stopped: {why}")
        self.actor = actor
        self.why = why


class WouldDeadlock(ActorError):
    """An ask to an actor that itself waits for the asker."""

    def __init__(self, actor: str, chain: tuple[str, ...]) -> None:
        super().__init__(
            f"asking {actor} would never end: it waits for this ask ({' -> '.join((*chain, actor))}); send instead"
        )
        self.actor = actor
        self.chain = chain


class StepFailed(ActorError):
    """A step ended in an error its tool does not declare; the same, live and replayed."""

    def __init__(self, kind: str, error: str, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(f"{error}: {message}")
        self.kind = kind
        """What it means: ``network``, ``throttled``, ``rejected`` …, see docs/failures.md."""
        self.error = error
        """The exception's class name."""
        self.message = message
        self.retry_after_s = retry_after_s
        """How long the other side asked to wait, seconds; None where it did not."""


class OutcomeUnknown(ActorError):
    """A step that may run only once was begun, and nobody knows how it ended: it does not run again.

    The process died meanwhile, or the tool agent that ran it did not answer, or an earlier attempt at the turn was cancelled in
    it. Look it up, by the step's idempotency key where the other side knows it, or give the tool a ``verify=`` that does.
    """

    def __init__(self, tool: str, key: str, why: str) -> None:
        super().__init__(
            f"{tool} may run only once, was begun, and its outcome is unknown: {why}; it will not run again"
        )
        self.tool = tool
        self.key = key
        """Of the step."""
        self.why = why


class NotDone(ActorError):
    """For a tool's ``verify=`` to raise: the call has taken no effect, so it is safe to make it."""


class NotApproved(ActorError):
    """A tool with ``approve=True`` did not run: whoever was asked said no."""

    def __init__(self, tool: str) -> None:
        super().__init__(f"{tool} was not approved and did not run")
        self.tool = tool


class AmbiguousStep(ActorError):
    """Two tasks of one handler made the same call at once; a replay could not tell their answers apart."""

    def __init__(self, tool: str, key: str = "") -> None:
        if tool == "ask":
            equal, cure = "with the same message to the same actor", "ask once, or make the messages differ"
        elif key:
            equal, cure = f"with key={key!r}", "give each task a key of its own"
        else:
            equal = "with equal arguments"
            cure = (
                f'write {tool}.using(key="left")(...) in one and {tool}.using(key="right")(...) in the other, '
                f'or key="left" and key="right" in step({tool!r}, ...); or declare it @tool(pure=True) if it has no effect'
            )
        super().__init__(f"{tool} is called {equal} in two tasks at once, which a replay could not tell apart: {cure}")
        self.tool = tool
        self.key = key


class Drift(ActorError):
    """The handler no longer takes the way its recorded steps tell of."""

    def __init__(self, actor: str, wanted: str, recorded: str, why: str) -> None:
        super().__init__(
            f"{actor} has drifted from its recorded steps: {why}; the code changed under an unfinished turn, or a handler "
            'decides by something that is not a step: run the build that recorded them, or set on_drift="run"'
        )
        self.actor = actor
        self.wanted = wanted
        """The key of the step that ran; empty where none did."""
        self.recorded = recorded
        """The key of the recorded step that was not asked for again."""
        self.why = why
        """What differs: the tools, or the path of the argument with both values."""


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """A failure as data: the body of a failed ask and the recorded outcome of a failed step."""

    kind: str
    code: int
    message: str
    type: str = ""
    data: dict[str, object] = {}
    args: list[object] = []
    retry_after_s: float | None = None
    """How long the other side asked to wait, seconds."""


REFUSED = "refused"
DEFECT = "defect"
TIMEOUT = "timeout"
UNKNOWN = "unknown"
UNDECODABLE = "undecodable"
DEADLOCK = "deadlock"
DRIFT = "drift"
CORRUPT = "corrupt"
STORE = "store"
BUSY = "busy"
TOO_LARGE = "too_large"
FORBIDDEN = "forbidden"
POISON = "poison"
OUTCOME_UNKNOWN = "outcome_unknown"
NOT_DONE = "not_done"
LATE = "late"
DELETED = "deleted"
CANCELLED = "cancelled"

CODES = {
    UNDECODABLE: 400,
    UNKNOWN: 404,
    REFUSED: 409,
    FORBIDDEN: 403,
    LATE: 408,
    DELETED: 410,
    TOO_LARGE: 413,
    BUSY: 429,
    CANCELLED: 499,
    DEFECT: 500,
    DRIFT: 500,
    CORRUPT: 500,
    POISON: 500,
    OUTCOME_UNKNOWN: 500,
    NOT_DONE: 500,
    STORE: 503,
    TIMEOUT: 504,
    DEADLOCK: 508,
}
"""The service error code that goes with each kind of failure."""


def failure(kind: str, message: str, **data: object) -> Failure:
    """A failure of a known kind, with its code."""
    return Failure(kind, CODES[kind], message, data=data)


def raise_failure(failed: Failure) -> None:
    """Raises what a caller sees of a failed ask: ``Refused`` with its data, or ``AskFailed``."""
    if failed.kind == REFUSED:
        raise Refused(failed.message, **failed.data)
    raise AskFailed(failed.kind, failed.code, failed.message)
