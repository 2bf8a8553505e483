"""The gateway: core requests from any language, checked and put into the durable mailbox; the actor's host replies."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from uuid import uuid4

import structlog

from regrow.actors.asking import query
from regrow.actors.definition import Definition, UnknownType
from regrow.actors.errors import (
    BUSY,
    DEFECT,
    STORE,
    TIMEOUT,
    TOO_LARGE,
    UNDECODABLE,
    UNKNOWN,
    AskTimeout,
    failure,
)
from regrow.actors.records import Outcome
from regrow.actors.wire import reply_message, reply_subject
from regrow.bus import (
    Bus,
    BusError,
    MailboxFull,
    NoResponder,
    PayloadTooLarge,
    Request,
    RequestTimeout,
    StoreFull,
    Undecodable,
    Unreachable,
    check_address,
    headers,
)
from regrow.bus.subjects import Subjects
from regrow.supervisor import Start

_log = structlog.get_logger(__name__)

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
        except Exception as error:  # the edge to the outside: whatever is sent here, the gateway goes on
            outcome = Outcome(failure=failure(*_judge(error)))
        finally:
            self._forwarding -= 1
        if outcome is not None:
            await self._reply(request, outcome)

    async def _reply(self, request: Request, outcome: Outcome) -> None:
        if reply_subject(request.reply):
            body, given = reply_message(outcome)
            try:
                await self._bus.publish(request.reply, body, given)
            except BusError as error:
                _log.warning("reply not sent", subject=request.subject, error=str(error))

    async def _accept(self, request: Request) -> Outcome | None:
        """Puts the message into the mailbox; None: the actor will reply. What cannot be handled is refused here."""
        address = check_address(Subjects.address(request.subject))
        definition = self._definitions[address.kind]
        message = definition.decode_message(request.body)
        if not definition.handler(message).queued:
            return await query(self._bus, address, request.body, QUERY_TIMEOUT_S)
        given = {headers.ID: request.headers.get(headers.ID) or uuid4().hex, headers.REPLY: request.reply}
        await self._bus.mail.post("in", address, request.body, given)
        return None


def _judge(error: Exception) -> tuple[str, str]:
    match error:
        case AskTimeout():
            return TIMEOUT, str(error)
        case ValueError():
            return UNDECODABLE, str(error)
        case UnknownType():
            return UNKNOWN, str(error)
        case Undecodable():
            return UNDECODABLE, str(error)
        case MailboxFull():
            return BUSY, str(error)
        case PayloadTooLarge():
            return TOO_LARGE, str(error)
        case RequestTimeout() | Unreachable() | NoResponder() | StoreFull():
            return STORE, str(error)
        case _:
            _log.error("request failed in the gateway", error=repr(error), exc_info=error)
            return DEFECT, f"{type(error).__name__}: {error}"
