"""The way to actors from outside the runtime: a script, a web handler, a test."""

import asyncio
from uuid import uuid4

from regrow.actors.actor import Actor
from regrow.actors.errors import AskTimeout
from regrow.actors.handler import Handler
from regrow.actors.records import Outcome
from regrow.actors.ref import Ref
from regrow.actors.wire import outcome_of
from regrow.bus import Address, Bus, NoResponder, Request, RequestTimeout, headers


class Client:
    """Asks and tells through an application's bus. Made by ``System.connect``."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def ref(self, kind: type[Actor], key: str) -> Ref:
        """A reference to the actor of that kind and key."""
        return Ref(kind, key, self)

    async def ask(self, to: Address, handler: Handler, body: bytes, timeout_s: float) -> Outcome:
        """Through the durable mailbox, so that the message survives whatever happens to the actor; queries go direct."""
        if handler.role == "query":
            return await self._query(to, body, timeout_s)
        answer: asyncio.Future[Request] = asyncio.get_running_loop().create_future()

        def settle(reply: Request) -> None:
            if not answer.done():
                answer.set_result(reply)

        async with self._bus.expect_reply(settle) as subject:
            await self._bus.mail.post("in", to, body, {headers.ID: uuid4().hex, headers.REPLY: subject})
            try:
                async with asyncio.timeout(timeout_s):
                    return outcome_of(await answer)
            except TimeoutError:
                raise AskTimeout(str(to), timeout_s) from None

    async def tell(self, to: Address, body: bytes) -> None:
        """Into the durable mailbox, under an id of its own."""
        await self._bus.mail.post("in", to, body, {headers.ID: uuid4().hex})

    async def _query(self, to: Address, body: bytes, timeout_s: float) -> Outcome:
        return await query(self._bus, to, body, timeout_s)


async def query(bus: Bus, to: Address, body: bytes, timeout_s: float) -> Outcome:
    """A query's answer from whoever serves the actor's shard; asked again while nobody does."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while True:
        left_s = deadline - asyncio.get_running_loop().time()
        if left_s <= 0:
            raise AskTimeout(str(to), timeout_s)
        try:
            return outcome_of(await bus.request(bus.subjects.query(to), body, timeout_s=left_s))
        except NoResponder:
            await asyncio.sleep(min(0.1, left_s))
        except RequestTimeout:
            raise AskTimeout(str(to), timeout_s) from None
