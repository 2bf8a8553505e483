"""Handlers: the decorators that mark an actor's methods, and the checks that a class passes before it exists."""

import dis
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, cast, get_type_hints, overload

import msgspec

from regrow.actors.errors import DefinitionError
from regrow.actors.message import Event, Message, reply_type
from regrow.bus import Undecodable, decode, encode

F = TypeVar("F", bound=Callable[..., Any])

Role = Literal["command", "query", "event"]

_MARK = "__regrow_role__"
_CONSISTENT = "__regrow_consistent__"
_PLAIN = (int, str, bool)
"""Types whose values come back from JSON as they were."""
_SUSPENDING = frozenset({"GET_AWAITABLE", "GET_AITER", "BEFORE_ASYNC_WITH", "YIELD_VALUE", "SEND"})


def command(method: F) -> F:
    """Handles one message type, one at a time, in the order of the mailbox; may emit, call tools, ask, send and reply."""
    return _mark(method, "command")


@overload
def query(method: F, /) -> F: ...
@overload
def query(*, consistent: bool = ...) -> Callable[[F], F]: ...
def query(method: F | None = None, /, *, consistent: bool = False) -> F | Callable[[F], F]:
    """Answers one message type at once from the last committed state, also while a command runs; it may only read.

    The state may be older than the last commit by at most the lease time, 5 s, when another node has taken the actor over
    unnoticed. ``consistent=True``: the query waits in the mailbox like a command, and its answer is recorded before it is given,
    which only the node that has the actor can do.
    """

    def make(decorated: F) -> F:
        setattr(decorated, _CONSISTENT, consistent)
        return _mark(decorated, "query")

    return make if method is None else make(method)


def event(method: F) -> F:
    """Changes the state for one event type; runs when the event is emitted and again at every recovery, so nothing else."""
    return _mark(method, "event")


class Handler(msgspec.Struct, frozen=True):
    """A checked handler method."""

    role: Role
    name: str
    method: Callable[..., Any]
    accepts: type[Any]
    """The message or event class that it takes."""
    returns: Any
    """The type of the reply; None's type where there is none."""
    queued: bool = False
    """Whether its message goes through the mailbox: that of a command, and of a query that must be consistent."""
    straight: bool = False
    """Whether it never awaits anything: it needs no task of its own."""

    def reply(self, value: object) -> msgspec.Raw:
        """The JSON of what the handler returned. Raises ``DefinitionError`` when the caller could not read it as promised."""
        try:
            said = msgspec.Raw(encode(value))
            if type(value) is not self.returns or self.returns not in _PLAIN:
                decode(said, self.returns, "reply")
        except (TypeError, msgspec.MsgspecError, Undecodable) as error:
            raise DefinitionError(
                f"{self.method.__qualname__} returned {type(value).__name__}, but {self.accepts.__name__} is answered with "
                f"{_show(self.returns)}: {error}"
            ) from None
        return said


def handlers_of(cls: type, namespace: Mapping[str, Any]) -> list[Handler]:
    """The marked methods of a class and its bases, each checked. Raises ``DefinitionError`` with one clear sentence."""
    found: list[Handler] = []
    for name, method in inspect.getmembers(cls, inspect.isfunction):
        role = role_of(method)
        if role is not None:
            found.append(_check(cls, name, method, role, namespace))
    taken: dict[type, str] = {}
    for handler in found:
        other = taken.setdefault(handler.accepts, handler.name)
        if other != handler.name:
            raise DefinitionError(
                f"{cls.__name__}: both {other} and {handler.name} handle {handler.accepts.__name__}; keep one"
            )
    return found


def role_of(method: object) -> Role | None:
    """What a method was marked as; None when it was not."""
    role: Role | None = getattr(method, _MARK, None)
    return role


def _mark(method: F, role: Role) -> F:
    setattr(method, _MARK, role)
    return method


def _check(cls: type, name: str, method: Callable[..., Any], role: Role, namespace: Mapping[str, Any]) -> Handler:
    where = f"{cls.__name__}.{name}"
    hints = _hints(where, method, namespace)
    parameters = list(inspect.signature(method).parameters)
    wanted = Event if role == "event" else Message
    if len(parameters) != 2 or parameters[1] not in hints:
        raise DefinitionError(f"{where} must take self and one annotated {wanted.__name__}")
    accepts: Any = hints[parameters[1]]
    if not (isinstance(accepts, type) and issubclass(accepts, wanted)):
        raise DefinitionError(f"{where} takes {_show(accepts)}, which is no {wanted.__name__}; an @{role} takes one")
    if inspect.iscoroutinefunction(method) == (role == "event"):
        should = "a plain function, for it runs in the fold" if role == "event" else "async def"
        raise DefinitionError(f"{where} is an @{role}: make it {should}")
    expected: Any = type(None) if role == "event" else reply_type(cast(Any, accepts))
    returns = hints.get("return")
    if "return" not in hints or returns != expected:
        shown = _show(returns) if "return" in hints else "nothing annotated"
        raise DefinitionError(
            f"{where} returns {shown}, but {accepts.__name__} is answered with {_show(expected)}; annotate -> {_show(expected)}"
        )
    queued = role == "command" or getattr(method, _CONSISTENT, False)
    return Handler(role, name, method, cast(Any, accepts), returns, queued, _never_awaits(method))


def _never_awaits(method: Callable[..., Any]) -> bool:
    """Whether an ``async def`` has no await, no ``async for`` and no ``async with`` in it, by its compiled form."""
    code: types.CodeType | None = getattr(method, "__code__", None)
    return code is not None and not any(each.opname in _SUSPENDING for each in dis.get_instructions(code))


def _hints(where: str, method: Callable[..., Any], namespace: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return get_type_hints(method, localns=dict(namespace), include_extras=True)
    except NameError as error:
        raise DefinitionError(
            f"{where}: the annotation names {error.name!r}, which is not defined above the class"
        ) from None


def _show(kind: Any) -> str:
    if kind is type(None):
        return "None"
    return kind.__name__ if isinstance(kind, type) and not isinstance(kind, types.GenericAlias) else str(kind)
