"""Steps: outside calls of a handler, each recorded once before the handler sees its outcome."""

import time
from collections.abc import Awaitable, Callable, Iterable
from contextvars import Context, ContextVar
from hashlib import blake2b
from typing import Any, Protocol, TypeVar, cast

import msgspec

from regrow.actors.arguments import NOT_JSON, encode_arguments, not_json
from regrow.actors.cache import Cache
from regrow.actors.classifier import Classifier, classify
from regrow.actors.errors import (
    DEFECT,
    NOT_DONE,
    OUTCOME_UNKNOWN,
    TIMEOUT,
    AskTimeout,
    Failure,
    OutcomeUnknown,
    StepFailed,
)
from regrow.actors.lineage import track_again, untrack, untracked_by
from regrow.actors.records import Origin, Outcome, Step
from regrow.actors.retry import DECLARED, NO_RETRY, Retry
from regrow.actors.shared import PORT as SHARED
from regrow.actors.shared import SharedResults
from regrow.bus import Undecodable, decode, encode


class StepContext(msgspec.Struct, frozen=True, gc=False):
    """What a tool's body may know of the step it runs for."""

    actor: str
    """``kind/key`` of the actor whose turn asks."""
    key: str
    """The step's key, the same on every attempt and after every crash, and no other step of the turn has it."""
    attempt: int = 1
    """Which attempt of the tool's ``Retry`` this is, from 1; one that a crash cut off runs again under its number."""
    message: str = ""
    """The id of the message whose turn asks."""

    @property
    def idempotency_key(self) -> str:
        """What to give to another system, so that it does the same call once however often it is made.

        32 hexadecimal digits: the same on every attempt, after every crash, and in every attempt at the turn; no other step, of
        whatever actor and message, has them. A message of the outside that comes again under its id has the same.
        """
        return blake2b(f"{self.actor}\n{self.message}\n{self.key}".encode(), digest_size=16).hexdigest()


T = TypeVar("T")

_OWN = (DECLARED, NOT_DONE, OUTCOME_UNKNOWN)
"""Kinds of failure that the runtime alone may say."""
_EXACT: frozenset[Any] = frozenset({str, int, bool, bytes, type(None)})
"""Types whose values all come back from JSON as they are."""


class Care(msgspec.Struct, frozen=True):
    """What is done about a step beside running it and recording its outcome."""

    retry: Retry
    once: bool = False
    """It never runs again where it may have run."""
    verify: Callable[[StepContext], Awaitable[Outcome]] | None = None
    """Finds out how such a run ended: its result, or a failure of the kind ``not_done``."""


class Call(msgspec.Struct, frozen=True, gc=False):
    """A call that wants to be a step."""

    tool: str
    arguments: bytes
    """JSON as it is recorded, and part of the step's identity where there is no ``key``."""
    run: Callable[[StepContext], Awaitable[Outcome]]
    """One attempt."""
    pure: bool = False
    key: str = ""
    """What identifies it in place of its arguments."""
    care: Care | None = None


class Stepping(Protocol):
    """A running handler, as far as its steps are concerned."""

    def step(self, call: Call) -> Awaitable[Outcome]: ...
    def remote_tool(self, name: str) -> Any: ...
    def port(self, name: str) -> Any: ...


_handler: ContextVar[Stepping | None] = ContextVar("regrow_handler", default=None)


def current_handler(context: Context | None = None) -> Stepping | None:
    """The handler that runs here, or in that context; None inside a step of it, where tools are plain functions."""
    if type(untracked_by(context)) is StepContext:
        return None
    return _handler.get() if context is None else context.get(_handler)


def serve(handler: Stepping, context: Context) -> None:
    """From now on what runs in this context runs in this handler."""
    context.run(_handler.set, handler)


def current_step() -> StepContext | None:
    """The step for which the running tool body was called; None when the tool was called as a plain function."""
    found = untracked_by()
    return found if isinstance(found, StepContext) else None


async def in_step(context: StepContext, body: Callable[[StepContext], Awaitable[T]]) -> T:
    """Runs a tool's body for a step: tools that it calls are plain functions, for steps are leaves, and its tasks are its own."""
    lineage = untrack(context)
    try:
        return await body(context)
    finally:
        track_again(lineage)


