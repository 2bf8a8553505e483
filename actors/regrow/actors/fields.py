"""``persist="fields"``: commands assign fields, and what a turn left changed is recorded as one built-in event.

    {"type": "FieldsChanged", "fields": {"total": 3}}

``version`` stands beside it where the state's is not 1. A change that an older version recorded goes through the actor's
upcasters like a whole state, with no more fields than it has; a name that the class does not have after that is an error.
"""

from typing import Any, ClassVar, Protocol

import msgspec

from regrow.actors.definition import Definition
from regrow.actors.errors import ActorError, DefinitionError, StateChangedOutsideEvent
from regrow.bus import Undecodable, decode, encode


class Holder(Protocol):
    """An actor, as far as its fields are concerned."""

    __regrow__: ClassVar[Definition]


class FieldsChanged(msgspec.Struct, frozen=True, omit_defaults=True, tag=True, tag_field="type"):
    """The built-in event: the new values of the fields that a turn changed."""

    fields: msgspec.Raw
    version: int = 1


class StateChangedOutsideCommand(StateChangedOutsideEvent):
    """A field was assigned where no turn would record it."""

    def __init__(self, actor: str, field: str) -> None:
        super().__init__(actor, field)
        self.args = (
            f"{actor}.{field} is state: assign it only in a running @command, not in a @query nor from outside",
        )


def changes(before: msgspec.Struct, after: Holder) -> msgspec.Raw | None:
    """What differs from ``before``, compared as JSON, as the event to record; None when nothing does.

    ``after`` then holds the changed values as they will be read from the log. ``before`` must share no list or dict with it,
    or a change in place goes unseen: give the committed state, which no handler touches. Raises ``DefinitionError`` for a value
    that does not fit its field or would not come back as it is.
    """
    definition, held = after.__regrow__, vars(after)
    changed: dict[str, msgspec.Raw] = {}
    for name in definition.fields:
        old, new = encode(getattr(before, name)), _json(definition, name, held[name])
        if new != old:
            held[name], recorded = _recorded(definition, name, held[name], new)
            if recorded != old:
                changed[name] = msgspec.Raw(recorded)
    if not changed:
        return None
    return msgspec.Raw(encode(FieldsChanged(msgspec.Raw(encode(changed)), definition.version)))


def apply_changes(actor: Holder, data: msgspec.Raw) -> None:
    """Takes over what a turn changed, all of it or nothing. Raises ``Undecodable`` when it does not fit the class."""
    definition = actor.__regrow__
    what = f"event of {definition.kind}"
    event = decode(data, FieldsChanged, what)
    try:
        fields = definition.current_fields(event.fields, event.version)
        state = decode(fields, definition.state_type, what)
    except Undecodable as error:
        raise Undecodable(what, f"FieldsChanged of version {event.version}: {error.why}") from error
    vars(actor).update({name: getattr(state, name) for name in decode(fields, dict[str, msgspec.Raw], what)})


def check_assignment(actor: Holder, name: str, *, running: bool) -> None:
    """Raises where assigning this attribute of an actor would be lost: outside a running command, or for what is no field."""
    definition = actor.__regrow__
    if name not in definition.fields:
        raise ActorError(
            f"{definition.name}.{name} is no field and would be lost; declare it in the class with a default"
        )
    if not running:
        raise StateChangedOutsideCommand(definition.name, name)


def _json(definition: Definition, name: str, value: object) -> bytes:
    try:
        return encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise _misfit(definition, name, value, str(error)) from None


def _recorded(definition: Definition, name: str, value: object, data: bytes) -> tuple[Any, bytes]:
    """A value as it comes back from the log, and its JSON."""
    try:
        state = decode(encode({name: msgspec.Raw(data)}), definition.state_type, "value")
    except Undecodable as error:
        raise _misfit(definition, name, value, error.why) from None
    back = getattr(state, name)
    if back != value:
        raise _misfit(definition, name, value, f"it comes back from JSON as {type(back).__name__}")
    return back, encode(back)


def _misfit(definition: Definition, name: str, value: object, why: str) -> DefinitionError:
    return DefinitionError(
        f"{definition.name}.{name} cannot be recorded with the {type(value).__name__} it holds: {why}"
    )
