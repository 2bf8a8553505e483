"""Talking to the actors of an application from anywhere: a script, a web handler, a test, the node itself."""

import asyncio
import secrets
from collections import OrderedDict
from itertools import count
from typing import Protocol

import msgspec

from regrow.actors.actor import Actor
from regrow.actors.administration import Administration
from regrow.actors.asking import ask, post, query
from regrow.actors.deadlines import Deadlines
from regrow.actors.definition import definition_of
from regrow.actors.handler import Handler
from regrow.actors.local_limit import seconds_left
from regrow.actors.records import Letter, Outcome
from regrow.actors.ref import ASK_TIMEOUT_S, Ref
from regrow.bus import Address, Bus, headers
from regrow.bus.port import CLAIM_BYTES_MAX

TOLD_KEPT = 10_000
"""Actors of whom the client remembers how far it has told them; an ask to one that is forgotten may overtake what was told."""


class Here(Protocol):
    """The host of the same process."""

    def ask(self, address: Address, letter: Letter) -> asyncio.Future[Outcome | None] | None: ...
    def in_seq(self, address: Address) -> int: ...


class Client:
    """Asks and tells through an application's bus. Made by ``System.connect``, and by a node for itself.

    In the node's own process an ask goes straight to its actor, when that is there and has taken all that this client told it.
    """

    def __init__(self, bus: Bus, here: Here | None = None) -> None:
        self._bus = bus
        self._here = here
        self._told: OrderedDict[Address, int] = OrderedDict()
        self._deadlines = Deadlines()
        self._nonce = secrets.token_hex(12)
        self._numbers = count()

    @property
    def administration(self) -> Administration:
        """What operators do: look at actors, delete them, decide on dead letters."""
        return Administration(self._bus)

    def ref(self, kind: type[Actor], key: str) -> Ref:
        """A reference to the actor of that kind and key."""
        return Ref(definition_of(kind), key, self)

    async def ask(self, to: Address, handler: Handler, body: bytes, timeout_s: float) -> Outcome:
        """Through the durable mailbox, so that the message survives whatever happens to the actor; queries go direct.

        In a handler of a local actor that serves an ask, it ends with that ask at the latest.
        """
        timeout_s = seconds_left(timeout_s, to)
        if not handler.queued:
            return await query(self._bus, to, body, timeout_s)
        message_id = self._next_id()
        answer = self._ask_here(to, message_id, body)
        if answer is not None:
            self._deadlines.add(answer, timeout_s, str(to))
            outcome = await answer
            if outcome is not None:
                return outcome
        return await ask(self._bus, "in", to, body, {headers.ID: message_id}, timeout_s)

    async def tell(self, to: Address, body: bytes) -> None:
        """Into the durable mailbox, under an id of its own."""
        sequence = await post(self._bus, "in", to, body, {headers.ID: self._next_id()}, ASK_TIMEOUT_S)
        if self._here is not None:
            self._told.pop(to, None)
            self._told[to] = sequence
            if len(self._told) > TOLD_KEPT:
                self._told.popitem(last=False)

    def _ask_here(self, to: Address, message_id: str, body: bytes) -> "asyncio.Future[Outcome | None] | None":
        """The outcome of an actor of this process; None when the ask has to go through the mailbox, under the same id."""
        if self._here is None or len(body) > CLAIM_BYTES_MAX:
            return None
        told = self._told.get(to)
        if told is not None:
            if self._here.in_seq(to) < told:
                return None
            del self._told[to]
        return self._here.ask(to, Letter("in", 0, message_id, msgspec.Raw(body), type="direct"))

    def _next_id(self) -> str:
        """An id that nobody else has, nor can guess."""
        return f"{self._nonce}.{next(self._numbers)}"
