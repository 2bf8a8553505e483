"""For how long a look at a shard's claim proves that the shard is ours.

A proof is counted on the monotonic clock from before the look was sent, so that neither a slow answer nor a process that was
stopped meanwhile can stretch it. No I/O: whoever asks does the looking, one at a time for each shard.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable

LEASE_S = 5.0
"""How long a look is good for; for so long a query may be answered from a state that another node has left behind."""


class Leases:
    """When each shard was last seen to be ours."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen_s: dict[int, float] = {}
        self._failed_s: dict[int, float] = {}
        self._looking: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    def now_s(self) -> float:
        return self._clock()

    def prove(self, shard: int, since_s: float) -> None:
        """The shard was seen to be ours, by a look or a claim that was sent at that time or later."""
        self._seen_s[shard] = max(since_s, self._seen_s.get(shard, since_s))

    def end(self, shard: int | None = None) -> None:
        """Nothing proves any more that this shard, or any, is ours."""
        if shard is None:
            self._seen_s.clear()
        else:
            self._seen_s.pop(shard, None)

    def is_proved(self, shard: int) -> bool:
        seen_s = self._seen_s.get(shard)
        return seen_s is not None and self._clock() - seen_s < LEASE_S

    async def holds(self, shard: int, look: Callable[[], Awaitable[bool]]) -> bool:
        """Whether the shard is proved to be ours, now that nothing is waited for any more; looks when that is not known.

        ``look`` calls ``prove`` when it finds the shard ours, and says whether it did. Who asks while somebody else looks gets
        that answer.
        """
        asked_s = self._clock()
        while not self.is_proved(shard):
            async with self._looking[shard]:
                if self.is_proved(shard):
                    break
                if self._failed_s.get(shard, float("-inf")) >= asked_s:
                    return False
                if not await look():
                    self._failed_s[shard] = self._clock()
                    return False
        return True
