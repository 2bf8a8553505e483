"""A cell: one activated durable actor in this process, from its log to its last reply.

It takes one letter at a time: handler, one fenced record, reply, relays, acknowledgement, in this order. A cell that lost a race
for the log forgets what it holds, reads the log and lets the turn run again. It never dies of a user's exception.
"""

import asyncio
import random
from typing import Any, Protocol

import msgspec
import structlog

from regrow.actors.actor import Actor, incarnate
from regrow.actors.dead_letter import bury
from regrow.actors.errors import (
    DEFECT,
    DRIFT,
    REFUSED,
    TOO_LARGE,
    Drift,
    FoldDiffers,
    Refused,
    failure,
)
from regrow.actors.image import Fold, fold, state_json
from regrow.actors.lineage import Lineage, tracked
from regrow.actors.message import Message
from regrow.actors.outbox import relay
from regrow.actors.records import Entry, Failed, Letter, Outcome
from regrow.actors.step import current_handler
from regrow.actors.tool import Remote
from regrow.actors.turn import RunningTurn
from regrow.actors.wire import letter_of, reply_message, undecodable
from regrow.actors.writer import Writer
from regrow.bus import Address, Bus, BusError, Delivery, PayloadTooLarge, Undecodable, encode
from regrow.bus.subjects import Box
from regrow.supervisor import Backoff, Crashed, decide
from regrow.supervisor.spec import Restart

_log = structlog.get_logger(__name__)


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What is done about the failures of an actor's turns, and how much of it is kept at hand."""

    restart: Restart = "permanent"
    """``temporary``: a turn whose handler raised is not tried again."""
    backoff: Backoff = Backoff()
    attempts_max: int = 3
    """Attempts at one turn, counted in the log; then its message becomes a dead letter and the next one is taken."""
    snapshot_every: int = 500
    """Records after which the log is rolled up to one snapshot."""
    check_folds: bool = False
    """After every turn compare the state with the fold of the recorded events: for development and tests."""


class Surroundings(Protocol):
    """What a cell needs of its host."""

    bus: Bus
    policy: Policy

    def start(self, coroutine: Any) -> asyncio.Task[None]: ...
    def remote_tool(self, name: str) -> Remote | None: ...
    def port(self, name: str) -> Any: ...
    def count(self, what: str) -> None: ...


class Lost(Exception):
    """This copy of the actor is not the one whose appends are accepted."""


