"""Relaying what a turn sent: after its record, again after a crash, in order for each receiver."""

import asyncio
from collections import defaultdict

import structlog

from regrow.actors.dead_letter import bury
from regrow.actors.errors import TOO_LARGE, failure
from regrow.actors.image import Outbox
from regrow.actors.records import Letter, Send
from regrow.actors.wire import relay_id
from regrow.bus import Address, Bus, BusError, PayloadTooLarge, headers
from regrow.bus.subjects import escape, log_number

_log = structlog.get_logger(__name__)

RECEIVERS_AT_ONCE = 64
RETRY_PAUSE_S = 0.5


async def relay(bus: Bus, sender: Address, outbox: Outbox) -> None:
    """Returns once every send is in its receiver's mailbox, or in the dead letters when it never could be.

    The next send to one receiver leaves after the acknowledgement of the one before: the receiver knows relays by a mark that
    only rises.
    """
    by_receiver: defaultdict[Address, list[tuple[int, Send]]] = defaultdict(list)
    for index, send in enumerate(outbox.sends):
        by_receiver[Address(send.kind, send.key)].append((index, send))
    limit = asyncio.Semaphore(RECEIVERS_AT_ONCE)

    async def deliver(receiver: Address, sends: list[tuple[int, Send]]) -> None:
        async with limit:
            for index, send in sends:
                message_id = relay_id(bus.epoch, log_number(sender), outbox.sequence, index)
                await _post(bus, sender, receiver, message_id, send)

    async with asyncio.TaskGroup() as relays:
        for receiver, sends in by_receiver.items():
            relays.create_task(deliver(receiver, sends))


async def _post(bus: Bus, sender: Address, receiver: Address, message_id: str, send: Send) -> None:
    """Posts one send until it is stored: only what can never be stored is given up, and then it is kept as a dead letter."""
    given = {headers.ID: message_id, headers.SENDER: escape(str(sender))}
    while True:
        try:
            await bus.mail.post("act", receiver, bytes(send.body), given, message_id=message_id)
            return
        except PayloadTooLarge as error:
            letter = Letter("act", 0, message_id, send.body, sender=str(sender))
            await bury(bus, receiver, letter, failure(TOO_LARGE, str(error)))
            return
        except BusError as error:
            _log.warning("relay not stored yet", sender=str(sender), receiver=str(receiver), error=str(error))
            await asyncio.sleep(RETRY_PAUSE_S)
