"""Messages and events: frozen structs whose JSON carries their class name as ``type``."""

from typing import Any, Generic, TypeVar, dataclass_transform, get_args, get_origin

import msgspec

from regrow.actors.errors import DefinitionError

R = TypeVar("R")

TAG_FIELD = "type"


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class _StructMeta(msgspec.StructMeta):
    """Makes ``class Add(Message[int])`` a frozen struct in the eyes of type checkers too, and guards the tag's name."""

    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> "_StructMeta":
        if TAG_FIELD in namespace.get("__annotations__", {}):
            raise DefinitionError(
                f"{name}.{TAG_FIELD}: the field name 'type' carries the class name on the wire; rename it"
            )
        return super().__new__(mcls, name, bases, namespace, **options)


class Message(msgspec.Struct, Generic[R], metaclass=_StructMeta, frozen=True, tag_field=TAG_FIELD, tag=True):
    """What an actor is asked or told; ``Message[int]`` is answered with an int.

    On the wire: the JSON of its fields plus ``type``, the class name, or a stable one: ``class Add(Message[int], tag="Add.v1")``.
    """


class Event(msgspec.Struct, metaclass=_StructMeta, frozen=True, tag_field=TAG_FIELD, tag=True):
    """A fact that an actor decided: recorded in its log, and the only thing that changes its state."""


def tag_of(kind: type[msgspec.Struct]) -> str:
    """The ``type`` under which a message or an event goes over the wire."""
    return str(kind.__struct_config__.tag)


def reply_type(kind: type[Message[Any]]) -> Any:
    """The type that ``Message[...]`` was made with, in this class or the nearest one above it."""
    for base in kind.__mro__:
        for parent in getattr(base, "__orig_bases__", ()):
            if get_origin(parent) is Message:
                (answer,) = get_args(parent)
                return type(None) if answer is None else answer
    raise DefinitionError(f"{kind.__name__} must say what it is answered with: class {kind.__name__}(Message[int])")
