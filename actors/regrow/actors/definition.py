"""What a class of actors is, compiled once when the class is made: its kind, its state, its handlers, its decoders."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Union, get_origin, get_type_hints

import msgspec

from regrow.actors.errors import DefinitionError
from regrow.actors.handler import Handler, handlers_of
from regrow.actors.message import TAG_FIELD, Event, Message, tag_of
from regrow.bus import Undecodable, check_name, decode, encode


class _Tagged(msgspec.Struct):
    tag: str = msgspec.field(name=TAG_FIELD, default="")


class Definition:
    """The compiled form of an actor class."""

    def __init__(self, cls: type, kind: str | None, namespace: Mapping[str, Any]) -> None:
        self.name = cls.__name__
        self.kind = _checked_kind(cls, kind or snake_case(cls.__name__))
        self.state_type = _state_type(cls, namespace)
        self.fields = self.state_type.__struct_fields__
        handlers = handlers_of(cls, namespace)
        self.commands = {each.accepts: each for each in handlers if each.role == "command"}
        self.queries = {each.accepts: each for each in handlers if each.role == "query"}
        self.events = {each.accepts: each for each in handlers if each.role == "event"}
        self._message_type = _union([*self.commands, *self.queries])
        self._event_type = _union(list(self.events))
        self._tags = {tag_of(kind) for kind in (*self.commands, *self.queries)}

    def handler(self, message: Message[Any]) -> Handler:
        """The command or query that handles a message. Raises ``DefinitionError`` when there is none."""
        handler = self.commands.get(type(message)) or self.queries.get(type(message))
        if handler is None:
            raise DefinitionError(f"{self.name} has no handler for {type(message).__name__}; {self._accepted()}")
        return handler

    def decode_message(self, body: bytes) -> Message[Any]:
        """The message in these bytes. Raises ``UnknownType`` or ``Undecodable``, each with one clear sentence."""
        if self._message_type is not None:
            try:
                message: Message[Any] = decode(body, self._message_type, f"message to {self.kind}")
            except Undecodable:
                self._check_tag(body)
                raise
            return message
        raise UnknownType(f"{self.kind} accepts no messages")

    def decode_event(self, data: msgspec.Raw) -> Event:
        """The event in these bytes. Raises ``Undecodable`` when this build does not know it."""
        if self._event_type is None:
            raise Undecodable(f"event of {self.kind}", f"{self.name} has no @event method")
        fact: Event = decode(data, self._event_type, f"event of {self.kind}")
        return fact

    def decode_state(self, data: msgspec.Raw) -> msgspec.Struct:
        """The state in these bytes. Raises ``Undecodable`` when it no longer fits the class."""
        return decode(data, self.state_type, f"state of {self.kind}")

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

    def _check_tag(self, body: bytes) -> None:
        tag = decode(body, _Tagged, f"message to {self.kind}").tag
        if tag not in self._tags:
            raise UnknownType(f"{self.kind} knows no message {tag!r}; {self._accepted()}")

    def _accepted(self) -> str:
        return f"it accepts {', '.join(sorted(self._tags)) or 'none'}"


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


def _union(kinds: list[type]) -> Any:
    return Union[tuple(kinds)] if kinds else None  # noqa: UP007 - the members are known only at run time


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
        return msgspec.defstruct(f"{cls.__name__}State", fields, kw_only=True, module=cls.__module__)
    except TypeError as error:
        raise DefinitionError(f"{cls.__name__}: {error}") from None
