"""A cell: one activated durable actor in this process, from its log to its last reply.

It takes one letter at a time: handler, one fenced record, reply, relays, acknowledgement, in this order. A cell that lost a race
for the log forgets what it holds, reads the log and lets the turn run again. It never dies of a user's exception.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Protocol

import msgspec
import structlog

from regrow.actors.actor import Actor, apply, incarnate, state_of
from regrow.actors.attempt import attempt
from regrow.actors.dead_letter import bury
from regrow.actors.errors import (
    TOO_LARGE,
    Drift,
    Failure,
    FoldDiffers,
    Refused,
    failure,
)
from regrow.actors.image import Fold, Open, fold, state_json
from regrow.actors.mailbox import Mailbox
from regrow.actors.message import Message
from regrow.actors.outbox import relay
from regrow.actors.policy import Policy, defect, refusal, tries_again
from regrow.actors.records import Begun, Entry, Failed, Letter, Outcome, Turn
from regrow.actors.slot import Slot
from regrow.actors.step import steps_behind
from regrow.actors.tool import Remote
from regrow.actors.turn import RunningTurn, closing
from regrow.actors.wire import letter_of, reply_message, undecodable
from regrow.actors.writer import Writer
from regrow.bus import Address, Box, Bus, Delivery, PayloadTooLarge, StaleWriter, Undecodable

_log = structlog.get_logger(__name__)

LETTERS_AT_ONCE = 64
"""Letters that an actor takes before another one of its kind has its turn, where they wait for one."""


class Surroundings(Protocol):
    """What a cell needs of its host."""

    bus: Bus
    policy: Policy

    def start(self, function: Callable[..., Awaitable[None]], *arguments: object) -> asyncio.Task[None]: ...
    def remote_tool(self, name: str) -> Remote | None: ...
    def port(self, name: str) -> Any: ...
    def count(self, what: str) -> None: ...


class Cell:
    """One actor's mail, state and turn in this process."""

    def __init__(self, cls: type[Actor], address: Address, host: Surroundings) -> None:
        self.address = address
        self.bus = host.bus
        self.trouble: Failure | None = None
        """Why the actor cannot go on for now."""
        self._cls = cls
        self._definition = cls.__regrow__
        self._host = host
        self._mail = Mailbox()
        self._taking: Delivery | None = None
        self._told: set[tuple[Box, int]] = set()
        self._loading = asyncio.Lock()
        self._fold: Fold | None = None
        self._writer: Writer | None = None
        self._working: Actor | None = None
        self._turn: RunningTurn | None = None
        self._failed: Exception | None = None
        self._slot: Slot | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing is waiting and nothing runs."""
        return not self._mail and self._taking is None

    def put(self, delivery: Delivery) -> None:
        """Adds a message; one that is here already (it came again after a takeover) only renews its acknowledgement."""
        if self._taking is not None and (self._taking.box, self._taking.sequence) == (delivery.box, delivery.sequence):
            self._taking = delivery
            return
        self._mail.put(delivery)

    async def drain(self, slot: Slot) -> None:
        """Takes letters, some if many wait. Raises only what makes the actor wait: no retry right now could mend it."""
        self._slot = slot
        for _ in range(LETTERS_AT_ONCE):
            if not self._mail:
                break
            try:
                await self._ready()
                self._taking = self._mail.take()
                await self._take(letter_of(self._taking))
                await self._ack()
                await self._roll_up()
            except StaleWriter as stale:
                _log.info("stale copy dropped, reloading", actor=str(self.address), cause=str(stale))
                self.forget()

    async def query(self, message: Message[Any]) -> Outcome:
        """A query's answer on the last committed state. Raises what stands in the way of reading the log."""
        folded = await self._loaded()
        reader = incarnate(self._cls, state_of(folded.actor), self.address.key)
        before, sequence = (state_json(reader) if self._host.policy.check_folds else b""), folded.sequence
        try:
            handler = self._definition.queries[type(message)]
            reply = handler.reply(await handler.method(reader, message))
            if before and folded is self._fold and folded.sequence == sequence and state_json(reader) != before:
                raise FoldDiffers(str(self.address), state_json(reader).decode(), before.decode())
            return Outcome(value=reply)
        except Refused as no:
            return refusal(no)
        except Exception as error:  # a user's handler: its failure is the answer
            return Outcome(failure=defect(error))

    async def complain(self) -> None:
        """Tells everybody who waits, once, why the actor cannot go on; the messages stay in its mailbox."""
        for delivery in (*self._mail, *([self._taking] if self._taking is not None else [])):
            if self.trouble is None or (delivery.box, delivery.sequence) in self._told:
                continue
            self._told.add((delivery.box, delivery.sequence))
            await self._reply(letter_of(delivery), Outcome(failure=self.trouble))

    def forget(self) -> None:
        """Drops the copy; the letter that was being taken goes first when the log has been read again."""
        if self._taking is not None:
            self._mail.put(self._taking)
        self._taking = self._fold = self._writer = self._working = self._failed = self.trouble = None

    # What the running turn needs

    def submit(self, entry: Entry) -> asyncio.Future[None]:
        """Hands an entry to the log's writer. When it cannot be stored, the turn is cancelled where it stands.

        An entry that is too large is its author's affair, except for the turn's beginning, without which nothing holds.
        """
        assert self._writer is not None
        stored = self._writer.submit(entry)
        stored.add_done_callback(partial(self._stored, isinstance(entry, Begun)))
        return stored

    def remote_tool(self, name: str) -> Remote | None:
        """How to call a tool that a tool agent serves."""
        return self._host.remote_tool(name)

    def port(self, name: str) -> Any:
        """What the system was given under this name."""
        return self._host.port(name)

    def away(self) -> AbstractAsyncContextManager[None]:
        """While the block runs, the actor does not count among the active ones: it only waits for another actor."""
        assert self._slot is not None
        return self._slot.away()

    def count_step(self, *, replayed: bool) -> None:
        """Counts a step that was run, or answered from the log."""
        self._host.count("steps_from_log" if replayed else "steps_run")

    def _stored(self, essential: bool, stored: asyncio.Future[None]) -> None:
        error = None if stored.cancelled() else stored.exception()
        if not isinstance(error, Exception) or (isinstance(error, PayloadTooLarge) and not essential):
            return
        self._failed = error
        if self._turn is not None:
            self._turn.abort()

    # One letter

    async def _take(self, letter: Letter) -> None:
        folded = await self._loaded()
        if folded.image.taken(letter):
            await self._reply(letter, folded.image.reply_to(letter))
            return
        try:
            message = self._definition.decode_message(letter.body)
        except Undecodable as error:
            await self._refuse(letter, undecodable(error))
            return
        if type(message) not in self._definition.commands:
            await self._reply(letter, await self.query(message))
            return
        await self._run(folded, letter, message)
        await self._settle(folded, letter)

    async def _ready(self) -> None:
        """Finishes what the log says was left over: sends not relayed, a turn not ended."""
        folded = await self._loaded()
        if folded.image.outbox is not None:
            await self._relay(folded)
        opened = folded.image.opened
        if opened is not None:
            await self._run(folded, opened.letter, self._definition.decode_message(opened.letter.body))
            await self._settle(folded, opened.letter)

    async def _run(self, folded: Fold, letter: Letter, message: Message[Any]) -> None:
        """Attempts a turn until one is recorded."""
        policy = self._host.policy
        while True:
            opened = folded.image.opened
            if opened is not None and opened.failure is not None and opened.attempts >= policy.attempts_max:
                await self._give_up(folded, letter, opened.failure)
                return
            turn = self._new_turn(folded, letter)
            try:
                entry = await self._attempt(folded, turn, letter, message)
            except Exception as error:  # the supervised edge: whatever a user's handler raises is decided on here
                self._working = None
                if isinstance(self._failed, PayloadTooLarge):
                    await self._give_up(folded, letter, failure(TOO_LARGE, str(self._failed)))
                    return
                if self._failed is not None:
                    raise self._failed from error
                if isinstance(error, Drift):
                    raise
                if not await self._failure(folded, letter, error):
                    await self._give_up(folded, letter, defect(error))
                    return
            else:
                await self._record(folded, letter, entry)
                return

    async def _attempt(self, folded: Fold, turn: RunningTurn, letter: Letter, message: Message[Any]) -> Turn:
        """Runs the handler once. A refusal is a reply and decides nothing else; other exceptions are the caller's to judge."""
        handler = self._definition.commands[type(message)]
        position = folded.image.position_after(letter)
        self._turn = turn
        try:
            value = await attempt(turn, handler.method(self._working, message))
            if self._failed is not None:
                raise self._failed
            turn.conclude()
            self._check_fold(folded, turn)
            return turn.record(Outcome(value=handler.reply(value)), position)
        except Refused as no:
            if turn.events:
                self._working = None
            return closing(letter, refusal(no), position)
        finally:
            self._turn = None

    async def _failure(self, folded: Fold, letter: Letter, error: Exception) -> bool:
        """Records a failed attempt and waits before the next one; False when there should be none."""
        policy = self._host.policy
        opened = folded.image.opened or Open(letter)
        number = opened.attempts + 1
        again = tries_again(policy, error, number)
        _log.warning(
            "turn failed",
            actor=str(self.address),
            attempt=number,
            again=again,
            error=repr(error),
            exc_info=None if again else error,
        )
        try:
            await self._append(
                Failed(letter, defect(error), number, steps_behind(error, (*opened.kept, *opened.steps)))
            )
        except PayloadTooLarge:
            return False  # the message itself is so large that its attempts cannot be counted
        if again:
            await asyncio.sleep(policy.backoff.delay_s(number - 1, random.random()))
        return again

    async def _give_up(self, folded: Fold, letter: Letter, failed: Failure) -> None:
        """A dead letter, and a turn that decided nothing but its failure."""
        self._working = self._failed = None
        await bury(self.bus, self.address, letter, failed)
        await self._append(closing(letter, Outcome(failure=failed), folded.image.position_after(letter)))

    async def _record(self, folded: Fold, letter: Letter, entry: Turn) -> None:
        try:
            await self._append(entry)
        except PayloadTooLarge as large:
            self._working = None
            failed = failure(TOO_LARGE, str(large))
            await self._append(closing(letter, Outcome(failure=failed), folded.image.position_after(letter)))

    def _new_turn(self, folded: Fold, letter: Letter) -> RunningTurn:
        if self._working is None:
            self._working = incarnate(self._cls, self._copied(folded), self.address.key)
        turn = RunningTurn(self, self._working, letter, folded.image.opened)
        vars(self._working)["_scope"] = turn
        return turn

    async def _append(self, entry: Entry) -> None:
        assert self._writer is not None
        await self._writer.submit(entry)

    async def _settle(self, folded: Fold, letter: Letter) -> None:
        """After the record: the reply and the relays; the acknowledgement comes only then."""
        await self._reply(letter, folded.image.reply_to(letter))
        if folded.image.outbox is not None:
            await self._relay(folded)

    async def _relay(self, folded: Fold) -> None:
        outbox = folded.image.outbox
        assert outbox is not None
        await relay(self.bus, self.address, outbox)
        folded.image.outbox = None

    async def _refuse(self, letter: Letter, outcome: Outcome) -> None:
        """A message that no build of this actor could read: it goes to the dead letters."""
        assert outcome.failure is not None
        await bury(self.bus, self.address, letter, outcome.failure)
        await self._reply(letter, outcome)

    async def _reply(self, letter: Letter, outcome: Outcome | None) -> None:
        """After the commit nothing may fail any more: a reply too large for the bus is said to be just that."""
        if letter.reply and outcome is not None:
            try:
                await self.bus.publish(letter.reply, *reply_message(outcome))
            except PayloadTooLarge as large:
                too_large = Outcome(
                    failure=failure(TOO_LARGE, f"the turn is recorded, but its reply is not sent: {large}")
                )
                await self.bus.publish(letter.reply, *reply_message(too_large))

    async def _ack(self) -> None:
        """Acknowledges the letter, and once more when it came again meanwhile under another acknowledgement."""
        acknowledged: Delivery | None = None
        while self._taking is not None and self._taking is not acknowledged:
            acknowledged = self._taking
            await acknowledged.ack()
        if self._taking is not None:
            self._told.discard((self._taking.box, self._taking.sequence))
        self._taking = None

    # What the process holds of the log

    async def _loaded(self) -> Fold:
        """The fold of the log; read once, whoever asks first."""
        async with self._loading:
            if self._fold is None:
                folded = fold(self._cls, self.address.key, await self.bus.log.read(self.address))
                self._writer = Writer(self.bus.log, self.address, folded, self._host.start)
                self._fold = folded
                self._host.count("recoveries")
            return self._fold

    async def _roll_up(self) -> None:
        """Replaces a long log by one snapshot."""
        folded = await self._loaded()
        if folded.image.records < self._host.policy.snapshot_every:
            return
        try:
            self._copied(folded)
            await self._append(folded.snapshot())
        except (PayloadTooLarge, Undecodable) as unfit:
            _log.error("snapshot does not fit, the log stays as it is", actor=str(self.address), error=str(unfit))
            folded.image.records = 0

    def _copied(self, folded: Fold) -> msgspec.Struct:
        """The committed state once more. Raises ``Undecodable`` when an event left in it what its types do not allow."""
        return self._definition.decode_state(msgspec.Raw(state_json(folded.actor)))

    def _check_fold(self, folded: Fold, turn: RunningTurn) -> None:
        """In a checked system, raises what a later recovery from the log would stumble over."""
        if not self._host.policy.check_folds or self._working is None:
            return
        recorded = incarnate(self._cls, self._copied(folded), self.address.key)
        for fact in turn.events:
            apply(recorded, self._definition.decode_event(fact))
        self._definition.decode_state(msgspec.Raw(state_json(recorded)))
        held, expected = state_json(self._working), state_json(recorded)
        if held != expected:
            raise FoldDiffers(str(self.address), held.decode(), expected.decode())
