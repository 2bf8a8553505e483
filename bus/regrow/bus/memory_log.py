"""The event logs of a bus in memory, and the limit on what one message may hold."""

import asyncio
import time
from collections import defaultdict

from regrow.bus.codec import has_id
from regrow.bus.errors import PayloadTooLarge, StaleWriter
from regrow.bus.headers import Headers, fence, size
from regrow.bus.port import Stored
from regrow.bus.subjects import Address, check_address, log_number

PAYLOAD_BYTES_MAX = 1024 * 1024
"""The server's own default."""


def check_size(body: bytes, headers: Headers | None) -> None:
    total = len(body) + size(headers)
    if total > PAYLOAD_BYTES_MAX:
        raise PayloadTooLarge(total, PAYLOAD_BYTES_MAX)


class MemoryLog:
    """The event logs, in a dict."""

    def __init__(self) -> None:
        self._records: defaultdict[Address, list[Stored]] = defaultdict(list)
        self._last: defaultdict[int, int] = defaultdict(int)

    async def append(self, address: Address, data: bytes, *, rid: str, after: int, rollup: bool = False) -> int:
        """The sequence under which the record was stored; see ``EventLog.append``."""
        check_address(address)
        check_size(data, fence(after, rollup=rollup))
        await asyncio.sleep(0)
        records = self._records[address]
        last = records[-1].sequence if records else 0
        if last != after:
            return _own(records, rid, after, last)
        number = log_number(address)
        self._last[number] += 1
        if rollup:
            records.clear()
        records.append(Stored(self._last[number], time.time_ns(), bytes(data)))
        return self._last[number]

    async def read(self, address: Address) -> list[Stored]:
        """All records of this log, oldest first; see ``EventLog.read``."""
        check_address(address)
        await asyncio.sleep(0)
        return list(self._records[address])

    def count(self) -> int:
        """How many records all logs hold."""
        return sum(len(records) for records in self._records.values())


def _own(records: list[Stored], rid: str, after: int, last: int) -> int:
    """Where the writer's own record is, which it appends again; else it is stale."""
    for record in reversed(records):
        if record.sequence > after and has_id(record.data, rid):
            return record.sequence
    raise StaleWriter(after, last)
