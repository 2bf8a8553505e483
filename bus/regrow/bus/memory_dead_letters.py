"""The dead letters of a bus in memory."""

import asyncio
import time

from regrow.bus.claims import Claims
from regrow.bus.headers import MESSAGE_ID, size
from regrow.bus.memory_log import PAYLOAD_BYTES_MAX, check_size
from regrow.bus.port import Buried, Stored
from regrow.bus.streams import DEDUPLICATION_S
from regrow.bus.subjects import Address, check_address


class MemoryDeadLetters:
    """The dead letters, in a dict by their sequence."""

    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self._letters: dict[int, Buried] = {}
        self._aside: dict[int, str] = {}
        """The digests of bodies that were put aside."""
        self._ids: dict[str, float] = {}
        self._last = 0

    async def bury(self, address: Address, body: bytes, *, message_id: str, brief: bytes = b"") -> None:
        """Keeps a dead letter; see ``DeadLetters.bury``."""
        check_address(address)
        given = {MESSAGE_ID: message_id}
        aside = len(body) + size(given) > PAYLOAD_BYTES_MAX and bool(brief)
        check_size(brief if aside else body, given)
        await asyncio.sleep(0)
        now = time.monotonic()
        self._ids = {each: buried for each, buried in self._ids.items() if now - buried <= DEDUPLICATION_S}
        if message_id in self._ids:
            return
        digest = await self._claims.put("dead", address, body, message_id) if aside else ""
        self._ids[message_id] = now
        self._last += 1
        stored = Stored(self._last, time.time_ns(), bytes(brief if aside else body))
        self._letters[self._last] = Buried(address, stored, aside)
        if aside:
            self._aside[self._last] = digest

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
        """One dead letter, whole; see ``DeadLetters.get``."""
        await asyncio.sleep(0)
        found = self._letters.get(sequence)
        if found is None or not found.aside:
            return found
        data = await self._claims.get("dead", found.address, self._aside[sequence])
        return found if data is None else Buried(found.address, Stored(sequence, found.stored.time_ns, data))

    async def drop(self, sequence: int) -> bool:
        """Removes a dead letter for good; False when it was not there."""
        await asyncio.sleep(0)
        dropped = self._letters.pop(sequence, None)
        if dropped is not None and dropped.aside:
            await self._claims.remove("dead", dropped.address, self._aside.pop(sequence))
        return dropped is not None

    def all(self) -> list[Buried]:
        """Every dead letter, oldest first, for whoever looks."""
        return list(self._letters.values())


def check_wanted(kind: str | None, key: str | None) -> None:
    """Raises ValueError for a key without a kind, which names nobody."""
    if kind is None and key is not None:
        raise ValueError(f"the key {key!r} names an actor only together with its kind: give both")
