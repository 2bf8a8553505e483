"""The letters of one actor in this process: those that wait, the one that is taken, and who is still to be answered.

A letter out of a mailbox stays there until it is acknowledged, so it is never lost here; it may come again, and then only renews its
acknowledgement. An ask of this process lies in no mailbox, until it is promoted into one or sent there by who asks.
"""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial

import msgspec
import structlog

from regrow.actors.errors import STORE, TOO_LARGE, Failure, failure
from regrow.actors.mailbox import Budget, Direct, Mailbox, Waiting
from regrow.actors.records import Letter, Outcome, Position
from regrow.actors.wire import is_timer, letter_of, promoted_headers, reply_message
from regrow.bus import AccessDenied, Address, Bus, BusError, Delivery, PayloadTooLarge
from regrow.bus.headers import ID, REPLY

_log = structlog.get_logger(__name__)

RETRY_PAUSE_S = 0.25


class Letters:
    """What has come for one actor."""

    __slots__ = ("_address", "_bus", "_promoted", "_told", "taking", "waiting")

    def __init__(self, address: Address, bus: Bus, budget: Budget) -> None:
        self.waiting = Mailbox(budget)
        self.taking: Waiting | None = None
        self._address = address
        self._bus = bus
        self._promoted: dict[str, Direct] = {}
        self._told: dict[int, None] = {}
        """Letters of the outside whose senders have heard of the trouble."""

    def put(self, delivery: Delivery) -> None:
        """Adds a letter; one that is here already (it came again after a takeover) only renews its acknowledgement."""
        if self._is_taking(delivery):
            self.taking = delivery
        else:
            self.waiting.put(delivery, timer=is_timer(delivery))

    def put_direct(self, direct: Direct) -> None:
        """Adds an ask of this process. Raises ``MailboxFull``."""
        self.waiting.put_direct(direct, self._address)

    def take(self) -> Waiting:
        """The next letter, which is being taken from now on."""
        self.taking = taken = self.waiting.take()
        return taken

    def put_back(self) -> None:
        """What was being taken is not: it goes first when letters are taken again."""
        taking, self.taking = self.taking, None
        if isinstance(taking, Direct):
            if taking.letter.type == "direct":  # promoted, it comes out of its mailbox
                self.waiting.put_back(taking)
        elif taking is not None:
            self.waiting.put(taking, timer=is_timer(taking))

    def clear(self) -> None:
        """The actor is somewhere else now: asks of this process have to follow it through its mailbox."""
        running = [self.taking] if isinstance(self.taking, Direct) else []
        self._settle((*self.waiting.clear(), *self._promoted.values(), *running))

    def end_taking(self) -> None:
        """Nothing is taken for now: asks of this process go to the mailbox, where the actor will find them."""
        self.taking = None
        self._settle((*self.waiting.take_direct(), *self._promoted.values()))

    async def drop_until(self, position: Position, outcome: Outcome) -> None:
        """Acknowledges what came out of a mailbox up to there, and ends the asks that lie there with this outcome."""
        for waiting in self.waiting.drop_until({"in": position.in_seq, "act": position.act_seq}):
            await waiting.ack()
        self._settle(self._promoted.values(), outcome)

    async def acknowledge(self, letter: Letter) -> None:
        """Acknowledges this letter wherever it waits once more."""
        for again in self.waiting.take_out(partial(_is_again, letter)):
            await again.ack()

    async def complain(self, trouble: Callable[[], Failure | None]) -> None:
        """Tells everybody who waits, once, why the actor cannot go on; the messages stay in its mailbox, or are put there."""
        taking = self.taking
        for delivery in (*self.waiting, *([] if taking is None or isinstance(taking, Direct) else [taking])):
            why = trouble()
            if why is None or delivery.box == "act" or delivery.sequence in self._told:
                continue
            self._told[delivery.sequence] = None
            await self.answer(letter_of(delivery), Outcome(failure=why))
        why = trouble()
        if why is not None and why.kind != STORE and isinstance(taking, Direct) and taking.letter.type == "direct":
            self.taking = None
            taking.settle(None)
        for direct in self.waiting.take_direct():
            direct.settle(None)  # in its mailbox the message outlives the trouble, and this process

    async def promote(self, letter: Letter) -> Letter:
        """Puts an ask of this process into the runtime's mailbox, where a takeover finds it. It overtakes what waits there."""
        body, given = bytes(letter.body), promoted_headers(letter)
        asked = self.taking
        while True:
            try:
                sequence = await self._bus.mail.post(
                    "act", self._address, body, given, message_id=f"direct.{letter.id}"
                )
                break
            except (PayloadTooLarge, AccessDenied):
                raise
            except BusError as error:
                _log.warning("an ask is not in its mailbox yet", actor=str(self._address), error=str(error))
                await asyncio.sleep(RETRY_PAUSE_S)
        promoted = msgspec.structs.replace(letter, box="act", sequence=sequence, type="promoted")
        if isinstance(asked, Direct) and asked is self.taking and asked.letter.id == letter.id:
            asked.letter = promoted  # not once its turn is over: a step that was left behind may have wanted this
            self._promoted[letter.id] = asked
        return promoted

    async def answer(self, letter: Letter, outcome: Outcome | None) -> None:
        """After the commit nothing may fail any more: a reply too large for the bus is said to be just that."""
        direct = self.taking if isinstance(self.taking, Direct) else self._promoted.pop(letter.id, None)
        if direct is not None and direct.letter.id == letter.id:
            self._promoted.pop(letter.id, None)
            direct.settle(outcome)
        if letter.reply and outcome is not None:
            try:
                await self._bus.publish(letter.reply, *reply_message(outcome))
            except PayloadTooLarge as large:
                too_large = Outcome(
                    failure=failure(TOO_LARGE, f"the turn is recorded, but its reply is not sent: {large}")
                )
                await self._bus.publish(letter.reply, *reply_message(too_large))

    async def ack(self) -> None:
        """Acknowledges the letter, and once more when it came again meanwhile under another acknowledgement."""
        acknowledged: Delivery | None = None
        while self.taking is not None and not isinstance(self.taking, Direct) and self.taking is not acknowledged:
            acknowledged = self.taking
            await acknowledged.ack()
        if acknowledged is not None:
            self._told.pop(acknowledged.sequence, None)
        self.taking = None

    def _is_taking(self, delivery: Delivery) -> bool:
        taking = self.taking
        if taking is None or isinstance(taking, Direct):
            return False
        return (taking.box, taking.sequence) == (delivery.box, delivery.sequence)

    def _settle(self, asks: Iterable[Direct], outcome: Outcome | None = None) -> None:
        """Ends these asks of this process; none is known as promoted any more."""
        for direct in tuple(asks):
            direct.settle(outcome)
        self._promoted.clear()


def _is_again(letter: Letter, delivery: Delivery) -> bool:
    """Whether this is the letter once more: delivered again, or sent again under its id by who waits for the same reply."""
    if (delivery.box, delivery.sequence) == (letter.box, letter.sequence):
        return True
    given = delivery.headers
    return delivery.box == letter.box == "in" and given.get(ID) == letter.id and given.get(REPLY, "") == letter.reply