class Cell:
    """One actor's mail, state and turn in this process."""

    def __init__(self, cls: type[Actor], address: Address, host: Surroundings) -> None:
        self.address = address
        self.bus = host.bus
        self._cls = cls
        self._host = host
        self._mail: dict[tuple[Box, int], Delivery] = {}
        self._taking: Delivery | None = None
        self._fold: Fold | None = None
        self._writer: Writer | None = None
        self._working: Actor | None = None
        self._turn: RunningTurn | None = None
        self._lost: Exception | None = None
        self.broken = False

    @property
    def idle(self) -> bool:
        """Whether nothing is waiting and nothing runs."""
        return not self._mail and self._taking is None

    def put(self, delivery: Delivery) -> None:
        """Adds a message; one that is here already (it came again after a takeover) only renews its acknowledgement."""
        if self._taking is not None and (self._taking.box, self._taking.sequence) == (delivery.box, delivery.sequence):
            self._taking = delivery
            return
        self._mail[delivery.box, delivery.sequence] = delivery

    async def drain(self) -> None:
        """Takes letter after letter until none is left. Raises only what no retry can mend."""
        while self._mail:
            try:
                await self._ready()
                self._taking = self._mail.pop(next(iter(self._mail)))
                await self._take(letter_of(self._taking))
                self._taking = None
            except Lost as lost:
                _log.info("stale copy dropped, reloading", actor=str(self.address), cause=str(lost))
                self.forget()
        if self._fold is not None and self._fold.image.records >= self._host.policy.snapshot_every:
            await self._roll_up()

    async def query(self, message: Message[Any]) -> Outcome:
        """A query's answer on the last committed state."""
        folded = await self._loaded()
        handler = self._cls.__regrow__.queries[type(message)]
        try:
            return Outcome(value=msgspec.Raw(encode(await handler.method(folded.actor, message))))
        except Refused as no:
            return Outcome(failure=failure(REFUSED, no.message, **no.data))
        except Exception as error:  # a user's handler: its failure is the answer
            return Outcome(failure=_defect(error))

    # What the running turn needs

    async def write(self, *entries: Entry) -> None:
        """Appends to this actor's log. When the copy turns out stale, the turn is cancelled where it stands."""
        assert self._writer is not None
        try:
            await self._writer.write(*entries)
        except PayloadTooLarge:
            raise
        except BusError as error:
            self._lost = error
            if self._turn is not None:
                self._turn.journal.close()
            raise asyncio.CancelledError from error

    def remote_tool(self, name: str) -> Remote | None:
        """How to call a tool that a tool agent serves."""
        return self._host.remote_tool(name)

    def port(self, name: str) -> Any:
        """What the system was given under this name."""
        return self._host.port(name)

    def count_step(self, *, replayed: bool) -> None:
        """Counts a step that was run, or answered from the log."""
        self._host.count("steps_from_log" if replayed else "steps_run")

    # One letter

    async def _take(self, letter: Letter) -> None:
        folded = await self._loaded()
        if folded.image.taken(letter):
            await self._repeat(folded, letter)
            return
        try:
            message = self._cls.__regrow__.decode_message(letter.body)
        except Undecodable as error:
            await self._refuse(letter, undecodable(error))
            return
        if type(message) not in self._cls.__regrow__.commands:
            await self._reply(letter, await self.query(message))
            await self._ack()
            return
        await self._run(letter, message)
        await self._settle(folded, letter)

    async def _ready(self) -> None:
        """Finishes what the log says was left over: sends not relayed, a turn not ended."""
        folded = await self._loaded()
        if folded.image.outbox is not None:
            await self._relay(folded)
        opened = folded.image.opened
        if opened is not None:
            await self._run(opened.letter, self._cls.__regrow__.decode_message(opened.letter.body))
            await self._settle(folded, opened.letter)

    async def _run(self, letter: Letter, message: Message[Any]) -> None:
        """Attempts a turn until one is recorded."""
        folded = await self._loaded()
        policy = self._host.policy
        while True:
            opened = folded.image.opened
            attempt = 1 + (opened.attempts if opened is not None else 0)
            try:
                turn, outcome = await self._attempt(folded, letter, message)
            except Exception as error:  # the supervised edge: whatever a user's handler raises is decided on here
                failed = _defect(error)
                retry = decide(policy.restart, Crashed(error)) == "restart" and attempt < policy.attempts_max
                _log.warning(
                    "turn failed",
                    actor=str(self.address),
                    error=repr(error),
                    attempt=attempt,
                    again=retry,
                    exc_info=not retry,
                )
                self._working = None
                await self._append(Failed(letter, failed, attempt))
                if retry:
                    await asyncio.sleep(policy.backoff.delay_s(attempt, random.random()))
                    continue
                await bury(self.bus, self.address, letter, failed)
                turn, outcome = self._new_turn(folded, letter), Outcome(failure=failed)
            try:
                await self._append(*turn.record(outcome, folded.image.position_after(letter)))
            except PayloadTooLarge as large:
                self._working = None
                turn = self._new_turn(folded, letter)
                await self._append(
                    *turn.record(Outcome(failure=failure(TOO_LARGE, str(large))), folded.image.position_after(letter))
                )
            self._check_fold(folded)
            return

    async def _attempt(self, folded: Fold, letter: Letter, message: Message[Any]) -> tuple[RunningTurn, Outcome]:
        """Runs the handler once. A refusal is a reply; every other exception is the caller's to judge."""
        handler = self._cls.__regrow__.commands[type(message)]
        turn = self._turn = self._new_turn(folded, letter)
        running = current_handler.set(turn)
        try:
            with tracked(Lineage()):
                value = await handler.method(self._working, message)
            return turn, Outcome(value=msgspec.Raw(encode(value)))
        except Refused as no:
            return turn, Outcome(failure=failure(REFUSED, no.message, **no.data))
        except asyncio.CancelledError:
            if self._lost is not None:
                raise Lost(str(self._lost)) from self._lost
            raise
        finally:
            current_handler.reset(running)
            turn.journal.close()
            self._turn = None

    def _new_turn(self, folded: Fold, letter: Letter) -> RunningTurn:
        if self._working is None:
            state = self._cls.__regrow__.decode_state(msgspec.Raw(state_json(folded.actor)))
            self._working = incarnate(self._cls, state, None)
        opened = folded.image.opened
        turn = RunningTurn(self, self._working, letter, opened.steps if opened else [], begun=opened is not None)
        vars(self._working)["_scope"] = turn
        return turn

    async def _append(self, *entries: Entry) -> None:
        try:
            await self.write(*entries)
        except asyncio.CancelledError:
            if self._lost is not None:
                raise Lost(str(self._lost)) from self._lost
            raise

    async def _settle(self, folded: Fold, letter: Letter) -> None:
        """After the record: the reply, the relays, and only then the acknowledgement."""
        await self._reply(letter, folded.image.reply_to(letter))
        if folded.image.outbox is not None:
            await self._relay(folded)
        await self._ack()

    async def _relay(self, folded: Fold) -> None:
        outbox = folded.image.outbox
        assert outbox is not None
        await relay(self.bus, self.address, outbox)
        folded.image.outbox = None

    async def _repeat(self, folded: Fold, letter: Letter) -> None:
        """A message whose turn is recorded: answered from the log, never run again."""
        await self._reply(letter, folded.image.reply_to(letter))
        await self._ack()

    async def _refuse(self, letter: Letter, outcome: Outcome) -> None:
        """A message that no build of this actor could read: it goes to the dead letters."""
        assert outcome.failure is not None
        await bury(self.bus, self.address, letter, outcome.failure)
        await self._reply(letter, outcome)
        await self._ack()

    async def _reply(self, letter: Letter, outcome: Outcome | None) -> None:
        if letter.reply and outcome is not None:
            body, given = reply_message(outcome)
            await self.bus.publish(letter.reply, body, given)

    async def _ack(self) -> None:
        if self._taking is not None:
            await self._taking.ack()

    # What the process holds of the log

    async def _loaded(self) -> Fold:
        if self._fold is None:
            self._fold = fold(self._cls, await self.bus.log.read(self.address))
            self._writer = Writer(self.bus.log, self.address, self._fold, self._host.start)
            self._host.count("recoveries")
        return self._fold

    async def _roll_up(self) -> None:
        assert self._fold is not None
        try:
            await self._append(self._fold.snapshot())
        except PayloadTooLarge as large:
            _log.warning("snapshot does not fit, the log stays as it is", actor=str(self.address), error=str(large))
            self._fold.image.records = 0

    def forget(self) -> None:
        """Drops the copy; the letter that was being taken goes first when the log has been read again."""
        if self._taking is not None:
            key: tuple[Box, int] = (self._taking.box, self._taking.sequence)
            self._mail = {key: self._taking, **self._mail}
        self._taking = self._fold = self._writer = self._working = self._lost = None

    def _check_fold(self, folded: Fold) -> None:
        if self._host.policy.check_folds and self._working is not None:
            held, recorded = state_json(self._working), state_json(folded.actor)
            if held != recorded:
                raise FoldDiffers(str(self.address), held.decode(), recorded.decode())


def _defect(error: Exception) -> Any:
    kind = DRIFT if isinstance(error, Drift) else DEFECT
    return failure(kind, f"{type(error).__name__}: {error}")
