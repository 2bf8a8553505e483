"""Getting a message into a mailbox, and a reply out of an actor, through lost answers and a restarting server.

The message is put into the mailbox again under the same id while it is unknown whether it is there, and while its reply does not
come (a reply goes by plain NATS and may be lost): the receiver knows the id and answers from its log.
"""

import asyncio
from collections.abc import Callable, Mapping

import structlog

from regrow.actors.errors import AskTimeout
from regrow.actors.records import Outcome
from regrow.actors.wire import outcome_of
from regrow.bus import Address, Box, Bus, MailboxFull, NoResponder, Request, RequestTimeout, Unreachable, headers

_log = structlog.get_logger(__name__)

RESEND_FIRST_S = 10.0
"""An ask without a reply is sent again after this time, then after twice as long each time."""
QUERY_FIRST_S = 2.0
"""A query without an answer is asked again after this time, then after twice as long each time: nodes that do not hold the
actor's shard hear it too and say nothing."""
RETRY_S = 0.25
TRANSIENT = (RequestTimeout, NoResponder, Unreachable)
"""What a mailbox says while its server restarts."""


async def post(bus: Bus, box: Box, to: Address, body: bytes, given: Mapping[str, str], timeout_s: float) -> int:
    """The sequence of the message, once it is in the mailbox. Its headers must hold an id, for it may be stored more than once.

    Raises ``MailboxFull``, ``PayloadTooLarge``, and what the bus raised last when ``timeout_s`` is over.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        try:
            return await bus.mail.post(box, to, body, given)
        except TRANSIENT as error:
            if loop.time() + RETRY_S > deadline:
                raise
            _log.warning("message not stored yet", actor=str(to), error=str(error))
        await asyncio.sleep(RETRY_S)


async def ask(bus: Bus, box: Box, to: Address, body: bytes, given: Mapping[str, str], timeout_s: float) -> Outcome:
    """The reply to a message with this id. Raises ``AskTimeout``, and what ``post`` raises when it was never stored."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    answer: asyncio.Future[Request] = asyncio.get_running_loop().create_future()
    async with bus.expect_reply(_settle(answer)) as subject:
        letter = {**given, headers.REPLY: subject}
        await post(bus, box, to, body, letter, timeout_s)
        pause_s = RESEND_FIRST_S
        while True:
            left_s = deadline - asyncio.get_running_loop().time()
            await asyncio.wait((answer,), timeout=max(0.0, min(pause_s, left_s)))
            if answer.done():
                return outcome_of(answer.result())
            if left_s <= pause_s:
                raise AskTimeout(str(to), timeout_s)
            pause_s *= 2
            try:
                await bus.mail.post(box, to, body, letter)
            except (*TRANSIENT, MailboxFull) as error:
                _log.warning("ask not repeated", actor=str(to), error=str(error))


async def query(bus: Bus, to: Address, body: bytes, timeout_s: float) -> Outcome:
    """A query's answer from whoever serves the actor's shard; asked again while nobody does. Raises ``AskTimeout``."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    wait_s = QUERY_FIRST_S
    while True:
        left_s = deadline - asyncio.get_running_loop().time()
        if left_s <= 0:
            raise AskTimeout(str(to), timeout_s)
        try:
            return outcome_of(await bus.request(bus.subjects.query(to), body, timeout_s=min(wait_s, left_s)))
        except RequestTimeout:
            wait_s *= 2  # whoever heard it may not have been the holder of the shard; or he takes his time
        except TRANSIENT as error:
            _log.debug("query not answered yet", actor=str(to), error=str(error))
            await asyncio.sleep(min(RETRY_S, left_s))


def _settle(answer: asyncio.Future[Request]) -> Callable[[Request], None]:
    def settle(reply: Request) -> None:
        if not answer.done():
            answer.set_result(reply)

    return settle
