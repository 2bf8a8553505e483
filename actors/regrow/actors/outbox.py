"""Letting out what a turn decided: after its record, again after a crash, in order for each receiver.

Everything here may be done twice: the server drops a relay that it has had within its window, the receiver one that its mark has
passed, and a reply or a timer that is not waited for has no effect.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from itertools import islice

import msgspec
import structlog

from regrow.actors.errors import FORBIDDEN, TOO_LARGE, Failure, failure
from regrow.actors.image import Answer, Outbox, PendingAsk, timer_id
from regrow.actors.records import Outcome, Send, TimerSet
from regrow.actors.wire import (
    address_of,
    answer_message,
    ask_headers,
    relay_headers,
    relay_id,
    timer_headers,
    wake_headers,
)
from regrow.bus import AccessDenied, Address, Bus, BusError, PayloadTooLarge
from regrow.bus.api import alone
from regrow.bus.subjects import log_number

_log = structlog.get_logger(__name__)

AT_ONCE = 64
"""Receivers to whom one actor relays at once."""
RETRY_PAUSE_S = 0.5


class Undeliverable(msgspec.Struct, frozen=True):
    """A send or a timer that its server refuses for good."""

    receiver: Address
    id: str
    body: msgspec.Raw
    failure: Failure
    index: int | None = None
    """Which of the outbox's sends; None for a timer."""


GiveUp = Callable[[Undeliverable], Awaitable[None]]
"""Told of what can never be delivered; what stands behind it leaves when this returns."""


async def let_out(bus: Bus, sender: Address, outbox: Outbox, give_up: GiveUp) -> None:
    """Returns once everything is with the server, or has been given up for good."""
    if outbox.answer is not None:
        await answer_ask(bus, outbox.answer)
    await _each(partial(_end_timer, bus, sender, timer) for timer in outbox.over)
    await _each(partial(_set_timer, bus, sender, outbox, index, give_up) for index in range(len(outbox.timers)))
    by_receiver: defaultdict[Address, list[tuple[int, Send]]] = defaultdict(list)
    for index, send in enumerate(outbox.sends):
        if index not in outbox.failed:
            by_receiver[Address(send.kind, send.key)].append((index, send))
    await _each(partial(_deliver, bus, sender, outbox, *each, give_up) for each in by_receiver.items())


async def relay_ask(bus: Bus, sender: Address, pending: PendingAsk) -> Failure | None:
    """Returns once the ask is in its receiver's mailbox; the failure when it never can be."""
    asked = pending.asked
    message_id = relay_id(bus.epoch, log_number(sender), *pending.mark)
    given = ask_headers(sender, asked, message_id)
    return await _post(bus, sender, Address(*asked.to), bytes(asked.body), given, message_id)


async def set_wake(bus: Bus, actor: Address, timer: str, due_ms: int) -> None:
    """The message that ends a wait of this actor's open turn at that time. Raises what the bus raises."""
    await bus.mail.schedule(actor, timer, b"null", wake_headers(timer), at_ns=due_ms * 1_000_000)


async def _deliver(
    bus: Bus,
    sender: Address,
    outbox: Outbox,
    receiver: Address,
    sends: list[tuple[int, Send]],
    give_up: GiveUp,
) -> None:
    """One receiver's sends: the next one leaves after the acknowledgement of the one before, for the receiver knows them by a
    mark that only rises."""
    for index, send in sends:
        message_id = relay_id(bus.epoch, log_number(sender), outbox.sequence, outbox.first + index)
        given = relay_headers(sender, outbox.sent_ms, message_id)
        refused = await _post(bus, sender, receiver, bytes(send.body), given, message_id)
        if refused is not None:
            await give_up(Undeliverable(receiver, message_id, send.body, refused, index))


async def answer_ask(bus: Bus, answer: Answer) -> None:
    """The reply to a durable ask; one that cannot be sent is replaced by the failure that says so."""
    asker = address_of(answer.to)
    body, given, message_id = answer_message(answer)
    refused = await _post(bus, asker, asker, body, given, message_id)
    if refused is not None:
        body, given, message_id = answer_message(Answer(answer.to, answer.id, Outcome(failure=refused)))
        await _post(bus, asker, asker, body, given, message_id)


async def _end_timer(bus: Bus, owner: Address, timer: str) -> None:
    await _until_done(owner, lambda: bus.mail.unschedule(owner, timer))


async def _set_timer(bus: Bus, owner: Address, outbox: Outbox, index: int, give_up: GiveUp) -> None:
    change: TimerSet = outbox.timers[index]
    if not change.at_ms:
        return
    timer = timer_id(outbox.sequence, index)
    given, body, at_ns = timer_headers(change.name, timer), bytes(change.body), change.at_ms * 1_000_000
    refused = await _until_done(owner, lambda: bus.mail.schedule(owner, timer, body, given, at_ns=at_ns))
    if refused is not None:
        await give_up(Undeliverable(owner, timer, change.body, refused))


async def _post(
    bus: Bus, sender: Address, receiver: Address, body: bytes, given: Mapping[str, str], message_id: str
) -> Failure | None:
    """Posts until it is stored; the failure when it never can be."""
    return await _until_done(sender, lambda: bus.mail.post("act", receiver, body, given, message_id=message_id))


async def _until_done(actor: Address, act: Callable[[], Awaitable[object]]) -> Failure | None:
    """Does something at the server, again and again while that is away; the failure when it is refused for good."""
    while True:
        try:
            await act()
            return None
        except PayloadTooLarge as error:
            return failure(TOO_LARGE, str(error))
        except AccessDenied as error:
            return failure(FORBIDDEN, str(error))
        except BusError as error:
            _log.warning("what a turn decided is not out yet", actor=str(actor), error=str(error))
            await asyncio.sleep(RETRY_PAUSE_S)


async def _each(work: Iterator[Callable[[], Awaitable[None]]]) -> None:
    """Does all of it, ``AT_ONCE`` at a time."""
    first = list(islice(work, AT_ONCE))
    if len(first) == 1:
        await first[0]()
    elif first:

        async def some(act: Callable[[], Awaitable[None]]) -> None:
            await act()
            for each in work:
                await each()

        with alone(first=True):  # whoever waits knows what to do about one error, such as a StaleWriter
            async with asyncio.TaskGroup() as tasks:
                for act in first:
                    tasks.create_task(some(act))
