"""Steps: outside calls of a handler, each recorded once before the handler sees its outcome."""

from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar, cast

import msgspec

from regrow.actors.errors import TIMEOUT, AskTimeout, Failure, StepFailed
from regrow.actors.lineage import track_again, untrack
from regrow.actors.records import Outcome, Step
from regrow.bus import decode, encode


class StepContext(msgspec.Struct, frozen=True):
    """What a tool's body may know of the step it runs for."""

    actor: str
    """``kind/key`` of the actor whose turn asks."""
    key: str
    """The step's key, the same on every attempt and after every crash: an idempotency key within the actor's turn."""
    attempt: int = 1


T = TypeVar("T")

DECLARED = "declared"
"""The kind of a failure that the tool announces in ``raises``."""


class Call(msgspec.Struct, frozen=True):
    """A call that wants to be a step."""

    tool: str
    arguments: bytes
    """JSON, part of the step's identity and of its record."""
    run: Callable[[StepContext], Awaitable[Outcome]]
    pure: bool = False


class Stepping(Protocol):
    """A running handler, as far as its steps are concerned."""

    async def step(self, call: Call) -> Outcome: ...
    def remote_tool(self, name: str) -> Any: ...


current_handler: ContextVar[Stepping | None] = ContextVar("regrow_handler", default=None)
_current_step: ContextVar[StepContext | None] = ContextVar("regrow_step", default=None)


def current_step() -> StepContext | None:
    """The step for which the running tool body was called; None when the tool was called as a plain function."""
    return _current_step.get()


async def in_step(context: StepContext, body: Callable[[], Awaitable[T]]) -> T:
    """Runs a tool's body for a step: tools that it calls are plain functions, for steps are leaves, and its tasks are its own."""
    handler, step, lineage = current_handler.set(None), _current_step.set(context), untrack()
    try:
        return await body()
    finally:
        track_again(lineage)
        _current_step.reset(step)
        current_handler.reset(handler)


def value_of(outcome: Outcome, kind: Any, what: str, raises: tuple[type[Exception], ...] = ()) -> Any:
    """A step's result as its type, or its failure raised: a declared exception, else ``StepFailed``."""
    failed = outcome.failure
    if failed is not None:
        for declared in raises:
            if declared.__name__ == failed.type and failed.kind == DECLARED:
                raise _rebuilt(declared, failed)
        raise StepFailed(failed.kind, failed.type, failed.message)
    return decode(outcome.value or msgspec.Raw(b"null"), kind, f"result of {what}")


def failure_of(error: Exception, raises: tuple[type[Exception], ...]) -> Failure:
    """An exception of a tool's body as data; the arguments of a declared one go along, for it is raised again from them.

    One of a class below a declared one is raised as the declared one: the handler need not know more.
    """
    for declared in (type(error), *raises):
        if declared in raises and isinstance(error, declared) and _is_json(error.args):
            return Failure(DECLARED, 500, str(error), type=declared.__name__, args=list(error.args))
    kind = getattr(error, "kind", "defect")
    return Failure(str(kind), 500, str(error), type=type(error).__name__)


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
    """Keys of the recorded steps whose failure this exception is, or one in this group: it left the handler as it came."""
    if isinstance(error, BaseExceptionGroup):
        group = cast(BaseExceptionGroup[BaseException], error)
        return tuple(key for inner in group.exceptions for key in steps_behind(inner, steps))
    return tuple(step.key for step in steps if step.outcome.failure is not None and _is(error, step.outcome.failure))


def _is(error: BaseException, failed: Failure) -> bool:
    if isinstance(error, StepFailed):
        return (failed.kind, failed.type, failed.message) == (error.kind, error.error, error.message)
    return isinstance(error, AskTimeout) and failed.kind == TIMEOUT


async def step(
    name: str, arguments: object, body: Callable[[], Awaitable[Any]], returns: Any, *, pure: bool = False
) -> Any:
    """The result of any outside call, made a step of the running handler; outside a handler the call is just made.

    ``name`` and ``arguments`` (JSON) identify it, ``returns`` is the type of its recorded result. Whatever the body raises
    reaches the handler as ``StepFailed``; an exception with a ``kind`` attribute keeps its kind of failure.
    """
    handler = current_handler.get()
    if handler is None:
        return await body()

    async def run(context: StepContext) -> Outcome:
        try:
            return Outcome(value=msgspec.Raw(encode(await body())))
        except Exception as error:  # the edge between a user's call and the runtime: its failure becomes data
            return Outcome(failure=failure_of(error, ()))

    return value_of(await handler.step(Call(name, encode(arguments), run, pure)), returns, name)
