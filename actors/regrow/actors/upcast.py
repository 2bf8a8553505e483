"""Upcasters: plain functions that read an older form of an event, a message or a state as the next newer one.

    @upcast(Added, "Added.v1")                  # class Added(Event, tag="Added.v2")
    def from_v1(old: dict[str, Any]) -> dict[str, Any]:
        return {"cents": old["euros"] * 100}

    @upcast(Counter, 1)                         # class Counter(Actor, version=2)
    def from_1(old: dict[str, Any]) -> dict[str, Any]:
        return {"cents": old["euros"] * 100}

They hang on the class that they lead to, so that whoever reads that class finds them. The log keeps the old bytes; an upcaster
runs whenever they are read, so it must give the same for the same: no clock, no chance, no I/O. A field with a default that was
added since needs none.
"""

import inspect
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Protocol, TypeVar, cast, overload

import msgspec

from regrow.actors.errors import DefinitionError
from regrow.actors.message import TAG_FIELD, Event, Message, tag_of
from regrow.bus import Undecodable, encode

Fields = dict[str, Any]
F = TypeVar("F", bound=Callable[[Fields], Fields])

_HUNG = "__regrow_upcasters__"


class Stateful(Protocol):
    """A class of durable actors, as far as its upcasters are concerned."""

    __regrow__: ClassVar[Any]


class Upcaster(msgspec.Struct, frozen=True):
    """One step from an older form to the next."""

    old: str | int
    """A tag, or the version of a state."""
    to: str | int
    said: bool
    """Whether its author said where it leads."""
    function: Callable[[Fields], Fields]

    @property
    def name(self) -> str:
        """The function's name, for messages."""
        return getattr(self.function, "__qualname__", repr(self.function))

    def read(self, fields: Fields, what: str) -> Fields:
        """The newer fields. Raises ``Undecodable`` when the function raises, or returns what is no dict of JSON values."""
        try:
            newer = cast(Any, self.function(fields))
            encode(newer)
        except (
            Exception
        ) as error:  # a user's function at the edge of the log: the bytes cannot be read, whatever it raised
            raise Undecodable(what, f"the upcaster {self.name} failed on {self.old!r}: {error!r}") from error
        if not isinstance(newer, dict):
            raise Undecodable(
                what,
                f"the upcaster {self.name} returned {type(newer).__name__} for {self.old!r}; it must return a dict",
            )
        return cast(Fields, newer)


@overload
def upcast(kind: type[Event] | type[Message[Any]], old: str, *, to: str | None = None) -> Callable[[F], F]: ...
@overload
def upcast(kind: type[Stateful], old: int) -> Callable[[F], F]: ...
def upcast(kind: type[Any], old: str | int, *, to: str | None = None) -> Callable[[F], F]:
    """Reads an older form of ``kind``: the decorated function takes the old fields, without ``type``, and returns the newer ones.

    For an event or a message ``old`` is the tag that it had, also under another class name. ``to`` is the tag of the form that
    comes out: by default the class's own, or an older one that has an upcaster itself. A class with several upcasters says
    ``to`` at each, so that one written for "Added.v2" is never taken for "Added.v3". For an actor ``old`` is the version of
    its state, and what comes out is the next version. Where the actor is ``persist="fields"``, its upcasters are also given
    the fields of one change alone.

    Raises ``DefinitionError`` for a form that is current, a second upcaster of one form, a cycle, or an async function.
    """

    def declare(function: F) -> F:
        upcaster = _checked(kind, old, to, function)
        known = upcasters_of(kind)
        if old in known:
            raise DefinitionError(
                f"{kind.__name__}: both {known[old].name} and {upcaster.name} read {old!r}; keep one upcaster"
            )
        _check_course(kind, {**known, old: upcaster}, upcaster)
        if _HUNG not in vars(kind):
            setattr(kind, _HUNG, {})
        vars(kind)[_HUNG][old] = upcaster
        return function

    return declare


def upcasters_of(kind: type) -> dict[str | int, Upcaster]:
    """What hangs on this very class, by the form that it reads; a class below another one inherits none."""
    hung: dict[str | int, Upcaster] = vars(kind).get(_HUNG, {})
    return hung


def readers(kinds: Iterable[type], tag: str) -> list[Upcaster]:
    """The upcasters that read this tag among those of these classes: one, none, or by mistake several."""
    return [hung[tag] for kind in kinds if tag in (hung := upcasters_of(kind))]


