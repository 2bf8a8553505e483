"""A running turn: what a handler may do, and what it has decided so far."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import CodeType
from typing import Any, Protocol, TypeVar

import msgspec
import structlog

from regrow.actors.actor import Actor, Scope, apply
from regrow.actors.arguments import encode_arguments
from regrow.actors.asking import TRANSIENT, query
from regrow.actors.asks import Asks
from regrow.actors.cancelling import cancel_at
from regrow.actors.clock import RECORDED_FROM_S, sleep_on
from regrow.actors.definition import definition_of
from regrow.actors.errors import DEFECT, TIMEOUT, ActorError, AskTimeout, Drift, WouldDeadlock, failure
from regrow.actors.execution import execute
from regrow.actors.handler import Handler
from regrow.actors.image import Open
from regrow.actors.journal import Journal, digest
from regrow.actors.lineage import StepKey, current, root_path, track_again, untrack
from regrow.actors.message import Event, Message
from regrow.actors.records import (
    Asked,
    Begun,
    CancelAsked,
    Cancelled,
    Cause,
    Checkpoint,
    Entry,
    Letter,
    Outcome,
    Position,
    Send,
    Slept,
    Started,
    Step,
    Steps,
    TimerSet,
    Turn,
)
from regrow.actors.ref import Ref
from regrow.actors.step import Call, StepContext
from regrow.actors.tool import Remote
from regrow.actors.waits import Waits, keeps_time
from regrow.bus import Address, Bus, PayloadTooLarge, decode, encode
from regrow.bus.port import CLAIM_BYTES_MAX

T = TypeVar("T")

MANY_STEPS = 1_000
"""Steps of a turn, or since its last checkpoint, at which its actor is named in a warning."""
_log = structlog.get_logger(__name__)


class Office(Protocol):
    """What a turn needs of the actor's activation and its host."""

    address: Address
    bus: Bus
    asks: Asks

    def submit(self, *entries: Entry, at_once: bool = False) -> asyncio.Future[None]: ...
    async def promote(self, letter: Letter) -> Letter: ...
    def start(self, function: Callable[..., Awaitable[None]], *arguments: object) -> asyncio.Task[None]: ...
    def remote_tool(self, name: str) -> Remote | None: ...
    def port(self, name: str) -> Any: ...
    def away(self) -> AbstractAsyncContextManager[None]: ...
    def count(self, what: str) -> None: ...
    def now_ms(self) -> int: ...
    def has_changed_fields(self) -> bool: ...


