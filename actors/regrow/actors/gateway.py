"""The gateway: core requests from any language, checked and put into the durable mailbox; the actor's host replies."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from uuid import uuid4

from regrow.actors.client import query
from regrow.actors.definition import Definition, UnknownType
from regrow.actors.errors import BUSY, DEFECT, TOO_LARGE, UNDECODABLE, UNKNOWN, failure
from regrow.actors.records import Outcome
from regrow.actors.wire import reply_message, reply_subject
from regrow.bus import Bus, BusError, MailboxFull, PayloadTooLarge, Request, Undecodable, headers
from regrow.bus.subjects import Subjects
from regrow.supervisor import Start

REQUESTS_MAX = 2_000
"""Requests that are being put into mailboxes at once; the next one is answered with a busy error."""
QUERY_TIMEOUT_S = 30.0


class Gateway:
    """Serves ``rg.<app>.ask.<kind>.*`` for the application's durable kinds. One per node; NATS shares out the requests."""

    def __init__(self, bus: Bus, definitions: Mapping[str, Definition]) -> None:
        self._bus = bus
        self._definitions = definitions
        self._forwarding = 0

    async def run(self, start: Start) -> None:
        """Serves until cancelled; a supervisor's child."""
        async with AsyncExitStack() as serving, asyncio.TaskGroup() as tasks:

            def receive(request: Request) -> None:
                if self._forwarding >= REQUESTS_MAX:
                    tasks.create_task(
                        self._reply(request, Outcome(failure=failure(BUSY, "the gateway is busy: ask again later")))
                    )
                    return
                self._forwarding += 1
                tasks.create_task(self._forward(request))

            for kind in self._definitions:
                await serving.enter_async_context(
                    self._bus.serve(self._bus.subjects.asks(kind), receive, queue="gateway")
                )
            start.ready()
            await asyncio.Event().wait()

    async def _forward(self, request: Request) -> None:
        try:
            outcome = await self._accept(request)
        except BusError as error:
            outcome = Outcome(failure=failure(*_judge(error)))
        finally:
            self._forwarding -= 1
        if outcome is not None:
            await self._reply(request, outcome)

    async def _reply(self, request: Request, outcome: Outcome) -> None:
        if reply_subject(request.reply):
            body, given = reply_message(outcome)
            await self._bus.publish(request.reply, body, given)

    async def _accept(self, request: Request) -> Outcome | None:
        """Puts the message into the mailbox; None: the actor will reply. What cannot be handled is refused here."""
        address = Subjects.address(request.subject)
        definition = self._definitions[address.kind]
        message = definition.decode_message(request.body)
        if type(message) in definition.queries:
            return await query(self._bus, address, request.body, QUERY_TIMEOUT_S)
        given = {headers.ID: request.headers.get(headers.ID) or uuid4().hex, headers.REPLY: request.reply}
        await self._bus.mail.post("in", address, request.body, given)
        return None


def _judge(error: BusError) -> tuple[str, str]:
    match error:
        case UnknownType():
            return UNKNOWN, str(error)
        case Undecodable():
            return UNDECODABLE, str(error)
        case MailboxFull():
            return BUSY, str(error)
        case PayloadTooLarge():
            return TOO_LARGE, str(error)
        case _:
            return DEFECT, str(error)
