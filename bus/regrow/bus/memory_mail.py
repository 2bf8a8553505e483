"""The mailboxes of a bus in memory: all shards go to whoever served last."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from regrow.bus.errors import MailboxFull
from regrow.bus.headers import Headers, letter
from regrow.bus.memory_log import check_size
from regrow.bus.port import Receive
from regrow.bus.streams import DEDUPLICATION_S, MAILBOX_MESSAGES_MAX
from regrow.bus.subjects import SHARDS, Address, Box, check_address


class _Letter(NamedTuple):
    """A message that waits in a mailbox."""

    box: Box
    address: Address
    sequence: int
    headers: Headers
    body: bytes


class _Claim:
    """One takeover of all shards, by whoever serves."""

    def __init__(self, receive: Receive, lost: Callable[[int], None]) -> None:
        self.receive = receive
        self.lost = lost


class MemoryDelivery:
    """A message out of a mailbox in memory."""

    def __init__(self, letter: _Letter, settle: Callable[[_Letter], None]) -> None:
        self.box: Box = letter.box
        self.address = letter.address
        self.sequence = letter.sequence
        self.headers = letter.headers
        self.body = letter.body
        self._letter = letter
        self._settle = settle

    async def ack(self) -> None:
        self._settle(self._letter)


class MemoryMail:
    """The two mailboxes, each a dict from sequence to message."""

    def __init__(self) -> None:
        self._waiting: dict[Box, dict[int, _Letter]] = {"in": {}, "act": {}}
        self._counts: Counter[Address] = Counter()
        self._last: dict[Box, int] = {"in": 0, "act": 0}
        self._known: dict[str, tuple[int, float]] = {}
        self._claim: _Claim | None = None

    async def post(
        self,
        box: Box,
        address: Address,
        body: bytes,
        headers: Headers | None = None,
        *,
        message_id: str | None = None,
    ) -> int:
        """The sequence of the stored message; see ``Mail.post``."""
        check_address(address)
        given = letter(box, headers, message_id)
        check_size(body, given)
        if box == "in" and self._counts[address] >= MAILBOX_MESSAGES_MAX:
            raise MailboxFull(str(address))
        if message_id is not None and (earlier := self._earlier(message_id)) is not None:
            return earlier
        self._last[box] += 1
        message = _Letter(box, address, self._last[box], given, bytes(body))
        if message_id is not None:
            self._known[message_id] = message.sequence, time.monotonic()
        self._waiting[box][message.sequence] = message
        self._counts[address] += box == "in"
        if self._claim is not None:
            self._deliver(self._claim, message)
        return message.sequence

    @asynccontextmanager
    async def serve(
        self, receive: Receive, lost: Callable[[int], None]
    ) -> AsyncGenerator[Callable[[], Awaitable[None]]]:
        """Delivers the mail of all shards; see ``Mail.serve``."""
        mine = [_Claim(receive, lost)]

        async def take_over() -> None:
            earlier, self._claim = self._claim, _Claim(receive, lost)
            if earlier is not None and earlier not in mine:
                for shard in range(SHARDS):
                    earlier.lost(shard)
            mine[:] = [self._claim]
            for message in (*self._waiting["in"].values(), *self._waiting["act"].values()):
                self._deliver(self._claim, message)

        await take_over()
        try:
            yield take_over
        finally:
            if self._claim in mine:
                self._claim = None

    def waiting(self, box: Box) -> list[bytes]:
        """The bodies of all messages in a mailbox, delivered or not, for whoever looks."""
        return [message.body for message in self._waiting[box].values()]

    def _deliver(self, claim: _Claim, message: _Letter) -> None:
        def settle(letter: _Letter) -> None:
            if self._claim is claim and self._waiting[letter.box].pop(letter.sequence, None) is not None:
                self._counts[letter.address] -= letter.box == "in"

        def hand_over() -> None:
            if self._claim is claim:
                claim.receive(MemoryDelivery(message, settle))

        asyncio.get_running_loop().call_soon(hand_over)

    def _earlier(self, message_id: str) -> int | None:
        """The sequence of a message with this id within the de-duplication window."""
        now = time.monotonic()
        for known, (_, posted) in list(self._known.items()):
            if now - posted <= DEDUPLICATION_S:
                break
            del self._known[known]
        sequence, _ = self._known.get(message_id, (None, 0.0))
        return sequence