class RunningTurn:
    """One attempt at one message. Its decisions are lost with it unless ``record`` is appended."""

    __slots__ = (
        "_begun",
        "_checkpoint",
        "_checkpoints",
        "_name",
        "_office",
        "_promoting",
        "_sends",
        "_spoiled",
        "_started",
        "_timers",
        "_warn_at",
        "actor",
        "address",
        "cancelling",
        "cleanup_timeout_s",
        "events",
        "journal",
        "left",
        "letter",
        "reason",
        "suspended",
        "task",
        "to_end",
        "waits",
    )

    def __init__(
        self, office: Office, incarnate: Callable[[Scope], Actor], letter: Letter, opened: Open | None
    ) -> None:
        self.address = office.address
        self.actor = incarnate(self)
        """The working copy that the handler sees."""
        self.letter = letter
        """The message; promoted, it lies in the runtime's mailbox."""
        steps, kept = (opened.steps, opened.kept) if opened is not None else ([], [])
        self._name = str(office.address)
        self.journal = Journal(self._name, steps, kept=kept)
        self._warn_at = MANY_STEPS - 1
        self._checkpoints = 0
        self._checkpoint: msgspec.Raw | None = None
        self._started: dict[str, Started] = {}
        if opened is not None:
            self._started = opened.started
            if opened.checkpoints:
                self._checkpoints, self._checkpoint = opened.checkpoints, opened.checkpoint
                self.journal.lineage.begin_anew(root_path(self._checkpoints))
        self.task: asyncio.Task[Any] | None = None
        """In which the handler runs; None for one that never waits."""
        self.events: list[msgspec.Raw] = []
        self._office = office
        self._begun = opened is not None
        self._promoting: asyncio.Task[None] | None = None
        self._sends: list[Send] = []
        self._timers: dict[str, TimerSet] = {}
        self._spoiled: Exception | None = None
        self.waits = Waits()
        self.reason: str | None = None
        """Why its handler was cancelled from outside."""
        self.to_end = opened.cancel if opened is not None else None
        """Why it has been asked to end before."""
        self.cancelling: asyncio.Task[None] | None = None
        self.cleanup_timeout_s = 30.0
        self.left: asyncio.Future[None] | None = None
        """Done when the handler has ended, or nobody waits for its end any more."""
        self.suspended: tuple[str, ...] = ()
        """Ids of the timers that end its waits, once it has been suspended."""

    def emit(self, event: Event) -> None:
        """Applies an event at once and keeps it for the record, as it will be read from there."""
        self._check_open("emit")
        definition = self.actor.__regrow__
        if type(event) not in definition.events:
            raise ActorError(f"{definition.name} has no @event method for {type(event).__name__}")
        recorded = msgspec.Raw(encode(event))
        read = definition.decode_event(recorded)
        try:
            apply(self.actor, read)
        except Exception as error:
            self._spoiled = error
            raise
        self.events.append(recorded)

    def send(self, to: Address, message: Message[Any]) -> None:
        """Keeps a message for the record. Raises ``PayloadTooLarge`` for one that no bus could carry."""
        self._check_open("send")
        self._sends.append(Send(to.kind, to.key, _body(message)))

    def set_timer(self, name: str, message: Message[Any], at_ms: int) -> None:
        """Keeps a timer for the record, in place of an earlier one of that name."""
        self._check_open("set_timer")
        definition = self.actor.__regrow__
        if type(message) not in definition.commands:
            raise ActorError(
                f"{definition.name} has no @command for {type(message).__name__}: its timer could do nothing"
            )
        self._timers.pop(name, None)
        self._timers[name] = TimerSet(name, max(at_ms, 1), _body(message))

    def cancel_timer(self, name: str) -> None:
        """Keeps for the record that there is no timer of this name any more."""
        self._check_open("cancel_timer")
        self._timers.pop(name, None)
        self._timers[name] = TimerSet(name)

    def ref(self, kind: type[Actor], key: str) -> Ref:
        """A reference whose asks are steps of this turn."""
        return Ref(definition_of(kind), key, self)

    def port(self, name: str) -> Any:
        """What the system was given under this name."""
        return self._office.port(name)

    def remote_tool(self, name: str) -> Remote | None:
        """How to call a tool that a tool agent serves; None for one that runs here."""
        return self._office.remote_tool(name)

    def step(self, call: Call) -> Awaitable[Outcome]:
        """The recorded outcome of this call, or that of running it now, which is recorded before it is returned. To be awaited
        at once.

        Cancelled, it records that before the cancellation goes on: a replay takes the same branch and never runs it again.
        """
        if self.journal.closed:
            return _ended()
        key = current().next_key(call.tool, f":{call.key}" if call.key else digest(call.arguments))
        self.journal.enter(key, pure=call.pure)
        self.waits.enter()
        try:
            recorded = self.journal.recorded(key, call.arguments)
        except Drift:
            self._leave(key)
            raise
        return self._run(key, call) if recorded is None else self._replay(key, call, recorded)

    async def ask(self, to: Address, handler: Handler, body: bytes, timeout_s: float) -> Outcome:
        """An ask as a step: recorded, then relayed, and answered by a message, so that either side may die meanwhile."""
        chain = (*self.letter.chain, str(self.address))
        if str(to) in chain and handler.queued:
            raise WouldDeadlock(str(to), chain)
        arguments = encode({"to": str(to), "message": msgspec.Raw(body)})
        answer = partial(self._query, to, body, timeout_s)
        if handler.queued:
            answer = partial(self._ask, to, body, timeout_s, chain)
        outcome = await self.step(Call("ask", arguments, answer))
        if outcome.failure is not None and outcome.failure.kind == TIMEOUT:
            raise AskTimeout(str(to), timeout_s)
        return outcome

    async def sleep(self, seconds: float) -> None:
        """Sleeps as a step; see ``Actor.sleep``."""
        await self.step(Call("sleep", encode({"seconds": seconds}), partial(self._sleep, seconds), pure=True))

    async def checkpoint(self, state: object) -> None:
        """Records what the handler needs to go on, and forgets its steps; see ``Actor.checkpoint``.

        Cancelled, it is recorded all the same before the cancellation goes on: the log may have it already.
        """
        self._check_checkpoint()
        if self.cancelling is not None:
            await (
                asyncio.get_running_loop().create_future()
            )  # it is about to be cancelled, behind what is recorded so far
        entry = Checkpoint(msgspec.Raw(encode_arguments(state, "checkpoint")))
        if self.letter.type == "direct":
            await self._promoted()
        stored = self._submit(entry)
        try:
            await asyncio.shield(stored)
        except asyncio.CancelledError:
            await self._through_cancellations(stored)
            if not self.journal.closed and stored.done() and not stored.cancelled() and stored.exception() is None:
                self._begin_anew(entry)
            raise
        self._begin_anew(entry)

    def checkpointed(self, kind: type[T]) -> T | None:
        """The state of the last checkpoint of this turn; None before the first one."""
        return None if self._checkpoint is None else decode(self._checkpoint, kind, "checkpoint")

    async def tell(self, to: Address, body: bytes) -> None:
        """Not offered inside a handler: ``self.send`` sends with the turn's record, once."""
        raise ActorError(
            f"inside a handler use self.send(ref, message) to tell {to}: it leaves with the turn's record, once"
        )

    def abort(self) -> None:
        """Ends the handler where it stands; nothing that it does from now on is recorded."""
        self.journal.close()
        if self.task is not None:
            self.task.cancel()

    async def end(self, asked: CancelAsked) -> bool:
        """Records that it has been asked to end, then cancels its handler. False when that has ended already."""
        if self.letter.type == "direct" and not self.journal.closed:
            await self._promoted()
        if self.journal.closed or self.task is None or self.task.done():
            return False
        if self.cancelling is None:
            position, stored = self.journal.place(), self._submit(asked)
            self.cancelling = asyncio.create_task(cancel_at(self, position, stored, asked.reason))
            await asyncio.shield(stored)
        return True

    def leave(self, _: object = None) -> None:
        """The handler has ended, or nobody waits for its end any more."""
        if self.left is not None and not self.left.done():
            self.left.set_result(None)

    def suspend(self, timers: tuple[str, ...]) -> None:
        """Ends the handler where it waits: whoever goes on with the turn goes on from there. These timers end its waits."""
        self.suspended = timers
        self.abort()

    def is_quiet(self, for_s: float) -> bool:
        """Whether the handler has only waited for that long, for what ends in a message."""
        quiet_s = self.waits.quiet_s()
        if quiet_s is None or quiet_s < for_s or self.task is None:
            return False
        return not keeps_time((self.task, *self.journal.lineage.family), _STEPS)

    def conclude(self) -> None:
        """Raises what makes a handler's result worthless although it returned one."""
        if self._spoiled is not None:
            raise ActorError("an event failed half-way and the handler went on") from self._spoiled
        self.journal.check_done()

    @property
    def goes_out(self) -> bool:
        """Whether the turn decided something that has to leave after its record, whoever is there to see to it."""
        return bool(self._sends or self._timers)

    def record(self, reply: Outcome, position: Position) -> Turn:
        """All that this turn decided, as the entry of its record."""
        at_ms = self._office.now_ms() if self._sends else 0
        return closing(
            self.letter,
            reply,
            position,
            events=tuple(self.events),
            sends=tuple(self._sends),
            timers=tuple(self._timers.values()),
            at_ms=at_ms,
        )

    async def _query(self, to: Address, body: bytes, timeout_s: float, context: StepContext) -> Outcome:
        try:
            async with self._office.away():
                return await query(self._office.bus, to, body, timeout_s)
        except (AskTimeout, *TRANSIENT) as late:
            return Outcome(failure=failure(TIMEOUT, str(late)))

    async def _ask(
        self, to: Address, body: bytes, timeout_s: float, chain: tuple[str, ...], context: StepContext
    ) -> Outcome:
        now_ms = self._office.now_ms()
        asked = Asked(context.key, (to.kind, to.key), msgspec.Raw(body), now_ms, now_ms + int(timeout_s * 1000), chain)
        async with self._office.away():
            return await self._office.asks.outcome(asked, self._record_asked, self.waits)

    async def _record_asked(self, asked: Asked) -> None:
        await self._submit(asked)

    async def _sleep(self, seconds: float, context: StepContext) -> Outcome:
        if seconds < RECORDED_FROM_S:
            await asyncio.sleep(seconds)
            return Outcome()
        if self._office.asks.sleeping(context.key) is None:
            await self._submit(self._slept(context.key, seconds))
        await self.wait_out(context.key)
        return Outcome()

    def _slept(self, key: str, seconds: float) -> Slept:
        return Slept(key, self._office.now_ms() + int(seconds * 1000) + 1)

    async def wait_out(self, key: str) -> None:
        """Sleeps the rest of this step's recorded sleep, if there is one; the turn may be suspended meanwhile."""
        pending = self._office.asks.sleeping(key)
        if pending is not None:
            async with self._office.away():
                await sleep_on(pending, self.waits, self._office.now_ms)

    async def _replay(self, key: StepKey, call: Call, recorded: Step) -> Outcome:
        try:
            await self.journal.replay(recorded)
        except asyncio.CancelledError:
            if not recorded.cancelled:
                await self._note_cancelled(key.text, call)
            raise
        finally:
            self._leave(key)
        self._office.count("steps_from_log")
        return recorded.outcome

    async def _run(self, key: StepKey, call: Call) -> Outcome:
        try:
            if self.letter.type == "direct":
                await self._promoted()
            outcome, attempt = self.journal.kept(key.text), 1
            if outcome is None:
                context = StepContext(self._name, key.text, 1, self.letter.id)
                if call.care is None:
                    outcome = await self.run_body(context, call.run)
                else:
                    outcome, attempt = await execute(self, call, context)
            once = call.care is not None and call.care.once
            step = Step(key.text, call.tool, msgspec.Raw(call.arguments), outcome, attempt, once=once)
            position = self.journal.place()
            if position == self._warn_at:
                self._warn()
            try:
                await self._submit(Steps((step,)))
            except BaseException as error:
                self.journal.give_up(position)
                if self.journal.closed:
                    raise asyncio.CancelledError from error
                raise
            if not self.journal.passes(position):
                await self.journal.arrive(position)
        except asyncio.CancelledError:
            await self._note_cancelled(key.text, call)
            raise
        finally:
            self._leave(key)
        self._office.count("steps_run")
        return outcome

    def _leave(self, key: StepKey) -> None:
        self.waits.leave()
        self.journal.leave(key)

    async def _promoted(self) -> None:
        """Returns once the turn's message lies in a mailbox, so that a takeover finds what is recorded from now on."""
        if self._promoting is None:
            self._promoting = self._office.start(self._promote)
        await asyncio.shield(self._promoting)
        if self.letter.type == "direct":
            raise asyncio.CancelledError  # the host is ending

    async def _promote(self) -> None:
        self.letter = await self._office.promote(self.letter)

    def started(self, key: str) -> Started | None:
        """The attempt at this step that was under way when the log was last written without its outcome."""
        return self._started.get(key)

    async def note_started(self, entry: Started, wait_s: float = 0.0) -> None:
        """An attempt at a step, in the log when this returns, and due: from a second on its wait is in the same record.

        Not that of a step that may run only once: found in the log it would be taken for one that has begun.
        """
        if wait_s < RECORDED_FROM_S or entry.once:
            await self._submit(entry)
            await asyncio.sleep(wait_s)
        else:
            await self._submit(entry, self._slept(entry.key, wait_s))
            await self.wait_out(entry.key)

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return self._office.now_ms()

    async def run_body(self, context: StepContext, body: Callable[[StepContext], Awaitable[Outcome]]) -> Outcome:
        """Runs a tool's body, here or where a tool agent serves it.

        A call that was cancelled although its task was not has failed; a replay would wait for its cancellation in vain.
        """
        lineage = untrack(context)
        try:
            return await body(context)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if self.journal.closed or task is None or task.cancelling():
                raise
            return Outcome(failure=msgspec.structs.replace(failure(DEFECT, str(error)), type=type(error).__name__))
        finally:
            track_again(lineage)

    async def _note_cancelled(self, key: str, call: Call) -> None:
        """Records a cancellation, through further ones; not one that comes from the runtime, for then the step is to run again."""
        if self.journal.closed:
            return
        position = self.journal.place()
        step = Step(key, call.tool, msgspec.Raw(call.arguments), cancelled=True)
        try:
            if self._promoting is not None:
                await self._through_cancellations(self._promoting)
            if not self.journal.closed:
                await self._through_cancellations(self._submit(Cancelled(step)))
        except BaseException:
            self.journal.give_up(position)
            raise
        await self.journal.arrive_cancelled(position)

    async def _through_cancellations(self, done: asyncio.Future[None]) -> None:
        while not done.done() and not self.journal.closed:
            try:
                await asyncio.wait((done,))
            except asyncio.CancelledError:
                continue

    def _submit(self, *entries: Entry) -> asyncio.Future[None]:
        """Hands entries of one record to the writer, after the turn's beginning where that is not in the log yet."""
        if self.journal.closed:
            raise asyncio.CancelledError
        alone = not self.journal.lineage.family
        if self._begun:
            return self._office.submit(*entries, at_once=alone)
        self._begun = True
        return self._office.submit(Begun(self.letter), *entries, at_once=alone)

    def _begin_anew(self, entry: Checkpoint) -> None:
        self._checkpoint = entry.state
        self._checkpoints += 1
        self._warn_at = self.journal.begin_anew(root_path(self._checkpoints)) + MANY_STEPS - 1

    def _check_checkpoint(self) -> None:
        """Raises where a replay that begins behind a checkpoint could not come out the same."""
        self._check_open("checkpoint")
        if current() is not self.journal.lineage or self.journal.lineage.family:
            raise ActorError(
                "a checkpoint is for the handler's own task while no other task of it runs: await or cancel them first"
            )
        if self.reason is not None:
            raise ActorError("a handler that was cancelled puts down no checkpoint any more: clean up and end")
        self.journal.check_asked()
        if self.events or self._sends or self._timers or self._office.has_changed_fields():
            raise ActorError(
                "a checkpoint comes before anything is emitted, sent, timed or assigned in the turn, for a replay begins behind it "
                "and would not decide that again: keep it in the checkpoint's state, and decide it after the last checkpoint"
            )

    def _warn(self) -> None:
        _log.warning(
            "a turn has many steps, all of which a replay reads again: let the handler await self.checkpoint(state)",
            actor=self._name,
            steps=MANY_STEPS,
        )

    def _check_open(self, what: str) -> None:
        if self.journal.closed:
            raise asyncio.CancelledError(f"{what} after the turn of {self.address} ended")


async def _ended() -> Outcome:
    """No step: a handler that swallows its cancellation in a loop must not stop the process either."""
    await asyncio.sleep(0)
    raise asyncio.CancelledError


def closing(letter: Letter, reply: Outcome, position: Position, **decided: Any) -> Turn:
    """The entry that ends a turn: without more, one that decided nothing but its reply."""
    return Turn(Cause.of(letter), position.in_seq, position.act_seq, reply, ahead=position.ahead, **decided)


def _body(message: Message[Any]) -> msgspec.Raw:
    body = encode(message)
    if len(body) > CLAIM_BYTES_MAX:
        raise PayloadTooLarge(len(body), CLAIM_BYTES_MAX)
    return msgspec.Raw(body)


_STEPS: tuple[CodeType, ...] = (RunningTurn._run.__code__, RunningTurn._replay.__code__)  # pyright: ignore[reportPrivateUsage]
"""Coroutines below which it is known what a handler waits for."""
