"""A cell: one activated durable actor in this process, from its mail to its last reply.

It takes one letter at a time: handler, one fenced record, reply, whatever the turn sent, acknowledgement, in this order. A cell that
lost a race for the log forgets what it holds, reads the log and lets the turn run again. It never dies of a user's exception.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from typing import Any, Protocol

import msgspec
import structlog

from regrow.actors.actor import Actor
from regrow.actors.asks import Asks
from regrow.actors.attempt import TurnSuspended
from regrow.actors.crash_reports import Crash
from regrow.actors.dead_letter import bury
from regrow.actors.errors import DELETED, LATE, Failure, FoldDiffers, Refused, failure
from regrow.actors.fold import state_json
from regrow.actors.image import Answer, Image, Outbox, PendingAsk
from regrow.actors.letters import Letters
from regrow.actors.mailbox import Budget, Direct, Waiting
from regrow.actors.message import Message
from regrow.actors.orders import Orders
from regrow.actors.outbox import Undeliverable, answer_ask, let_out
from regrow.actors.policy import Policy, defect, refusal
from regrow.actors.quarantine import ALONE_FROM, Quarantine
from regrow.actors.records import Letter, Outcome, Position, SendFailed, Suspended, Tombstone
from regrow.actors.recovered import recover
from regrow.actors.slot import Slot
from regrow.actors.start import UNKNOWN_NODE
from regrow.actors.suspension import Suspension
from regrow.actors.suspicion import Suspicion
from regrow.actors.tool import Remote
from regrow.actors.trace import Tracer
from regrow.actors.turn import RunningTurn, closing
from regrow.actors.turns import Turns
from regrow.actors.wire import (
    is_order_to_end,
    is_reply,
    is_wake,
    letter_of,
    undecodable,
)
from regrow.bus import Address, Bus, Delivery, StaleWriter, Undecodable
from regrow.supervisor import Crashed, Exit, NodeLost

_log = structlog.get_logger(__name__)

LETTERS_AT_ONCE = 64
"""Letters that an actor takes before another one of its kind has its turn, where they wait for one."""
SHORT = 50
"""Records of a log that is left as it is when its turn is suspended; a longer one is made short first."""


class Surroundings(Protocol):
    """What a cell needs of its host."""

    bus: Bus
    policy: Policy
    quarantine: Quarantine
    budget: Budget
    is_open: bool
    """Whether its actors may begin anything."""

    def start(self, function: Callable[..., Awaitable[None]], *arguments: object) -> asyncio.Task[None]: ...
    def remote_tool(self, name: str) -> Remote | None: ...
    def port(self, name: str) -> Any: ...
    def count(self, what: str) -> None: ...
    def failed(self, cell: "Cell", error: Exception, *, given_up: bool) -> int: ...
    def did_well(self, cell: "Cell") -> None: ...
    def report(self, crash: Crash) -> None: ...


class Cell:
    """One actor's mail, and its copy of the log, in this process."""

    __slots__ = (
        "_cls",
        "_definition",
        "_give_way",
        "_host",
        "_letters",
        "_loading",
        "_orders",
        "_slot",
        "_suspension",
        "_suspicion",
        "_turns",
        "_waking",
        "act_passed",
        "address",
        "asks",
        "bus",
        "cause",
        "count",
        "failing",
        "idle_since_s",
        "paused",
        "pinned",
        "policy",
        "port",
        "quarantine",
        "remote_tool",
        "report",
        "restarts",
        "start",
        "tracer",
        "trouble",
    )

    def __init__(self, cls: type[Actor], address: Address, host: Surroundings, *, pinned: bool = False) -> None:
        self.address = address
        self.bus = host.bus
        self.policy = host.policy
        self.quarantine = host.quarantine
        self._give_way: Callable[[], None] | None = None
        """Lets others run beside a turn that runs alone."""
        self.start = host.start
        self.remote_tool = host.remote_tool
        self.port = host.port
        self.count = host.count
        self.report = host.report
        self.pinned = pinned
        """Whether it lives without mail too."""
        self.cause: Exit | None = None
        """How its last life ended; None when that was in order."""
        self.restarts = 0
        """How often it has died here."""
        self.failing = False
        """Whether it counts as failing, until a turn ends well."""
        self.asks = Asks(self)
        self.trouble: Failure | None = None
        """Why the actor cannot go on for now."""
        self.paused = False
        """Somebody has suspended the actor: it takes no mail, all of it waits, until he resumes it or this cell is gone."""
        self.tracer: Tracer | None = None
        self.idle_since_s = time.monotonic()
        self.act_passed = 0
        """All ordinary mail of ACT up to this sequence has been taken."""
        self._host = host
        self._waking = pinned
        self._cls = cls
        self._definition = cls.__regrow__
        self._letters = Letters(address, host.bus, host.budget)
        self._orders = Orders(self)
        self._suspension = Suspension(self)
        self._loading = asyncio.Lock()
        self._turns: Turns | None = None
        self._slot: Slot | None = None
        self._suspicion = Suspicion()

    @property
    def idle(self) -> bool:
        """Whether nothing is waiting and nothing runs."""
        return not (self._is_wanted or self._letters.taking is not None or self.paused)

    @property
    def _is_wanted(self) -> bool:
        """Whether something is there to be done."""
        return bool(self._letters.waiting or self.asks or self._orders or self._waking)

    @property
    def suspended(self) -> bool:
        """Whether its turn is suspended and no message has come that ends a wait of it, or it is paused: other mail waits, here or
        elsewhere."""
        return self.paused or (self._suspension.is_on and not self.asks and not self._orders)

    @property
    def empty(self) -> bool:
        """Whether no mail waits here, and nothing else keeps the cell."""
        return not self._letters.waiting and not self.paused

    @property
    def depth(self) -> int:
        """How many messages wait here."""
        return len(self._letters.waiting)

    @property
    def open_asks(self) -> Sequence[PendingAsk]:
        """The asks that its turn waits for, in this process or, suspended, in none."""
        return self.asks.open if self._turns is not None else self._suspension.asks

    @property
    def waiting_turn(self) -> RunningTurn | None:
        """The turn that runs, if its handler waits for what ends in a message and for nothing else."""
        turn = self._running
        return turn if turn is not None and turn.waits.quiet_s() is not None else None

    def runs(self, task: asyncio.Task[Any]) -> bool:
        """Whether this is a task of the handler that runs now. May be asked from another thread while that has the event loop."""
        turn = self._running
        return turn is not None and (task is turn.task or task in turn.journal.lineage.family)

    @property
    def _running(self) -> RunningTurn | None:
        return self._turns.running if self._turns is not None else None

    @property
    def known(self) -> Image | None:
        """The committed image; None when the actor is not loaded."""
        return self._turns.image if self._turns is not None else None

    @property
    def image(self) -> Image:
        """The committed image of an actor that is loaded."""
        assert self._turns is not None
        return self._turns.image

    @property
    def in_seq(self) -> int:
        """How far the outside mailbox has been taken, as far as it is known here."""
        return self._turns.image.in_seq if self._turns is not None else 0

    def put(self, delivery: Delivery) -> None:
        """Adds a message; one that is here already (it came again after a takeover) only renews its acknowledgement."""
        if delivery.suspect:
            self._suspicion.hear()
            if self._turns is None and self.cause is None:
                self.cause = NodeLost(UNKNOWN_NODE)
        if is_reply(delivery) or is_wake(delivery):
            self.asks.put(delivery)
        elif is_order_to_end(delivery):
            self._orders.put(delivery, self._running if self._host.is_open else None)
        else:
            self._letters.put(delivery)

    def put_direct(self, direct: Direct) -> None:
        """Adds an ask of this process. Raises ``MailboxFull``."""
        self._letters.put_direct(direct)

    def clear(self) -> None:
        """The actor is somewhere else now: asks of this process have to follow it through its mailbox."""
        self._letters.clear()
        self._orders.clear()
        self.asks.clear()

    async def drain(self, slot: Slot) -> None:
        """Takes letters, some if many wait. Raises only what makes the actor wait: no retry right now could mend it."""
        self._slot = slot
        self._suspension.end()
        for _ in range(LETTERS_AT_ONCE):
            if self.paused or self._suspension.is_on or not self._is_wanted:
                break
            try:
                turns = self._turns or await self._loaded()
                if self._waking:
                    await turns.begin()
                    self._waking = False
                else:
                    await self._go_on(turns)
            except StaleWriter as stale:
                _log.info("stale copy dropped, reloading", actor=str(self.address), cause=str(stale))
                self.died(Crashed(stale))
                self.forget()
        if self._suspension.has_timers and not self._suspension.is_on and not self._letters.waiting:
            await self._suspension.end_timers()
        self.idle_since_s = time.monotonic()

    async def query(self, message: Message[Any]) -> Outcome:
        """A query's answer on the last committed state. Raises what stands in the way of reading the log."""
        if self.tracer is not None:
            self.tracer.tell("query", type=type(message).__name__)
        turns = await self._loaded()
        reader = turns.held.reader()
        before, sequence = (state_json(reader) if self.policy.check_folds else b""), turns.held.fold.sequence
        try:
            handler = self._definition.queries[type(message)]
            reply = handler.reply(await handler.method(reader, message))
            unmoved = turns is self._turns and turns.held.fold.sequence == sequence
            if before and unmoved and state_json(reader) != before:
                raise FoldDiffers(str(self.address), state_json(reader).decode(), before.decode())
            return Outcome(value=reply)
        except Refused as no:
            return refusal(no)
        except Exception as error:  # a user's handler: its failure is the answer
            return Outcome(failure=defect(error))

    async def suspend(self, quiet_s: float) -> None:
        """Unloads the turn that runs, if its handler has only waited for so long. Raises ``BusError``."""
        await self._suspension.suspend(quiet_s)

    async def complain(self) -> None:
        """Tells everybody who waits, once, why the actor cannot go on; the messages stay in its mailbox, or are put there."""
        await self._letters.complain(lambda: self.trouble)

    def forget(self) -> None:
        """Drops the copy; the letter that was being taken goes first when the log has been read again."""
        self._letters.put_back()
        self._turns = self.trouble = None
        self._waking = self.pinned

    def died(self, cause: Exit) -> None:
        """A life of the actor has ended so; the next one is told."""
        self.cause = cause
        self.restarts += 1

    def drop(self, cause: Exit) -> None:
        """Its copy is dropped, with whatever runs on it; its mail is kept, for the next life."""
        if self._turns is not None:
            self.died(cause)
        self.failing = self.paused = False
        self.forget()

    def failed(self, error: Exception, *, given_up: bool) -> int:
        """An attempt at a turn has failed: how many have since the actor is failing, 0 when it is not."""
        return self._host.failed(self, error, given_up=given_up)

    def did_well(self) -> None:
        """It is failing no longer."""
        self.failing = False
        self._host.did_well(self)

    async def passivate(self) -> None:
        """Makes the log short, so that the actor comes back quickly and from little."""
        if self._turns is not None and self.idle:
            await self._turns.held.writer.roll_up()

    def trace(self, tracer: Tracer | None) -> None:
        """Tells this one what the actor does, from the turn that runs on; None ends that."""
        self.tracer = tracer
        turn = self._running
        if tracer is not None and turn is not None:
            tracer.watch(turn)

    # What the running turn needs

    async def promote(self, letter: Letter) -> Letter:
        """Puts an ask of this process into the runtime's mailbox, where a takeover finds it."""
        return await self._letters.promote(letter)

    def away(self) -> AbstractAsyncContextManager[None]:
        """While the block runs, the actor does not count among the active ones: it only waits for another actor."""
        assert self._slot is not None
        self.progressed()
        return self._slot.away()

    def progressed(self) -> None:
        """The running turn has recorded a step or waits for another actor: it need not be alone any more."""
        if self._give_way is not None:
            self._give_way()

    def now_ms(self) -> int:
        """Milliseconds since 1970 by this node's clock."""
        return time.time_ns() // 1_000_000

    def begun(self, turn: RunningTurn) -> None:
        """Its handler runs now: whoever wanted the open turn to end is heard."""
        if self.tracer is not None:
            self.tracer.began(turn, self.image.opened)
        self._orders.tell(turn)

    # One letter

    async def _go_on(self, turns: Turns) -> None:
        """One letter, after all that comes before it; or a turn that was suspended, which no other letter overtakes."""
        try:
            if await self._ready(turns) and self._letters.waiting:
                await self._take(turns, self._letters.take())
        except TurnSuspended as suspension:
            await turns.append(Suspended(suspension.timers))  # and it is still ours
            self.count("suspensions")
            await self._suspension.end_timers(suspension.timers)
            if turns.image.records > SHORT:
                await turns.held.writer.roll_up()
            await self._letters.ack()
            await self._rest(turns, suspended_now=True)

    async def _rest(self, turns: Turns, *, suspended_now: bool = False) -> None:
        """The open turn is suspended: what it was told with is acknowledged, other mail stays, asks of this process go there."""
        opened = turns.image.opened
        assert opened is not None
        self._turns = None
        self._letters.end_taking()
        await self._letters.acknowledge(opened.letter)
        await self.asks.acknowledge(opened, suspended=suspended_now)
        self._suspicion.clear()
        self._suspension.begin(opened)

    async def _ready(self, turns: Turns) -> bool:
        """Finishes what the log says was left over: a deletion, what the last turn let out, a turn not ended.

        False when that turn is suspended and nothing has come that ends one of its waits.
        """
        image = turns.image
        if image.deleted:
            await self._clean_up()
        if image.outbox is not None:
            await self._let_out(turns, image.outbox)
        if image.opened is not None:
            if image.opened.suspended and not self.asks.end_a_wait and not self._orders:
                await self._rest(turns)
                return False
            letter, start = image.opened.letter, self._suspicion.start_of_open(image.opened.starts)
            self._suspension.expect(image.opened.timed)
            await self.asks.relay_again()
            await self._run(turns, letter, self._definition.decode_message(letter.body), start=start)
        if self._orders:
            await self._orders.settle(turns.image)
        if self._suspension.has_timers:
            await self._suspension.end_timers()
        if self.asks:
            await self.asks.acknowledge(turns.image.opened)
        return True

    async def _take(self, turns: Turns, waiting: Waiting) -> None:
        """Handles one letter, and acknowledges it when nothing is left to do for it."""
        if isinstance(waiting, Direct):
            await self._handle(turns, waiting.letter)
        elif await waiting.fetch():
            letter = await self._letter(waiting)
            if letter is None:
                return
            if letter.type == "promoted":  # it comes out in its turn: what lay before it has been taken
                self.act_passed = letter.sequence
            await self._handle(turns, letter, suspect=waiting.suspect)
        await self._letters.ack()

    async def _letter(self, waiting: Delivery) -> Letter | None:
        """What came out of a mailbox; None, and a dead letter, for what no runtime has put there."""
        try:
            return letter_of(waiting)
        except ValueError as error:
            broken = Letter(
                waiting.box, waiting.sequence, f"{waiting.box}-{waiting.sequence}", msgspec.Raw(waiting.body)
            )
            await self._refuse(broken, undecodable(Undecodable("headers", str(error))))
            await self._letters.ack()
            return None

    async def _handle(self, turns: Turns, letter: Letter, *, suspect: bool = False) -> None:
        image = turns.image
        if image.taken(letter):
            await self._letters.answer(letter, image.reply_to(letter))
        elif letter.type == "delete":
            await self._delete(turns, letter)
        elif image.may_repeat(letter, self.now_ms()):
            late = f"this relay of {letter.sender} is more than a day old, and may have been applied before"
            await turns.give_up(letter, failure(LATE, late))
        else:
            try:
                message = self._definition.decode_message(letter.body)
            except Undecodable as error:
                await self._refuse(letter, undecodable(error))
                return
            if type(message) in self._definition.commands:
                await self._run(turns, letter, message, start=self._suspicion.start_of(letter, suspect=suspect))
            else:
                await self._query(turns, letter, message)

    async def _run(self, turns: Turns, letter: Letter, message: Message[Any], *, start: int = 1) -> None:
        """One turn: recorded, then the reply and what it sent; the acknowledgement comes only then."""
        run = turns.run if start == 1 else partial(self._run_suspect, turns, start)
        if self.tracer is not None:
            self.tracer.tell("taken", type=type(message).__name__, id=letter.id)
        letter = await run(letter, message)
        if self.tracer is not None:
            self.tracer.recorded(letter.id, turns.image.reply_to(letter))
        await self._letters.answer(letter, turns.image.reply_to(letter))
        if turns.image.outbox is not None:
            await self._let_out(turns, turns.image.outbox)

    async def _run_suspect(self, turns: Turns, start: int, letter: Letter, message: Message[Any]) -> Letter:
        """A turn at which processes have died: its start is in the log before it runs, and at last it runs alone."""
        async with AsyncExitStack() as alone:
            if start >= ALONE_FROM:
                self._give_way = await alone.enter_async_context(self.quarantine.alone())
            await turns.count_start(letter, start)
            return await turns.run(letter, message)

    async def _query(self, turns: Turns, letter: Letter, message: Message[Any]) -> None:
        """A query out of the mailbox; one that is to be consistent is recorded, which only the owner of the log can do."""
        outcome = await self.query(message)
        if self._definition.queries[type(message)].queued:
            await turns.append(closing(letter, outcome, turns.position_after(letter)))
        await self._letters.answer(letter, outcome)
        if turns.image.outbox is not None:
            await self._let_out(turns, turns.image.outbox)

    async def _let_out(self, turns: Turns, outbox: Outbox) -> None:
        """What stays undeliverable is a dead letter before those behind it go on, and the log says so."""

        async def give_up(lost: Undeliverable) -> None:
            letter = Letter("act", 0, lost.id, lost.body, sender=str(self.address))
            await bury(self.bus, lost.receiver, letter, lost.failure)
            if lost.index is not None:
                await turns.append(SendFailed(lost.index, lost.failure))

        await let_out(self.bus, self.address, outbox, give_up)
        turns.image.outbox = None

    async def _refuse(self, letter: Letter, outcome: Outcome) -> None:
        """A message that no build of this actor could read: it goes to the dead letters."""
        assert outcome.failure is not None
        await bury(self.bus, self.address, letter, outcome.failure)
        if letter.type == "ask":
            await answer_ask(self.bus, Answer(letter.sender, letter.id, outcome))
        await self._letters.answer(letter, outcome)

    async def _delete(self, turns: Turns, letter: Letter) -> None:
        """A tombstone in place of the log. The mail that waits is gone with the actor; what comes later begins a new one."""
        image = turns.image
        after = image.position_after(letter)
        waiting = self._letters.waiting
        position = Position(max(after.in_seq, waiting.last("in")), max(after.act_seq, waiting.last("act")))
        turns.held.spoil()
        await turns.append(Tombstone(position, dict(image.marks)))
        await self._clean_up()
        deleted = Outcome(failure=failure(DELETED, f"{self.address} was deleted while this ask waited"))
        await self._letters.drop_until(position, deleted)

    async def _clean_up(self) -> None:
        """Removes what a deleted actor left beside its log."""
        await self.bus.mail.unschedule(self.address, "*")
        await self.bus.log.forget(self.address)

    async def _loaded(self) -> Turns:
        """The turns on a copy of the log; it is read once, whoever asks first."""
        async with self._loading:
            if self._turns is None:
                held = await recover(self._cls, self.address, self.bus.log, self.policy, self.start)
                self._turns = Turns(self._cls, self, held)
                self.count("recoveries")
            return self._turns
