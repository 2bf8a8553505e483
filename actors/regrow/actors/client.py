"""The way to actors from outside the runtime: a script, a web handler, a test."""

from uuid import uuid4

from regrow.actors.actor import Actor
from regrow.actors.asking import ask, post, query
from regrow.actors.definition import definition_of
from regrow.actors.handler import Handler
from regrow.actors.records import Outcome
from regrow.actors.ref import ASK_TIMEOUT_S, Ref
from regrow.bus import Address, Bus, headers


class Client:
    """Asks and tells through an application's bus. Made by ``System.connect``."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def ref(self, kind: type[Actor], key: str) -> Ref:
        """A reference to the actor of that kind and key."""
        return Ref(definition_of(kind), key, self)

    async def ask(self, to: Address, handler: Handler, body: bytes, timeout_s: float) -> Outcome:
        """Through the durable mailbox, so that the message survives whatever happens to the actor; queries go direct."""
        if handler.role == "query":
            return await query(self._bus, to, body, timeout_s)
        return await ask(self._bus, "in", to, body, {headers.ID: uuid4().hex}, timeout_s)

    async def tell(self, to: Address, body: bytes) -> None:
        """Into the durable mailbox, under an id of its own."""
        await post(self._bus, "in", to, body, {headers.ID: uuid4().hex}, ASK_TIMEOUT_S)
