"""Tagged structs: the messages or the events of an actor, read by their ``type``, also in forms that only upcasters know."""

from collections.abc import Iterable
from typing import Any, Union

import msgspec

from regrow.actors.errors import DefinitionError
from regrow.actors.message import TAG_FIELD, tag_of
from regrow.actors.upcast import readers, upcast_tagged, upcasters_of
from regrow.bus import Undecodable, decode, encode


class _Tag(msgspec.Struct):
    tag: str = msgspec.field(name=TAG_FIELD, default="")


class Tagged:
    """A set of message or event classes. What is current costs nothing more than its decoding."""

    def __init__(self, owner: str, kinds: Iterable[type], what: str) -> None:
        self.kinds = tuple(kinds)
        self.tags = {tag_of(kind) for kind in self.kinds}
        self._what = what
        self._union: Any = Union[self.kinds] if self.kinds else None  # noqa: UP007 - the members are known only at run time
        _check(owner, self.kinds, self.tags)

    def __bool__(self) -> bool:
        return bool(self.kinds)

    def read(self, data: bytes | msgspec.Raw) -> Any:
        """The struct in these bytes. Raises ``Undecodable``."""
        try:
            return decode(data, self._union, self._what)
        except Undecodable:
            tag = self.tag(data)
            if tag in self.tags or not self.knows(tag):
                raise
        what = f"{self._what}, recorded as {tag!r},"
        newer = upcast_tagged(decode(data, dict[str, Any], what), tag, self.kinds, self.tags, what)
        return decode(encode(newer), self._union, what)

    def tag(self, data: bytes | msgspec.Raw) -> str:
        """The ``type`` that these bytes carry. Raises ``Undecodable`` for what is no JSON object with a text there."""
        return decode(data, _Tag, self._what).tag

    def knows(self, tag: str) -> bool:
        """Whether this is the tag of one of the classes, or an older form of one."""
        return tag in self.tags or bool(readers(self.kinds, tag))


def _check(owner: str, kinds: tuple[type, ...], tags: set[str]) -> None:
    """Raises ``DefinitionError`` for upcasters that get in the way of each other or of a class."""
    for kind in kinds:
        for old in upcasters_of(kind):
            if old in tags:
                raise DefinitionError(f"{owner}: an upcaster of {kind.__name__} reads {old!r}, which is a tag in use")
            first, *more = readers(kinds, str(old))
            if more:
                raise DefinitionError(f"{owner}: both {first.name} and {more[0].name} read {old!r}; keep one upcaster")
