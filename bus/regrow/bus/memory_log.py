"""The event logs of a bus in memory, and the limit on what one message may hold."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Mapping

from regrow.bus.aside import Aside, fetch, pointer, with_claims
from regrow.bus.claims import Claims
from regrow.bus.codec import has_id
from regrow.bus.errors import ClaimMissing, PayloadTooLarge, StaleWriter
from regrow.bus.headers import Headers, fence, size
from regrow.bus.port import CLAIM_BYTES_MAX, Attempted, Followed, Stored
from regrow.bus.subjects import LOG_STREAMS, Address, check_address, check_name, log_number

PAYLOAD_BYTES_MAX = 1024 * 1024
"""The server's own default."""


def check_size(body: bytes, headers: Headers | None) -> None:
    """Raises ``PayloadTooLarge`` for what a server would not take."""
    total = len(body) + size(headers)
    if total > PAYLOAD_BYTES_MAX:
        raise PayloadTooLarge(total, PAYLOAD_BYTES_MAX)


class MemoryLog:
    """The event logs, in a dict."""

    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self._records: defaultdict[Address, list[Stored]] = defaultdict(list)
        self._last: defaultdict[int, int] = defaultdict(int)
        self._saved: dict[Address, Stored] = {}
        self._appended = asyncio.Event()
        """Set when a record is added, and then another one."""

    async def append(self, address: Address, data: bytes, *, rid: str, after: int, rollup: bool = False) -> int:
        """The sequence under which the record was stored; see ``EventLog.append``."""
        check_address(address)
        digest = None
        if len(data) + size(fence(after, rollup=rollup)) > PAYLOAD_BYTES_MAX:
            digest = await self._claims.put("log", address, data, rid)
        await asyncio.sleep(0)
        records = self._records[address]
        last = records[-1].sequence if records else 0
        if last != after:
            if digest is not None and all(each.digest != digest for each in records if isinstance(each, Aside)):
                await self._claims.remove("log", address, digest)
            return _own(records, rid, after, last)
        if rollup:
            records.clear()
        sequence = self._add(address, data, rid, digest)
        if rollup:
            await self._claims.drop("log", address, () if digest is None else (digest,))
        return sequence

    def attempt(self, address: Address, data: bytes, *, rid: str, after: int, done: Attempted) -> None:
        """One attempt at ``append``; see ``EventLog.attempt``."""
        asyncio.get_running_loop().call_soon(lambda: done(self._attempt(address, data, rid, after)))

    def _attempt(self, address: Address, data: bytes, rid: str, after: int) -> int | None:
        records = self._records[check_address(address)]
        fits = len(data) + size(fence(after)) <= PAYLOAD_BYTES_MAX
        if not fits or (records[-1].sequence if records else 0) != after:
            return None
        return self._add(address, data, rid, None)

    def _add(self, address: Address, data: bytes, rid: str, digest: str | None) -> int:
        number = log_number(address)
        sequence = self._last[number] = self._last[number] + 1
        self._records[address].append(_record(sequence, data, rid, digest))
        self._appended.set()
        self._appended = asyncio.Event()
        return sequence

    async def read(self, address: Address, after: int = 0) -> list[Stored]:
        """All records of this log behind a sequence, oldest first; see ``EventLog.read``."""
        check_address(address)
        await asyncio.sleep(0)
        records = [each for each in self._records[address] if each.sequence > after]
        return await with_claims(self._claims, address, records)

    async def save(self, address: Address, data: bytes, covers: int) -> None:
        """Keeps a snapshot beside the log; see ``EventLog.save``."""
        check_address(address)
        if len(data) > CLAIM_BYTES_MAX:
            raise PayloadTooLarge(len(data), CLAIM_BYTES_MAX)
        await asyncio.sleep(0)
        there = self._saved.get(address)
        if there is None or there.sequence <= covers:
            self._saved[address] = Stored(covers, time.time_ns(), bytes(data))

    async def saved(self, address: Address) -> Stored | None:
        """The snapshot that was kept beside the log; see ``EventLog.saved``."""
        await asyncio.sleep(0)
        return self._saved.get(check_address(address))

    async def addresses(self, kind: str | None = None) -> list[Address]:
        """Every actor that has a log; see ``EventLog.addresses``."""
        await asyncio.sleep(0)
        if kind is not None:
            check_name("the kind", kind)
        return [each for each, records in self._records.items() if records and kind in (None, each.kind)]

    def follow(self, kind: str, after: Mapping[int, int]) -> AsyncIterator[Followed]:
        """The records of all actors of a kind, those to come included; see ``EventLog.follow``."""
        return self._follow(check_name("the kind", kind), [after.get(number, 0) for number in range(LOG_STREAMS)])

    async def forget(self, address: Address) -> None:
        """Removes snapshot and claims; see ``EventLog.forget``."""
        self._saved.pop(check_address(address), None)
        records = self._records[address]
        if records:
            keep = records[-1].digest if isinstance(records[-1], Aside) else ""
            await self._claims.drop("log", address, (keep,), before_ns=records[-1].time_ns)

    def count(self) -> int:
        """How many records all logs hold."""
        return sum(len(records) for records in self._records.values())

    async def _follow(self, kind: str, seen: list[int]) -> AsyncGenerator[Followed]:
        while True:
            appended, behind = self._appended, self._behind(kind, seen)
            if not behind:
                await appended.wait()
            for number, address, record in behind:
                seen[number] = record.sequence
                whole = await self._whole(address, record)
                if whole is not None:
                    yield Followed(number, address, whole)

    def _behind(self, kind: str, seen: list[int]) -> list[tuple[int, Address, Stored]]:
        """The records of a kind that were not seen, those of each stream in order."""
        found = [
            (log_number(address), address, record)
            for address, records in self._records.items()
            if address.kind == kind
            for record in records
            if record.sequence > seen[log_number(address)]
        ]
        return sorted(found, key=lambda each: (each[0], each[2].sequence))

    async def _whole(self, address: Address, record: Stored) -> Stored | None:
        """The record with its bytes; None when a roll-up has replaced it meanwhile."""
        if not isinstance(record, Aside):
            return record
        try:
            return await fetch(self._claims, address, record)
        except ClaimMissing:
            if record in self._records[address]:
                raise
            return None


def _record(sequence: int, data: bytes, rid: str, digest: str | None) -> Stored:
    if digest is None:
        return Stored(sequence, time.time_ns(), bytes(data))
    return Aside(sequence, time.time_ns(), pointer(rid, digest, len(data)), digest)


def _own(records: list[Stored], rid: str, after: int, last: int) -> int:
    """Where the writer's own record is, which it appends again; else it is stale."""
    for record in reversed(records):
        if record.sequence > after and has_id(record.data, rid):
            return record.sequence
    raise StaleWriter(after, last)
