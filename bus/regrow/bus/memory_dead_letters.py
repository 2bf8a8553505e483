"""The dead letters of a bus in memory."""

import asyncio
import time

from regrow.bus.headers import MESSAGE_ID
from regrow.bus.memory_log import check_size
from regrow.bus.port import Buried, Stored
from regrow.bus.streams import DEDUPLICATION_S
from regrow.bus.subjects import Address, check_address


class MemoryDeadLetters:
    """The dead letters, in a dict by their sequence."""

    def __init__(self) -> None:
        self._letters: dict[int, Buried] = {}
        self._ids: dict[str, float] = {}
        self._last = 0

    async def bury(self, address: Address, body: bytes, *, message_id: str) -> None:
        """Keeps a dead letter; see ``DeadLetters.bury``."""
        check_address(address)
        check_size(body, {MESSAGE_ID: message_id})
        await asyncio.sleep(0)
        now = time.monotonic()
        self._ids = {each: buried for each, buried in self._ids.items() if now - buried <= DEDUPLICATION_S}
        if message_id not in self._ids:
            self._ids[message_id] = now
            self._last += 1
            self._letters[self._last] = Buried(address, Stored(self._last, time.time_ns(), bytes(body)))

    async def find(
        self, kind: str | None = None, key: str | None = None, *, after: int = 0, limit: int = 1_000
    ) -> list[Buried]:
        """Dead letters, oldest first; see ``DeadLetters.find``."""
        check_wanted(kind, key)
        await asyncio.sleep(0)
        found = [
            letter
            for sequence, letter in self._letters.items()
            if sequence > after and kind in (None, letter.address.kind) and key in (None, letter.address.key)
        ]
        return found[: max(0, limit)]

    async def get(self, sequence: int) -> Buried | None:
        """One dead letter; None when there is none of that sequence."""
        await asyncio.sleep(0)
        return self._letters.get(sequence)

    async def drop(self, sequence: int) -> bool:
        """Removes a dead letter for good; False when it was not there."""
        await asyncio.sleep(0)
        return self._letters.pop(sequence, None) is not None

    def all(self) -> list[Buried]:
        """Every dead letter, oldest first, for whoever looks."""
        return list(self._letters.values())


def check_wanted(kind: str | None, key: str | None) -> None:
    """Raises ValueError for a key without a kind, which names nobody."""
    if kind is None and key is not None:
        raise ValueError(f"the key {key!r} names an actor only together with its kind: give both")
