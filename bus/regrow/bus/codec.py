"""JSON on the wire, strict both ways: what does not fit its type is an error that names the field, never a guess."""

from collections.abc import Callable, Hashable
from functools import cache
from typing import Any, TypeVar, cast

import msgspec

from regrow.bus.errors import Undecodable

T = TypeVar("T")

_encoder = msgspec.json.Encoder(order="deterministic")


class _Identified(msgspec.Struct):
    rid: str


encode: Callable[[object], bytes] = _encoder.encode
"""The JSON of a value, with sorted keys, so that equal values give equal bytes."""


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind, strict=True)


def decode(data: bytes | msgspec.Raw, kind: type[T], what: str = "message") -> T:
    """The value of that type in these bytes; ``Undecodable`` names the field that does not fit."""
    try:
        value: T = _decoder(cast(Hashable, kind)).decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        # msgspec leaves broken UTF-8 and nesting without end to Python, and anybody may send both.
        raise Undecodable(what, str(error)) from None
    return value


def record_id(data: bytes) -> str:
    """The ``rid`` of a record, by which a writer whose acknowledgement was lost knows its own append again."""
    return decode(data, _Identified, "record").rid


def has_id(data: bytes, rid: str) -> bool:
    """Whether this is the record of that id; anything that is no record has none."""
    try:
        return record_id(data) == rid
    except Undecodable:
        return False
