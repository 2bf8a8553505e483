"""The cache of an application: bytes by name for a while, for all its processes, replaced by compare-and-set.

It may lose anything at any time, and nothing that matters lies in it alone. What two processes must not both do they settle here
by who replaces a revision first.
"""

from typing import Protocol

import msgspec

TTL_MIN_S = 1.0
"""What the server can do: a shorter life counts as so long."""


class Held(msgspec.Struct, frozen=True):
    """What is held under a name."""

    name: str
    revision: int
    data: bytes
    tags: tuple[str, ...]
    time_ns: int
    """When it was put, nanoseconds since 1970 of the server's clock."""


class Cache(Protocol):
    """Names are two words of letters, digits, ``_`` and ``-`` with a point between: a group and a name in it."""

    async def get(self, name: str) -> Held | None:
        """What is held under a name; None when nothing is (any more)."""
        ...

    async def put(self, name: str, data: bytes, *, after: int, ttl_s: float, tags: tuple[str, ...] = ()) -> int | None:
        """Holds bytes under a name for ``ttl_s`` seconds in place of the revision ``after`` (0: where nothing is held).

        The new revision; None, and nothing happened, when something else is held. Raises ``PayloadTooLarge``, ``StoreFull``.
        """
        ...

    async def drop(self, name: str, revision: int) -> None:
        """Lets go of that revision; without effect when another is held."""
        ...

    async def entries(self, group: str | None = None) -> list[Held]:
        """All that is held, or all of a group, in no order."""
        ...
