"""The turns of one loaded actor: each is attempted until one record of it is in the log, be it that it was given up."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import Any, Protocol

import msgspec
import structlog

from regrow.actors.actor import Actor, incarnate
from regrow.actors.asks import Asks
from regrow.actors.attempt import HandlerCancelled, TurnSuspended, attempt
from regrow.actors.crash_reports import Crash
from regrow.actors.dead_letter import bury
from regrow.actors.dry_run import replay_once
from regrow.actors.errors import CANCELLED, POISON, TOO_LARGE, Drift, Failure, Refused, failure
from regrow.actors.fold import state_json
from regrow.actors.image import Image, Open
from regrow.actors.message import Message
from regrow.actors.policy import Policy, defect, refusal, tries_again
from regrow.actors.quarantine import ALONE_FROM
from regrow.actors.records import Begun, Drifted, Entry, Failed, Letter, Outcome, Position, Started, Turn
from regrow.actors.recovered import Recovered
from regrow.actors.start import Start, Starting
from regrow.actors.step import steps_behind
from regrow.actors.tool import Remote
from regrow.actors.turn import RunningTurn, closing
from regrow.bus import Address, Bus, PayloadTooLarge
from regrow.supervisor import Crashed, Exit, Poison, StartFailed

_log = structlog.get_logger(__name__)


class Activation(Protocol):
    """The cell whose turns these are."""

    address: Address
    bus: Bus
    asks: Asks
    policy: Policy
    act_passed: int
    """All ordinary mail of ACT up to this sequence has been taken."""
    cause: Exit | None
    """How its last life ended."""
    restarts: int
    failing: bool
    """Whether it counts as failing, until a turn ends well."""

    def died(self, cause: Exit) -> None: ...
    def failed(self, error: Exception, *, given_up: bool) -> int: ...
    def report(self, crash: Crash) -> None: ...
    def did_well(self) -> None: ...
    def start(self, function: Callable[..., Awaitable[None]], *arguments: object) -> asyncio.Task[None]: ...
    def remote_tool(self, name: str) -> Remote | None: ...
    def port(self, name: str) -> Any: ...
    def count(self, what: str) -> None: ...
    def progressed(self) -> None: ...
    def begun(self, turn: RunningTurn) -> None: ...
    def now_ms(self) -> int: ...
    def away(self) -> AbstractAsyncContextManager[None]: ...
    async def promote(self, letter: Letter) -> Letter: ...


class Turns:
    """Runs handlers, and decides what is done about those that fail. Belongs to one copy of the log, and is dropped with it."""

    def __init__(self, cls: type[Actor], cell: Activation, held: Recovered) -> None:
        self.held = held
        self.address = cell.address
        self.bus = cell.bus
        self.asks = cell.asks
        self.start = cell.start
        self.remote_tool = cell.remote_tool
        self.port = cell.port
        self.count = cell.count
        self.away = cell.away
        self.now_ms = cell.now_ms
        self.promote = cell.promote
        self._cell = cell
        self._cls = cls
        self._definition = cls.__regrow__
        self._turn: RunningTurn | None = None
        self._failed: Exception | None = None
        self._has_hook = cls.on_start is not Actor.on_start
        self._to_begin = self._has_hook
        """Whether ``on_start`` comes before anything else."""
        self._recovered = held.fold.sequence > 0 and not held.image.deleted

    @property
    def image(self) -> Image:
        return self.held.image

    @property
    def running(self) -> RunningTurn | None:
        """The attempt whose handler runs now."""
        return self._turn

    async def begin(self) -> None:
        """Tells the actor that it lives, where its class wants to know and it was not told. Raises ``StartFailed``."""
        if not self._to_begin:
            return
        actor = self.held.reader()
        vars(actor)["_scope"] = Starting(self._definition.name, self.address, self.port)
        start = Start(self._cell.cause, self._cell.restarts, self._recovered)
        try:
            async with asyncio.timeout(self._cell.policy.recovery_timeout_s):
                await actor.on_start(start)
        except Exception as error:  # the supervised edge: a user's code, whose failure is that of a recovery
            raise StartFailed(str(self.address), Crashed(error)) from error
        self._to_begin = False

    async def run(self, letter: Letter, message: Message[Any]) -> Letter:
        """Attempts a turn until one is recorded. The letter as it is recorded: an ask of this process may have been promoted.

        Raises ``TurnSuspended``, ``StaleWriter`` when another writer was first, ``Drift``, and what keeps the log from being written.
        """
        while True:
            exhausted = _exhausted(self.image.opened, self._cell.policy)
            if exhausted is not None:
                return await self._give_up_open(letter, exhausted)
            if self._to_begin:
                await self.begin()
            turn = RunningTurn(self, self.held.working, letter, self.image.opened)
            turn.journal.stalled = self._stalled
            turn.cleanup_timeout_s = self._cell.policy.cleanup_timeout_s
            try:
                entry = await self._attempt(turn, message)
            except Exception as error:  # the supervised edge: whatever a user's handler raises is decided on here
                self.held.spoil()
                letter = turn.letter
                if isinstance(self._failed, PayloadTooLarge):
                    return await self.give_up(letter, failure(TOO_LARGE, str(self._failed)))
                if self._failed is not None:
                    raise self._failed from error
                if isinstance(error, TurnSuspended):
                    raise
                if turn.journal.drift is not None:
                    await self._set_aside(turn.journal.drift)
                    continue
                if turn.reason is not None:
                    return await self._end(letter, turn.reason, error)
                letter, again = await self._failure(letter, type(message).__name__, error)
                if not again:
                    return await self.give_up(letter, defect(error))
            else:
                await self._record(turn.letter, entry)
                if self._cell.failing:
                    self._cell.did_well()
                return turn.letter

    async def give_up(self, letter: Letter, failed: Failure) -> Letter:
        """A dead letter, and a turn that decided nothing but its failure."""
        self.held.spoil()
        self._failed = None
        await bury(self.bus, self.address, letter, failed)
        await self.append(closing(letter, Outcome(failure=failed), self.position_after(letter)))
        return letter

    async def _give_up_open(self, letter: Letter, exhausted: Failure) -> Letter:
        opened = self.image.opened
        if exhausted.kind == POISON and opened is not None:
            self._died(Poison(opened.starts - 1))
        return await self.give_up(letter, exhausted)

    def _died(self, cause: Exit) -> None:
        """A life of the actor has ended, though its log is still held here."""
        self._cell.died(cause)
        self._to_begin = self._has_hook

    async def count_start(self, letter: Letter, number: int) -> None:
        """Says in the log, before the handler runs, that it has been begun so many times: this message may be what kills."""
        log = (
            _log.warning if number >= ALONE_FROM else _log.debug
        )  # one death has as many witnesses as actors were at work
        log("a turn is begun again after its process died", actor=str(self.address), id=letter.id, start=number)
        await self.append(Begun(letter, number))

    async def append(self, entry: Entry) -> None:
        """One entry, in the log when this returns."""
        await self.held.writer.append(entry)

    def submit(self, *entries: Entry, at_once: bool = False) -> asyncio.Future[None]:
        """Hands entries to the log's writer. When one cannot be stored, the turn is cancelled where it stands.

        An entry that is too large is its author's affair, except for the turn's beginning, without which nothing holds.
        """
        return self.held.writer.submit(*entries, told=self._told, at_once=at_once)

    def has_changed_fields(self) -> bool:
        """Whether the running turn has assigned a field, where it is fields that are recorded."""
        return self._definition.persist == "fields" and self.held.changed_fields() is not None

    def position_after(self, letter: Letter) -> Position:
        """How far the mailboxes have been taken once this letter's turn is recorded."""
        return self.image.position_after(letter, self._cell.act_passed)

    def _told(self, entry: Entry, error: Exception | None) -> None:
        essential = isinstance(entry, Begun)
        if error is None:
            if not isinstance(entry, Begun | Started):  # what is only begun may be what kills
                self._cell.progressed()
            return
        if isinstance(error, PayloadTooLarge) and not essential:
            return
        self._failed = error
        if self._turn is not None:
            self._turn.abort()

    async def _attempt(self, turn: RunningTurn, message: Message[Any]) -> Turn:
        """Runs the handler once. A refusal is a reply and decides nothing else; other exceptions are the caller's to judge."""
        handler = self._definition.commands[type(message)]
        self._turn = turn
        self._cell.begun(turn)
        try:
            value = await attempt(turn, handler.method(turn.actor, message), straight=handler.straight)
            if self._failed is not None:
                raise self._failed
            turn.conclude()
            if self._definition.persist == "fields":
                vars(turn.actor)["_scope"] = None  # what a stray task assigns now would be in the next turn's record
                turn.events = [change] if (change := self.held.changed_fields()) is not None else []
            if self._cell.policy.check_folds:
                self.held.check(turn.events)
            reply = Outcome(value=handler.reply(value))
        except Refused as no:
            turn.journal.check_done()
            self.held.spoil()
            return closing(turn.letter, refusal(no), self.position_after(turn.letter))
        finally:
            self._turn = None
        if turn.goes_out and turn.letter.type == "direct":
            turn.letter = await self.promote(turn.letter)
        return turn.record(reply, self.position_after(turn.letter))

    async def _failure(self, letter: Letter, message: str, error: Exception) -> tuple[Letter, bool]:
        """Records a failed attempt and waits before the next one, if there should be one."""
        policy = self._cell.policy
        opened = self.image.opened or Open(letter)
        number = opened.attempts + 1
        again = tries_again(policy, error, number)
        self._died(Crashed(error))
        row = self._cell.failed(error, given_up=not again)
        self._cell.report(Crash(self.address, message, error, number, again))
        if letter.type == "direct":
            letter = await self.promote(letter)
        try:
            steps = (*opened.kept, *opened.steps)
            await self.append(Failed(letter, defect(error), number, steps_behind(error, steps)))
        except PayloadTooLarge:
            return letter, False  # the message itself is so large that its attempts cannot be counted
        if again:
            await self._pause(policy.backoff.delay_s(number - 1 + row, random.random()), give_place=row > 0)
            await self.asks.relay_again()  # the end of the attempt may have cut one off on its way
        return letter, again

    async def _pause(self, wait_s: float, *, give_place: bool) -> None:
        """Waits; where that may be long, others of the kind have the actor's place meanwhile."""
        async with self.away() if give_place else nullcontext():
            await asyncio.sleep(wait_s)

    def _stalled(self) -> None:
        """New outcomes wait for a recorded step that its task has not asked for yet."""
        if self._turn is not None:
            self.start(self._look_ahead, self._turn)

    async def _look_ahead(self, turn: RunningTurn) -> None:
        """A replay tells whether the step can ever be asked for."""
        opened = self.image.opened
        assert opened is not None
        message = self._definition.decode_message(turn.letter.body)
        opened = msgspec.structs.replace(opened, steps=list(opened.steps))
        state = self._definition.decode_state(msgspec.Raw(state_json(self.held.fold.actor)))
        copy = partial(incarnate, self._cls, state, self.address.key)
        drift, error = await asyncio.to_thread(replay_once, self.port, self.address, copy, opened, message)
        if drift is not None and error is None and turn is self._turn:
            turn.journal.end_waiting(drift)

    async def _end(self, letter: Letter, reason: str, error: Exception) -> Letter:
        """The turn of a handler that was cancelled from outside decides nothing but that."""
        log = _log.info if isinstance(error, HandlerCancelled) else _log.warning
        log("a turn was cancelled", actor=str(self.address), id=letter.id, reason=reason, error=type(error).__name__)
        cancelled = Outcome(failure=failure(CANCELLED, f"the turn was cancelled: {reason}"))
        await self.append(closing(letter, cancelled, self.position_after(letter)))
        return letter

    async def _set_aside(self, drift: Drift) -> None:
        """What does not fit the handler any more is set aside, where the policy says so; else it is raised."""
        if self._cell.policy.on_drift == "park":
            raise drift
        _log.warning("recorded steps are set aside", actor=str(self.address), why=drift.why)
        await self.append(Drifted(drift.why))
        await self.asks.relay_again()

    async def _record(self, letter: Letter, entry: Turn) -> None:
        try:
            await self.append(entry)
        except PayloadTooLarge as large:
            self.held.spoil()
            failed = failure(TOO_LARGE, str(large))
            await self.append(closing(letter, Outcome(failure=failed), self.position_after(letter)))


def _exhausted(opened: Open | None, policy: Policy) -> Failure | None:
    """Why an open turn is not attempted once more; None when it is."""
    if opened is None:
        return None
    if opened.failure is not None and opened.attempts >= policy.attempts_max:
        return opened.failure
    if opened.starts > policy.deaths_max:
        deaths = opened.starts - 1
        return failure(POISON, f"{deaths} processes died one after the other while they were at this message")
    return None
