"""A message out of a work queue, as the host has it: with its body, or without it for as long as it waits behind many others."""

from typing import Protocol

from nats.aio.msg import Msg

from regrow.bus.headers import BLOB, Headers
from regrow.bus.subjects import Address, Box, Subjects, check_address, shard_of


class Desk(Protocol):
    """Whoever handed the message over, and gets its body again or takes it out of its mailbox."""

    async def fetch(self, delivery: "JetStreamDelivery") -> bytes | None:
        """The body; None when the message is gone."""
        ...

    async def acknowledge(self, delivery: "JetStreamDelivery") -> None: ...


class JetStreamDelivery:
    """A message out of a work queue. Raises ValueError for one whose subject names no actor."""

    __slots__ = ("_desk", "_here", "address", "body", "box", "headers", "reply", "sequence", "shard", "suspect")

    def __init__(self, box: Box, sequence: int, message: Msg, desk: Desk, *, suspect: bool) -> None:
        self._desk = desk
        self.box: Box = box
        self.address: Address = check_address(Subjects.address(message.subject))
        self.shard = shard_of(self.address)
        self.sequence = sequence
        self.headers: Headers = message.headers or {}
        self.body: bytes = message.data
        self.suspect = suspect
        self.reply: str = message.reply
        """Where the acknowledgement goes; a later consumer of the same owner puts its own here."""
        self._here = BLOB not in self.headers

    def shed(self) -> None:
        """Forgets the body until it is fetched; see ``Delivery.shed``."""
        self._here = False
        self.body = b""

    async def fetch(self) -> bool:
        """Whether the message is still there, and its body here; see ``Delivery.fetch``."""
        if self._here:
            return True
        body = await self._desk.fetch(self)
        if body is None:
            return False
        self._here = True
        self.body = body
        return True

    async def ack(self) -> None:
        """Takes the message out of the mailbox; see ``Delivery.ack``."""
        await self._desk.acknowledge(self)
