"""The arguments of a call as they are recorded: JSON, without what is secret, or the path of what is no JSON. Pure."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import cast

import msgspec

from regrow.bus import decode, encode

REDACTED = "***"
"""What stands in the log in place of a redacted argument."""
NOT_JSON = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)
"""What encoding raises."""
DEPTH_MAX = 64
"""Levels that the search for a value that is no JSON goes down."""


def encode_arguments(arguments: object, what: str) -> bytes:
    """The JSON of a call's arguments. Raises TypeError with the path of what cannot be recorded; the value is not shown."""
    try:
        return encode(arguments)
    except NOT_JSON as error:
        raise TypeError(f"an argument of {what} cannot be recorded: {not_json(arguments, error)}") from None


def redacted(arguments: bytes, names: tuple[str, ...]) -> bytes:
    """The same arguments with the values of these names covered."""
    given = decode(arguments, dict[str, msgspec.Raw], "arguments")
    return encode({**given, **dict.fromkeys(names, REDACTED)})


def not_json(value: object, error: Exception) -> str:
    """Where in a value the first part lies that is no JSON: ``$.route.legs[2].when is a complex, which is no JSON``."""
    path, found = "$", value
    for _ in range(DEPTH_MAX):
        inner = next(((step, part) for step, part in _parts(found) if not _is_json(part)), None)
        if inner is None:
            break
        path, found = f"{path}{inner[0]}", inner[1]
    name = type(found).__name__
    return f"{path} is {'an' if name[:1].lower() in 'aeiou' else 'a'} {name}, which is no JSON ({error})"


def _parts(value: object) -> Iterator[tuple[str, object]]:
    """What a value is made of, each with its step of the path."""
    if isinstance(value, Mapping):
        for name, part in cast(Mapping[object, object], value).items():
            yield f".{name}", part
    elif isinstance(value, list | tuple | set | frozenset):
        for index, part in enumerate(cast(list[object], value)):
            yield f"[{index}]", part
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield f".{name}", getattr(value, name)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield f".{field.name}", getattr(value, field.name)


def _is_json(value: object) -> bool:
    try:
        encode(value)
    except NOT_JSON:
        return False
    return True
