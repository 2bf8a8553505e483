"""The cache inside one process, for tests and experiments."""

import time
from itertools import count

from regrow.bus.cache import TTL_MIN_S, Held


class MemoryCache:
    """See ``Cache``."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[Held, float]] = {}
        self._revisions = count(1)

    async def get(self, name: str) -> Held | None:
        """What is held under a name."""
        held, until_s = self._held.get(name, (None, 0.0))
        return held if time.monotonic() < until_s else None

    async def put(self, name: str, data: bytes, *, after: int, ttl_s: float, tags: tuple[str, ...] = ()) -> int | None:
        """Holds bytes for a while; see ``Cache.put``."""
        there = await self.get(name)
        if (there.revision if there is not None else 0) != after:
            return None
        revision = next(self._revisions)
        held = Held(name, revision, bytes(data), tags, time.time_ns())
        self._held[name] = held, time.monotonic() + max(TTL_MIN_S, ttl_s)
        return revision

    async def drop(self, name: str, revision: int) -> None:
        """Lets go of a revision."""
        held = await self.get(name)
        if held is not None and held.revision == revision:
            del self._held[name]

    async def entries(self, group: str | None = None) -> list[Held]:
        """All that is held."""
        found = [await self.get(name) for name in list(self._held) if group is None or name.startswith(f"{group}.")]
        return [held for held in found if held is not None]
