"""References: how anybody, anywhere, talks to an actor."""

from typing import Any, Protocol, TypeVar

from regrow.actors.definition import Definition
from regrow.actors.errors import raise_failure
from regrow.actors.handler import Handler
from regrow.actors.message import Message
from regrow.actors.records import Outcome
from regrow.bus import Address, check_address, decode, encode

R = TypeVar("R")

ASK_TIMEOUT_S = 30.0
"""How long an ask waits when nothing else is said."""


class Transport(Protocol):
    """The way from whoever holds a reference to the actor."""

    async def ask(self, to: Address, handler: Handler, body: bytes, timeout_s: float) -> Outcome: ...
    async def tell(self, to: Address, body: bytes) -> None: ...


class Ref:
    """A durable actor, by kind and key, whether it runs or not."""

    __slots__ = ("_definition", "_transport", "address")

    def __init__(self, definition: Definition, key: str, transport: Transport) -> None:
        self._definition = definition
        self._transport = transport
        self.address = check_address(Address(self._definition.kind, key))

    def __repr__(self) -> str:
        return f"Ref({self.address})"

    async def ask(self, message: Message[R], *, timeout_s: float = ASK_TIMEOUT_S) -> R:
        """The actor's reply, typed by the message.

        Inside a handler an ask is a step: recorded once, answered from the log after a crash. Raises ``Refused`` when the
        actor says no, ``AskFailed`` when it cannot answer, ``AskTimeout`` when no reply came within ``timeout_s`` seconds
        (the message stays in its mailbox), ``WouldDeadlock`` when the actor waits for this very ask, ``MailboxFull``.
        """
        handler = self._definition.handler(message)
        outcome = await self._transport.ask(self.address, handler, encode(message), timeout_s)
        if outcome.failure is not None:
            raise_failure(outcome.failure)
        reply: R = decode(outcome.value or b"null", handler.returns, f"reply of {self.address}")
        return reply

    async def tell(self, message: Message[Any]) -> None:
        """Puts a message into the actor's durable mailbox; returns once it is stored there. Raises ``MailboxFull``."""
        self._definition.handler(message)
        await self._transport.tell(self.address, encode(message))
