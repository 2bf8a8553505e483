"""The mailboxes of a bus in memory: all shards go to whoever served last."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from regrow.bus.bodies import Bodies
from regrow.bus.claims import Claims
from regrow.bus.errors import MailboxFull
from regrow.bus.headers import BLOB, Headers, letter
from regrow.bus.memory_log import PAYLOAD_BYTES_MAX
from regrow.bus.port import Holding, Receive
from regrow.bus.streams import DEDUPLICATION_S, MAILBOX_MESSAGES_MAX
from regrow.bus.subjects import BOXES, SHARDS, Address, Box, check_address
from regrow.bus.timers import EVERY, check_timer, schedule


class _Letter(NamedTuple):
    """A message that waits in a mailbox."""

    box: Box
    address: Address
    sequence: int
    headers: Headers
    body: bytes


class MemoryDelivery:
    """A message out of a mailbox in memory."""

    def __init__(self, letter: _Letter, service: "_Service", *, suspect: bool) -> None:
        self.box: Box = letter.box
        self.address = letter.address
        self.sequence = letter.sequence
        self.headers = letter.headers
        self.body = letter.body
        self.suspect = suspect
        self._service = service
        self._epoch = service.epoch
        self._here = BLOB not in letter.headers

    def shed(self) -> None:
        """Forgets the body until it is fetched; see ``Delivery.shed``."""
        self._here = False
        self.body = b""

    async def fetch(self) -> bool:
        """Whether the message is still there, and its body here; see ``Delivery.fetch``."""
        if self._here:
            return True
        body = await self._service.mail.read(self.box, self.sequence)
        if body is None:
            return False
        self._here = True
        self.body = body
        return True

    async def ack(self) -> None:
        """Takes the message out of the mailbox; see ``Delivery.ack``."""
        if self._service.epoch == self._epoch and self._service.is_last():
            await self._service.mail.remove(self.box, self.sequence)


class MemoryMail:
    """The two mailboxes, each a dict from sequence to message. Timers live as long as the event loop does."""

    def __init__(self, claims: Claims) -> None:
        self.serving: _Service | None = None
        """Who has the shards."""
        self.abandoned = False
        """Whether the last who had the shards did not let go of them."""
        self._bodies = Bodies(claims, lambda: PAYLOAD_BYTES_MAX)
        self._waiting: dict[Box, dict[int, _Letter]] = {"in": {}, "act": {}}
        self._counts: Counter[Address] = Counter()
        self._last: dict[Box, int] = {"in": 0, "act": 0}
        self._known: dict[str, tuple[int, float]] = {}
        self._timers: dict[tuple[Address, str], asyncio.TimerHandle] = {}

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
        if message_id is not None and (earlier := self._earlier(message_id)) is not None:
            return earlier
        data, given = await self._bodies.pack(address, body, given, message_id)
        if box == "in" and self._counts[address] >= MAILBOX_MESSAGES_MAX:
            await self._bodies.remove(address, given)
            raise MailboxFull(str(address))
        sequence = self._put(box, address, data, given)
        if message_id is not None:
            self._known[message_id] = sequence, time.monotonic()
        return sequence

    async def schedule(
        self, address: Address, timer: str, body: bytes, headers: Headers | None = None, *, at_ns: int
    ) -> None:
        """Puts a message into the actor's mailbox later; see ``Mail.schedule``."""
        check_address(address)
        given = letter("act", headers, None)
        orders = schedule(at_ns, check_timer(timer))
        data, given = await self._bodies.pack(address, body, {**given, **orders}, f"timer {timer} {at_ns}")
        for order in orders:
            del given[order]
        self._cancel(address, timer)

        def fire() -> None:
            del self._timers[address, timer]
            self._put("act", address, data, given)

        delay_s = (at_ns - time.time_ns()) / 1e9
        self._timers[address, timer] = asyncio.get_running_loop().call_later(delay_s, fire)

    async def unschedule(self, address: Address, timer: str) -> None:
        """Removes a scheduled message; see ``Mail.unschedule``."""
        check_address(address)
        if timer == EVERY:
            self._cancel_all(address)
        else:
            self._cancel(address, check_timer(timer))

    async def purge(self, address: Address) -> None:
        """Removes all mail of an actor; see ``Mail.purge``."""
        check_address(address)
        self._cancel_all(address)
        for box in BOXES:
            for sequence in [each.sequence for each in self._waiting[box].values() if each.address == address]:
                del self._waiting[box][sequence]
        del self._counts[address]
        await self._bodies.drop(address)

    @asynccontextmanager
    async def serve(self, receive: Receive, lost: Callable[[int], None]) -> AsyncGenerator[Holding]:
        """Delivers the mail of all shards; see ``Mail.serve``."""
        service = _Service(self, receive, lost)
        await service.take_over()
        try:
            yield service
        except asyncio.CancelledError:
            service.end(left=True)
            raise
        except BaseException:
            service.end(left=False)
            raise
        service.end(left=True)

    def waiting(self, box: Box) -> list[bytes]:
        """The bodies of all messages in a mailbox, delivered or not, for whoever looks; empty where it was put aside."""
        return [message.body for message in self._waiting[box].values()]

    def letters(self) -> list[_Letter]:
        return [*self._waiting["in"].values(), *self._waiting["act"].values()]

    def last_sequences(self) -> dict[Box, int]:
        return dict(self._last)

    async def read(self, box: Box, sequence: int) -> bytes | None:
        """The body of a message that waits; None when it does not."""
        message = self._waiting[box].get(sequence)
        if message is None:
            return None
        if BLOB in message.headers:
            return await self._bodies.find(message.address, message.headers)
        return message.body

    async def remove(self, box: Box, sequence: int) -> None:
        message = self._waiting[box].pop(sequence, None)
        if message is not None:
            self._counts[message.address] -= box == "in"
            await self._bodies.remove(message.address, message.headers)

    def _put(self, box: Box, address: Address, body: bytes, headers: Headers) -> int:
        self._last[box] += 1
        message = _Letter(box, address, self._last[box], headers, bytes(body))
        self._waiting[box][message.sequence] = message
        self._counts[address] += box == "in"
        if self.serving is not None:
            self.serving.deliver(message)
        return message.sequence

    def _cancel_all(self, address: Address) -> None:
        for owner, timer in list(self._timers):
            if owner == address:
                self._cancel(owner, timer)

    def _cancel(self, address: Address, timer: str) -> None:
        handle = self._timers.pop((address, timer), None)
        if handle is not None:
            handle.cancel()

    def _earlier(self, message_id: str) -> int | None:
        """The sequence of a message with this id within the de-duplication window."""
        now = time.monotonic()
        for known, (_, posted) in list(self._known.items()):
            if now - posted <= DEDUPLICATION_S:
                break
            del self._known[known]
        sequence, _ = self._known.get(message_id, (None, 0.0))
        return sequence


