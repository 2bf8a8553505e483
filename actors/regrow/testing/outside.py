"""The client of a scenario: it lives outside of the process that dies, and does not give up."""

from collections import Counter
from contextlib import suppress
from typing import Any

import msgspec

from regrow.actors import Actor, AskTimeout, Ref
from regrow.actors.asking import ask, post, query
from regrow.actors.definition import definition_of
from regrow.actors.handler import Handler
from regrow.actors.records import Outcome
from regrow.actors.ref import ASK_TIMEOUT_S
from regrow.bus import Address, Bus, escape, headers


class Outside:
    """Asks and tells as a client with a connection of its own does: under an id, and again under the same one without an answer.

    The ids are the same in every run, so a scenario may start several asks at once, though not to the same actor.
    """

    def __init__(self, bus: Bus, *, resend_s: float | None = None) -> None:
        """``resend_s``: after which time without a reply it asks again, where not when an ordinary client would."""
        self.bus = bus
        """The server as the client sees it: for what is neither asked nor told, such as a message of another language."""
        self._resend_s = resend_s
        self.replies: dict[str, Any] = {}
        """What was answered to each ask, by its id: the value, or how it failed."""
        self._asked: Counter[Address] = Counter()

    def ref(self, kind: type[Actor], key: str) -> Ref:
        """A reference to an actor of the application."""
        return Ref(definition_of(kind), key, self)

    async def ask(self, to: Address, handler: Handler, body: bytes, timeout_s: float) -> Outcome:
        """The reply, however long it takes: ``timeout_s`` only says after which time a query is made anew."""
        if not handler.queued:
            return await self._query(to, body, timeout_s)
        message_id, timeout_s = self._next_id(to), self._resend_s or timeout_s
        while True:
            try:
                outcome = await ask(self.bus, "in", to, body, {headers.ID: message_id}, timeout_s)
            except AskTimeout:
                continue
            self.replies[message_id] = said(outcome)
            return outcome

    async def tell(self, to: Address, body: bytes) -> None:
        """Into the durable mailbox, once."""
        await post(self.bus, "in", to, body, {headers.ID: self._next_id(to)}, ASK_TIMEOUT_S)

    async def _query(self, to: Address, body: bytes, timeout_s: float) -> Outcome:
        while True:
            with suppress(AskTimeout):
                return await query(self.bus, to, body, timeout_s)

    def _next_id(self, to: Address) -> str:
        self._asked[to] += 1
        return f"{escape(to.kind)}.{escape(to.key)}.{self._asked[to]}"


def said(outcome: Outcome) -> Any:
    """An outcome as it is compared: the value, or kind, type and message of the failure."""
    if outcome.failure is not None:
        return {"failed": [outcome.failure.kind, outcome.failure.type, outcome.failure.message]}
    return msgspec.json.decode(outcome.value or b"null")
