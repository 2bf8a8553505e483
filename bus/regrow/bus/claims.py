"""Claim checks: what does not fit a message is put aside under its hash, and the message says only where it is.

A claim belongs to one actor and one box, so that it can be removed with what refers to it and nobody else's is touched. The
store of claims never decides whether something was said: a claim without a message that refers to it is rubbish.
"""

import time
from collections import defaultdict
from collections.abc import Collection
from hashlib import sha256
from typing import Literal, Protocol

from regrow.bus.errors import PayloadTooLarge
from regrow.bus.port import CLAIM_BYTES_MAX
from regrow.bus.subjects import Address, Subjects, check_address

ClaimBox = Literal["log", "snap", "mail", "dead"]
"""What refers to a claim: a record of the log, a snapshot beside it, a message in a mailbox, or a dead letter."""


class Claims(Protocol):
    """Bytes put aside for one application's actors."""

    async def put(self, box: ClaimBox, address: Address, data: bytes, salt: str = "") -> str:
        """The digest under which ``get`` finds the bytes: once this returns they are stored. Putting them again is free of
        effect. With a ``salt`` that nobody else uses, nobody else's ``remove`` takes them away.

        Raises ``PayloadTooLarge`` beyond ``CLAIM_BYTES_MAX``, ``StoreFull``, and ``RequestTimeout`` or ``Unreachable`` when
        the store did not answer, also when asked again; then bytes may have been left behind.
        """
        ...

    async def get(self, box: ClaimBox, address: Address, digest: str) -> bytes | None:
        """The bytes as they were put; None when there are none of that digest (any more)."""
        ...

    async def held(self, box: ClaimBox, address: Address) -> Collection[str]:
        """The digests of what this actor has in that box; without a round trip when the store was looked at before."""
        ...

    async def drop(
        self, box: ClaimBox, address: Address, keep: Collection[str] = (), *, before_ns: int | None = None
    ) -> None:
        """Removes all that this actor has in that box, except for ``keep`` and, given a time of the server's clock, for
        what was put since; nearly free when there is nothing."""
        ...

    async def remove(self, box: ClaimBox, address: Address, digest: str) -> None:
        """Removes one; without effect when it is not there."""
        ...


def claim_stream(subjects: Subjects) -> str:
    """The stream of the application's object store."""
    return f"OBJ_{subjects.claim_bucket}"


def digest_of(data: bytes, salt: str = "") -> str:
    """The name of a claim: SHA-256 in hex over the salt and the bytes. Raises ``PayloadTooLarge``."""
    if len(data) > CLAIM_BYTES_MAX:
        raise PayloadTooLarge(len(data), CLAIM_BYTES_MAX)
    hashed = sha256(salt.encode())
    hashed.update(data)
    return hashed.hexdigest()


class MemoryClaims:
    """Claims in a dict, for a bus inside one process."""

    def __init__(self) -> None:
        self._held: defaultdict[tuple[ClaimBox, Address], dict[str, tuple[int, bytes]]] = defaultdict(dict)

    async def put(self, box: ClaimBox, address: Address, data: bytes, salt: str = "") -> str:
        """The digest; see ``Claims.put``."""
        digest = digest_of(data, salt)
        self._held[box, check_address(address)].setdefault(digest, (time.time_ns(), bytes(data)))
        return digest

    async def get(self, box: ClaimBox, address: Address, digest: str) -> bytes | None:
        """The bytes as they were put; see ``Claims.get``."""
        _, data = self._held[box, address].get(digest, (0, None))
        return data

    async def held(self, box: ClaimBox, address: Address) -> Collection[str]:
        """The digests of what this actor has in that box."""
        return list(self._held[box, address])

    async def drop(
        self, box: ClaimBox, address: Address, keep: Collection[str] = (), *, before_ns: int | None = None
    ) -> None:
        """Removes all but those; see ``Claims.drop``."""
        held = self._held.pop((box, address), {})
        for digest, (put_ns, data) in held.items():
            if digest in keep or (before_ns is not None and put_ns >= before_ns):
                self._held[box, address][digest] = put_ns, data

    async def remove(self, box: ClaimBox, address: Address, digest: str) -> None:
        """Removes one."""
        self._held[box, address].pop(digest, None)
