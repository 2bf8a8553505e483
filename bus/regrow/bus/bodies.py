"""Where the body of a mail is: in its message, or put aside under the hash that the message's header names.

A claim belongs to one message, so whoever takes the message out of its mailbox removes it. It is looked up under the receiver's
own address only: naming somebody else's gains nothing.
"""

import secrets
from collections.abc import Callable

from regrow.bus.claims import Claims
from regrow.bus.errors import PayloadTooLarge
from regrow.bus.headers import BLOB, Headers, size
from regrow.bus.port import CLAIM_BYTES_MAX
from regrow.bus.subjects import Address


class Bodies:
    """The bodies of one application's mail, as far as they do not fit their messages."""

    def __init__(self, claims: Claims, payload_bytes_max: Callable[[], int]) -> None:
        self._claims = claims
        self._payload_bytes_max = payload_bytes_max

    async def pack(
        self, address: Address, body: bytes, headers: dict[str, str], salt: str | None
    ) -> tuple[bytes, dict[str, str]]:
        """Body and headers as they go into the message: a body too large for one is put aside, and a header names it.

        The same ``salt`` puts the same body aside once; None stands for one that nobody else has. Raises ``PayloadTooLarge``
        for what cannot be put aside, and for headers that leave no room for themselves.
        """
        given = {name: value for name, value in headers.items() if name != BLOB}
        total = len(body) + size(given)
        limit = self._payload_bytes_max()
        if total <= limit:
            return body, given
        if len(body) > CLAIM_BYTES_MAX:
            raise PayloadTooLarge(len(body), CLAIM_BYTES_MAX)
        if size({**given, BLOB: "0" * 64}) > limit:
            raise PayloadTooLarge(total, limit)
        given[BLOB] = await self._claims.put("mail", address, body, salt or secrets.token_hex(16))
        return b"", given

    async def find(self, address: Address, headers: Headers) -> bytes:
        """The body that was put aside; empty when it is not there (any more)."""
        return await self._claims.get("mail", address, headers[BLOB]) or b""

    async def remove(self, address: Address, headers: Headers) -> None:
        """Removes what was put aside for a message that is out of its mailbox."""
        if BLOB in headers:
            await self._claims.remove("mail", address, headers[BLOB])

    async def drop(self, address: Address) -> None:
        """Removes all that was put aside for an actor's mail."""
        await self._claims.drop("mail", address)
