"""Records whose bytes were put aside: the small record in the log that names them, and the way back."""

import asyncio
from collections.abc import Sequence

from nats.aio.msg import Msg

from regrow.bus.api import together
from regrow.bus.claims import Claims
from regrow.bus.codec import encode
from regrow.bus.errors import ClaimMissing
from regrow.bus.headers import BLOB
from regrow.bus.pages import sequence_of, stored_ns
from regrow.bus.port import Stored
from regrow.bus.subjects import Address

CLAIMS_AT_ONCE = 4
"""So many are fetched together: each may be 64 MB."""


class Aside(Stored, frozen=True):
    """A record as it lies in the log, its bytes still in the object store."""

    digest: str


def pointer(rid: str, digest: str, size: int) -> bytes:
    """The record that stands in the log for one of that many bytes: it keeps the id by which its writer knows it again."""
    return encode({"v": 1, "rid": rid, "blob": digest, "size": size})


def stored(message: Msg) -> Stored:
    """A record as it was read; one whose bytes were put aside says under which hash."""
    headers = message.headers or {}
    if BLOB in headers:
        return Aside(sequence_of(message), stored_ns(message), message.data, headers[BLOB])
    return Stored(sequence_of(message), stored_ns(message), message.data)


async def with_claims(claims: Claims, address: Address, records: list[Stored]) -> list[Stored]:
    """The records of one log with their bytes, several fetched at once.

    Raises ``ClaimMissing`` when one is not there: rolled up since the log was read, or lost.
    """
    asides = [each for each in records if isinstance(each, Aside)]
    if not asides:
        return records
    found = await _fetch(claims, address, asides)
    return [found.get(each.sequence, each) for each in records]


async def fetch(claims: Claims, address: Address, record: Aside) -> Stored:
    """One record with its bytes. Raises ``ClaimMissing``."""
    data = await claims.get("log", address, record.digest)
    if data is None:
        raise ClaimMissing(f"record {record.sequence} of {address}", record.digest)
    return Stored(record.sequence, record.time_ns, data)


async def _fetch(claims: Claims, address: Address, records: Sequence[Aside]) -> dict[int, Stored]:
    room = asyncio.Semaphore(CLAIMS_AT_ONCE)

    async def one(record: Aside) -> Stored:
        async with room:
            return await fetch(claims, address, record)

    return {each.sequence: each for each in await together(one(record) for record in records)}
