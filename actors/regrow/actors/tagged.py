"""Tagged structs: the messages or the events of an actor, read by their ``type``, also in forms that only upcasters know."""

from collections.abc import Callable, Iterable
from typing import Any, Union

import msgspec

from regrow.actors.errors import DefinitionError
from regrow.actors.message import TAG_FIELD, tag_of
from regrow.actors.upcast import readers, upcast_tagged, upcasters_of
from regrow.bus import Undecodable, decode, encode


class _Tag(msgspec.Struct):
    tag: str = msgspec.field(name=TAG_FIELD, default="")


class Tagged:
    """A set of message or event classes. What is current is decoded by ``union`` and costs nothing more."""

    def __init__(self, owner: str, kinds: Iterable[type], what: str, unknown: Callable[[str], Undecodable]) -> None:
        self.kinds = tuple(kinds)
        self.tags = {tag_of(kind) for kind in self.kinds}
        self.union: Any = Union[self.kinds] if self.kinds else None  # noqa: UP007 - the members are known only at run time
        self.what = what
        self._unknown = unknown
        _check(owner, self.kinds, self.tags)

    def older(self, data: bytes | msgspec.Raw, error: Undecodable) -> Any:
        """The struct in bytes that ``union`` cannot decode, when an upcaster reads them.

        Raises ``error`` for what is current and does not fit, what ``unknown`` gives for a tag that nobody knows, and
        ``Undecodable`` for what is no JSON object with a text as ``type``, and when an upcaster fails.
        """
        tag = decode(data, _Tag, self.what).tag
        if tag in self.tags:
            raise error
        if not readers(self.kinds, tag):
            raise self._unknown(tag)
        what = f"{self.what}, recorded as {tag!r},"
        newer = upcast_tagged(decode(data, dict[str, Any], what), tag, self.kinds, self.tags, what)
        return decode(encode(newer), self.union, what)


def _check(owner: str, kinds: tuple[type, ...], tags: set[str]) -> None:
    """Raises ``DefinitionError`` for upcasters that get in the way of each other or of a class."""
    for kind in kinds:
        for old in upcasters_of(kind):
            if old in tags:
                raise DefinitionError(f"{owner}: an upcaster of {kind.__name__} reads {old!r}, which is a tag in use")
            first, *more = readers(kinds, str(old))
            if more:
                raise DefinitionError(f"{owner}: both {first.name} and {more[0].name} read {old!r}; keep one upcaster")
