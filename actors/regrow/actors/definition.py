"""What a class of actors is, compiled once when the class is made: its kind, its state, its handlers, its decoders."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, cast, get_args, get_origin, get_type_hints

import msgspec

from regrow.actors.errors import DefinitionError
from regrow.actors.handler import Handler, handlers_of
from regrow.actors.message import Event, Message
from regrow.actors.tagged import Tagged
from regrow.actors.upcast import upcast_state
from regrow.bus import Undecodable, check_name, decode, encode

Persist = Literal["events", "fields"]
"""What the log records of a turn: the events that it emitted, or the fields that it left changed."""


class Definition:
    """The compiled form of an actor class."""

    def __init__(
        self,
        cls: type,
        kind: str | None,
        namespace: Mapping[str, Any],
        *,
        version: int = 1,
        persist: str = "events",
    ) -> None:
        self.name = cls.__name__
        self.version = _checked_version(cls, version)
        """The version of the state, which goes into every snapshot beside it."""
        self.persist = _checked_persist(cls, persist)
        self._cls: Any = cls
        self.kind = _checked_kind(cls, kind or snake_case(cls.__name__))
        self.state_type = _state_type(cls, namespace)
        self.fields = self.state_type.__struct_fields__
        handlers = handlers_of(cls, namespace)
        self.commands = {each.accepts: each for each in handlers if each.role == "command"}
        self.queries = {each.accepts: each for each in handlers if each.role == "query"}
        self.events = {each.accepts: each for each in handlers if each.role == "event"}
        self._messages = Tagged(
            self.name, (*self.commands, *self.queries), f"message to {self.kind}", self._unknown_message
        )
        self._events = Tagged(self.name, self.events, f"event of {self.kind}", self._unknown_event)
        if self.persist == "fields":
            self._check_no_events()

    def handler(self, message: Message[Any]) -> Handler:
        """The command or query that handles a message. Raises ``DefinitionError`` when there is none."""
        handler = self.commands.get(type(message)) or self.queries.get(type(message))
        if handler is None:
            raise DefinitionError(f"{self.name} has no handler for {type(message).__name__}; {self._accepted()}")
        return handler

    def decode_message(self, body: bytes) -> Message[Any]:
        """The message in these bytes. Raises ``UnknownType`` or ``Undecodable``, each with one clear sentence."""
        known = self._messages
        if known.union is None:
            raise UnknownType(f"{self.kind} accepts no messages")
        try:
            message: Message[Any] = decode(body, known.union, known.what)
        except Undecodable as error:
            message = known.older(body, error)
        return message

    def decode_event(self, data: msgspec.Raw) -> Event:
        """The event in these bytes. Raises ``Undecodable`` when this build does not know it."""
        known = self._events
        if known.union is None:
            raise Undecodable(known.what, f"{self.name} has no @event method")
        try:
            fact: Event = decode(data, known.union, known.what)
        except Undecodable as error:
            fact = known.older(data, error)
        return fact

    def decode_state(self, data: msgspec.Raw, version: int | None = None) -> msgspec.Struct:
        """The state in these bytes; ``version`` is that of the build that wrote them, without one it is this build's.

        A field that the class does not have is an error too: its value would be lost with the next snapshot. Raises
        ``Undecodable`` when the state no longer fits the class.
        """
        what = f"state of {self.kind}"
        try:
            return decode(self.current_fields(data, version), self.state_type, what)
        except Undecodable as error:
            if version is None or version == self.version:
                raise
            raise Undecodable(what, f"{error.why} (recorded by version {version}, this is {self.version})") from error

    def current_fields(self, data: msgspec.Raw, version: int | None = None) -> msgspec.Raw:
        """The fields of a state, all or some, as this build calls them. Raises ``Undecodable``."""
        if version is None or version == self.version:
            return data
        what = f"state of {self.kind}"
        fields = decode(data, dict[str, Any], what)
        return msgspec.Raw(encode(upcast_state(fields, version, self._cls, self.version, what)))

    def fresh_state(self) -> msgspec.Struct:
        """The state of an actor that has no log yet; nothing in it is shared with another one."""
        return self.decode_state(msgspec.Raw(encode(self.state_type())))

    def check_state(self) -> None:
        """Raises ``DefinitionError`` when the defaults cannot be recorded and read again."""
        try:
            initial = self.state_type()
            same = self.fresh_state() == initial
        except (TypeError, ValueError, Undecodable) as error:
            raise DefinitionError(f"the state of {self.name} cannot be recorded: {error}") from None
        if not same:
            raise DefinitionError(f"the state of {self.name} does not come back from JSON as it was: {initial}")

    def _check_no_events(self) -> None:
        for handler in self.events.values():
            raise DefinitionError(
                f'{self.name}.{handler.name} is an @event, but {self.name} is persist="fields": assign its fields in commands'
            )

    def _unknown_message(self, tag: str) -> Undecodable:
        return UnknownType(f"{self.kind} knows no message {tag!r}; {self._accepted()}")

    def _unknown_event(self, tag: str) -> Undecodable:
        why = f"{self.name} has neither an @event method for {tag!r} nor an upcaster that reads it"
        return Undecodable(f"event of {self.kind}", why)

    def _accepted(self) -> str:
        return f"it accepts {', '.join(sorted(self._messages.tags)) or 'none'}"


class UnknownType(Undecodable):
    """The ``type`` of a message is none that the actor handles."""

    def __init__(self, why: str) -> None:
        super().__init__("message", why)


def definition_of(kind: Any) -> Definition:
    """What an actor class is. Raises ``DefinitionError`` for anything that is no class derived from ``Actor``."""
    definition: object = getattr(kind, "__regrow__", None)
    if not isinstance(kind, type) or not isinstance(definition, Definition):
        raise DefinitionError(f"{kind!r} is no actor class: pass the class itself, and derive it from Actor")
    return definition


def snake_case(name: str) -> str:
    """``TripPlanner`` as ``trip_planner``, ``HTTPProbe`` as ``http_probe``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _checked_kind(cls: type, kind: str) -> str:
    try:
        return check_name("the kind", kind)
    except ValueError as error:
        raise DefinitionError(f"{cls.__name__}: {error}") from None


def _checked_version(cls: type, version: object) -> int:
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise DefinitionError(f"{cls.__name__}: the version of its state is a whole number from 1, not {version!r}")
    return version


def _checked_persist(cls: type, persist: object) -> Persist:
    if persist not in get_args(Persist):
        raise DefinitionError(f'{cls.__name__}: persist is "events" or "fields", not {persist!r}')
    return cast(Persist, persist)


def _state_type(cls: type, namespace: Mapping[str, Any]) -> type[msgspec.Struct]:
    """A struct with the annotated fields of the class; each needs a default, for an actor begins with an empty log."""
    try:
        hints = get_type_hints(cls, localns=dict(namespace), include_extras=True)
    except NameError as error:
        raise DefinitionError(
            f"{cls.__name__}: a field names {error.name!r}, which is not defined above the class"
        ) from None
    fields: list[tuple[str, Any, Any]] = []
    for name, kind in hints.items():
        if get_origin(kind) is ClassVar or kind is ClassVar or name.startswith("_"):
            continue
        if not hasattr(cls, name):
            raise DefinitionError(
                f"{cls.__name__}.{name} is state and needs a default: an actor begins with an empty log"
            )
        fields.append((name, kind, getattr(cls, name)))
    try:
        return msgspec.defstruct(
            f"{cls.__name__}State", fields, kw_only=True, forbid_unknown_fields=True, module=cls.__module__
        )
    except TypeError as error:
        raise DefinitionError(f"{cls.__name__}: {error}") from None