def sharing(
    handler: Stepping,
    cache: Cache,
    what: str,
    arguments: bytes,
    returns: Any,
    run: Callable[[StepContext], Awaitable[Outcome]],
) -> Callable[[StepContext], Awaitable[Outcome]]:
    """The same attempt, behind a look into the application's cache."""

    async def shared(context: StepContext) -> Outcome:
        results: SharedResults = handler.port(SHARED)
        origin = Origin(context.actor, context.key, time.time_ns() // 1_000_000)
        name = cache.name(what, arguments, context.actor)
        return await results.outcome(
            name, cache, origin, lambda: run(context), lambda found: checked(found, returns, what).failure is None
        )

    return shared


def value_of(outcome: Outcome, kind: Any, what: str, raises: tuple[type[Exception], ...] = ()) -> Any:
    """A step's result as its type, or its failure raised: a declared exception, else ``StepFailed``."""
    failed = outcome.failure
    if failed is not None:
        for declared in raises:
            if declared.__name__ == failed.type and failed.kind == DECLARED:
                raise _rebuilt(declared, failed)
        if failed.kind == OUTCOME_UNKNOWN:
            raise OutcomeUnknown(*(str(each) for each in failed.args))
        raise StepFailed(failed.kind, failed.type, failed.message, failed.retry_after_s)
    return decode(outcome.value or msgspec.Raw(b"null"), kind, f"result of {what}")


def outcome_of(result: object, kind: Any, what: str) -> Outcome:
    """A body's result as the outcome to record: a failure where it is no JSON, or no replay could read it as its type."""
    try:
        value = encode(result)
    except NOT_JSON as error:
        return _misfit(f"the result of {what} cannot be recorded: {not_json(result, error)}")
    if type(result) is kind and kind in _EXACT:
        return Outcome(msgspec.Raw(value))
    return checked(Outcome(msgspec.Raw(value)), kind, what)


def checked(outcome: Outcome, kind: Any, what: str) -> Outcome:
    """The same outcome, or a failure that names where its value does not fit the type."""
    if outcome.failure is None:
        try:
            decode(outcome.value, kind)
        except Undecodable as error:
            return _misfit(f"the result of {what} is not what it declares: {error.why}")
    return outcome


def _misfit(message: str) -> Outcome:
    return Outcome(failure=Failure(DEFECT, 500, message, type="TypeError"))


def failure_of(error: Exception, raises: tuple[type[Exception], ...], means: Classifier = classify) -> Failure:
    """An exception of a tool's body as data; the arguments of a declared one go along, for it is raised again from them.

    One of a class below a declared one is raised as the declared one: the handler need not know more.
    """
    for declared in (type(error), *raises):
        if declared in raises and isinstance(error, declared) and _is_json(error.args):
            return Failure(DECLARED, 500, str(error), type=declared.__name__, args=list(error.args))
    found = means(error)
    kind = DEFECT if found.kind in _OWN else found.kind
    return Failure(kind, 500, str(error), type=type(error).__name__, retry_after_s=found.retry_after_s)


def _is_json(value: object) -> bool:
    try:
        encode(value)
    except (TypeError, ValueError, msgspec.MsgspecError):
        return False
    return True


def _rebuilt(declared: type[Exception], failed: Failure) -> Exception:
    """The exception made again from its arguments; where its class wants others, one that says the same."""
    try:
        return declared(*failed.args)
    except TypeError:
        return StepFailed(failed.kind, failed.type, failed.message)


def steps_behind(error: BaseException, steps: Iterable[Step]) -> tuple[str, ...]:
    """Keys of the recorded steps whose failure this exception is, or one in this group: it left the handler as it came.

    None of a step that may run only once: its failure stays, for it must not run again.
    """
    if isinstance(error, BaseExceptionGroup):
        group = cast(BaseExceptionGroup[BaseException], error)
        return tuple(key for inner in group.exceptions for key in steps_behind(inner, steps))
    failed = [(step.key, step.outcome.failure) for step in steps if step.outcome.failure is not None and not step.once]
    return tuple(key for key, failure in failed if _is(error, failure))


def _is(error: BaseException, failed: Failure) -> bool:
    if isinstance(error, StepFailed):
        return (failed.kind, failed.type, failed.message) == (error.kind, error.error, error.message)
    return isinstance(error, AskTimeout) and failed.kind == TIMEOUT


async def step(
    name: str,
    arguments: object,
    body: Callable[[], Awaitable[Any]],
    returns: Any,
    *,
    pure: bool = False,
    key: str = "",
    retry: Retry = NO_RETRY,
    cache: Cache | None = None,
) -> Any:
    """The result of any outside call, made a step of the running handler; outside a handler the call is just made.

    ``name`` and ``arguments`` (JSON) identify it, or ``name`` and ``key`` where one is given: equal calls that are open in two
    tasks at once need one each. ``returns`` is the type of its recorded result; one that does not fit it is a failure. Whatever
    the body raises reaches the handler as ``StepFailed``, after ``retry``, by default at once; an exception with a ``kind``
    attribute keeps its kind of failure. ``cache``: equal calls share one result; see ``Cache``.
    """
    handler = current_handler()
    if handler is None:
        return await body()

    async def run(context: StepContext) -> Outcome:
        try:
            result = await body()
        except Exception as error:  # the edge between a user's call and the runtime: its failure becomes data
            return Outcome(failure=failure_of(error, (), retry.classifier))
        return outcome_of(result, returns, name)

    care = Care(retry) if retry.attempts > 1 else None
    given = encode_arguments(arguments, name)
    if cache is not None:
        cache.check(name)
        call = Call(name, given, sharing(handler, cache, name, given, returns, run), True, key, care)
    else:
        call = Call(name, given, run, pure, key, care)
    return value_of(await handler.step(call), returns, name)