class _Service:
    """Whoever serves: all shards are its own, or none."""

    def __init__(self, mail: MemoryMail, receive: Receive, lost: Callable[[int], None]) -> None:
        self.mail = mail
        self.epoch = 0
        self._receive = receive
        self._lost = lost
        self._suspect_up_to: dict[Box, int] = {}

    async def take_over(self) -> None:
        """Takes all shards over, also once more; see ``Holding.take_over``."""
        earlier, self.mail.serving = self.mail.serving, self
        self.epoch += 1
        if earlier is not self:
            unclean = earlier is not None or self.mail.abandoned
            self.mail.abandoned = False
            self._suspect_up_to = self.mail.last_sequences() if unclean else {}
            if earlier is not None:
                earlier.lose()
        for message in self.mail.letters():
            self.deliver(message)

    async def holds(self, shard: int) -> bool:
        """Whether it is the last who took the shards over."""
        return shard in range(SHARDS) and self.is_last()

    def is_last(self) -> bool:
        return self.mail.serving is self

    def lose(self) -> None:
        for shard in range(SHARDS):
            self._lost(shard)

    def end(self, *, left: bool) -> None:
        """Serves no more; ``left`` says whether by its own will."""
        if self.is_last():
            self.mail.serving = None
            self.mail.abandoned = not left

    def deliver(self, message: _Letter) -> None:
        delivery = MemoryDelivery(message, self, suspect=message.sequence <= self._suspect_up_to.get(message.box, 0))
        epoch = self.epoch

        def hand_over() -> None:
            if self.is_last() and self.epoch == epoch:
                self._receive(delivery)

        asyncio.get_running_loop().call_soon(hand_over)
