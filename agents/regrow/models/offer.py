"""Tools as they are offered to a model. Pure."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Self, get_type_hints

import msgspec

from regrow.models.schema import object_schema


class Offer(msgspec.Struct, frozen=True):
    """A tool that a model may call: its name, what it is for, and its arguments as the fields of a struct."""

    name: str
    description: str
    arguments: type[msgspec.Struct]

    @classmethod
    def of(cls, function: Callable[..., Awaitable[Any]]) -> Self:
        """A function by its name, its docstring and its parameters. Raises `TypeError` for a parameter without annotation."""
        name: str = getattr(function, "__name__", "")
        return cls(name, inspect.getdoc(function) or name, arguments_type(repr(name), function))

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of the arguments."""
        return object_schema(self.arguments)


def arguments_type(who: str, function: Callable[..., Any]) -> type[msgspec.Struct]:
    """A struct with the parameters of a function as its fields. Raises `TypeError`, in the words of `who`, for one without annotation."""
    hints = get_type_hints(function)
    fields: list[Any] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name not in hints:
            raise TypeError(f"{who} must annotate its parameter {parameter.name!r}")
        default = () if parameter.default is inspect.Parameter.empty else (parameter.default,)
        fields.append((parameter.name, hints[parameter.name], *default))
    return msgspec.defstruct("Arguments", fields, kw_only=True, forbid_unknown_fields=True)
