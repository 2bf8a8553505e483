"""Calling a tool that a tool agent serves, here or on another node: the call site does not know the difference."""

import asyncio

import msgspec

from regrow.actors.errors import TIMEOUT, TOO_LARGE, UNDECODABLE, Failure, failure
from regrow.actors.records import Outcome
from regrow.actors.step import StepContext
from regrow.actors.tool import Remote, Tool
from regrow.actors.wire import outcome_of, reply_message, reply_subject
from regrow.bus import (
    Bus,
    NoResponder,
    PayloadTooLarge,
    Request,
    RequestTimeout,
    Unreachable,
    escape,
    headers,
    unescape,
)

NO_RESPONDER_PAUSE_S = 0.1


def remote_call(bus: Bus) -> Remote:
    """A caller of tools that other actors of the application serve on the bus."""

    async def call(tool: Tool[..., object], arguments: bytes, context: StepContext) -> Outcome:
        """While nobody serves the tool (its agent restarts) the call waits; a call that was sent is never sent again here."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + tool.timeout_s
        given = {
            headers.ACTOR: escape(context.actor),
            headers.STEP: escape(context.key),
            headers.TURN_MESSAGE: escape(context.message) if context.message else "",
            headers.ATTEMPT: str(context.attempt),
        }
        while True:
            left_s = deadline - loop.time()
            try:
                return outcome_of(
                    await bus.request(bus.subjects.tool(tool.name), arguments, given, timeout_s=max(left_s, 0.001))
                )
            except (NoResponder, Unreachable) as nobody:  # nothing was sent
                if left_s <= 0:
                    message = f"no tool agent serves {tool.name}"
                    return Outcome(failure=Failure("network", 503, message, type=type(nobody).__name__))
                await asyncio.sleep(NO_RESPONDER_PAUSE_S)
            except RequestTimeout as late:
                return Outcome(failure=msgspec.structs.replace(failure(TIMEOUT, str(late)), type="TimedOut"))

    return call


async def answer_call(bus: Bus, tool: Tool[..., object], request: Request) -> None:
    """Runs a tool for a caller on the bus and replies with its outcome; one that does not fit a message is a failure."""
    try:
        context = _context(request)
    except ValueError as error:
        outcome = Outcome(failure=failure(UNDECODABLE, str(error)))
    else:
        outcome = await tool.execute(request.body, context)
    reply = reply_subject(request.reply)
    if not reply:
        return
    try:
        await bus.publish(reply, *reply_message(outcome))
    except PayloadTooLarge as large:
        await bus.publish(reply, *reply_message(Outcome(failure=failure(TOO_LARGE, str(large)))))


def _context(request: Request) -> StepContext:
    """The step for which a tool is called. Raises ValueError for headers that no turn has written."""
    given = request.headers
    actor, key = (unescape(given.get(name, "outside")) for name in (headers.ACTOR, headers.STEP))
    message = given.get(headers.TURN_MESSAGE, "")
    return StepContext(actor, key, int(given.get(headers.ATTEMPT, "1")), unescape(message) if message else "")