def upcast_tagged(fields: Fields, tag: str, kinds: Iterable[type], current: set[str], what: str) -> Fields:
    """The fields of an older form, ``type`` among them, in a current one. Raises ``Undecodable``, each time with one sentence."""
    kinds = tuple(kinds)
    fields = {name: value for name, value in fields.items() if name != TAG_FIELD}
    passed = [tag]
    while tag not in current:
        upcaster = _only(readers(kinds, tag), passed, what)
        fields = upcaster.read(fields, what)
        tag = str(upcaster.to)
        if tag in passed:
            raise Undecodable(what, f"the upcasters run in a circle: {' -> '.join((*passed, tag))}")
        if fields.get(TAG_FIELD, tag) != tag:
            raise Undecodable(
                what, f"the upcaster {upcaster.name} returned {fields[TAG_FIELD]!r} as type, but leads to {tag!r}"
            )
        passed.append(tag)
    return {**fields, TAG_FIELD: tag}


def upcast_state(fields: Fields, version: int, kind: type[Stateful], current: int, what: str) -> Fields:
    """State of an older version, or some fields of it, in the current one. Raises ``Undecodable``, each time with one sentence."""
    if version > current:
        raise Undecodable(
            what, f"it is of version {version}, and this build reads up to {current}; run the build that wrote it"
        )
    hung = upcasters_of(kind)
    for older in range(version, current):
        if older not in hung:
            raise Undecodable(what, f"no upcaster reads version {older}; write @upcast({kind.__name__}, {older})")
        fields = hung[older].read(fields, what)
    return fields


def _only(found: list[Upcaster], passed: list[str], what: str) -> Upcaster:
    if not found:
        raise Undecodable(what, f"{' -> '.join(passed)} leads no further: no upcaster reads {passed[-1]!r}")
    if len(found) > 1:
        raise Undecodable(what, f"both {found[0].name} and {found[1].name} read {passed[-1]!r}; keep one upcaster")
    return found[0]


def _checked(kind: Any, old: str | int, to: str | None, function: Callable[[Fields], Fields]) -> Upcaster:
    """The upcaster, where it may exist."""
    name = getattr(kind, "__name__", repr(kind))
    if inspect.iscoroutinefunction(function):
        raise DefinitionError(f"the upcaster {function.__qualname__} is async: make it a plain function")
    if isinstance(kind, type) and issubclass(kind, (Event, Message)):
        return _of_tag(kind, old, to, function)
    definition = vars(kind).get("__regrow__") if isinstance(kind, type) else None
    if definition is None:
        raise DefinitionError(f"@upcast takes an Event, a Message or an Actor class, and {name} is none")
    if not isinstance(old, int) or to is not None:
        raise DefinitionError(f"an upcaster of {name} takes the version that it reads, and leads to the next one")
    if not 1 <= old < definition.version:
        raise DefinitionError(
            f"{name} is of version {definition.version}, so an upcaster of version {old} would never run; "
            f"its state was older when it was 1 to {definition.version - 1}"
            if definition.version > 1
            else f"{name} is of version 1: there is no older state; say class {name}(Actor, version=2)"
        )
    return Upcaster(old, old + 1, True, function)


def _of_tag(kind: Any, old: str | int, to: str | None, function: Callable[[Fields], Fields]) -> Upcaster:
    current = tag_of(kind)
    if not isinstance(old, str):
        raise DefinitionError(f"an upcaster of {kind.__name__} takes the older tag that it reads, not {old!r}")
    if old == current:
        raise DefinitionError(f"{old!r} is the tag of {kind.__name__} today: an upcaster reads an older one")
    return Upcaster(old, current if to is None else to, to is not None, function)


def _check_course(kind: type, known: dict[str | int, Upcaster], added: Upcaster) -> None:
    """Whether the upcasters of one class lead anywhere, and each says where once there are several."""
    unsaid = next((each for each in known.values() if not each.said), None)
    if unsaid is not None and len(known) > 1:
        raise DefinitionError(
            f"{kind.__name__} has several upcasters, so {unsaid.name} must say which form comes out: "
            f"@upcast({kind.__name__}, {unsaid.old!r}, to=…)"
        )
    at = added.to
    while at != added.old:
        if at not in known:
            return
        at = known[at].to
    raise DefinitionError(f"{kind.__name__}: the upcaster {added.name} of {added.old!r} closes a circle")
