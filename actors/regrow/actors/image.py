"""The image of an actor: everything that its log says about it beside its state.

Pure: no clock, no I/O. Whatever a process knows of an actor beyond state and image is lost with the process, and must not
matter. So an image can be written down after any record, and whoever goes on from there goes on as if he had read the log.
"""

from hashlib import blake2b

import msgspec

from regrow.actors.errors import Failure
from regrow.actors.records import (
    Asked,
    Cause,
    Checkpoint,
    Failed,
    Letter,
    Mark,
    Outcome,
    Position,
    Send,
    Slept,
    Started,
    Step,
    Suspended,
    TimerSet,
    Turn,
)
from regrow.bus import encode

REPLIES_KEPT = 1_000
REPLY_BYTES_KEPT = 256 * 1024
"""Replies to the outside are kept up to this number and size, the newest ones; a repetition of an older message runs again."""
MARKS_KEPT_MS = 24 * 3600 * 1000
"""How long after a sender's last relay its mark is kept; a relay that is older than this, of a sender without a mark, may be a
repetition and is not applied."""


CANCEL_KEY = "!/cancel/0"
"""Stands among the steps for the moment at which the handler is cancelled from outside; no task of a handler has such a path."""


class PendingAsk(msgspec.Struct, frozen=True):
    """A recorded ask of the open turn that has no outcome yet."""

    asked: Asked
    sequence: int
    index: int

    @property
    def mark(self) -> tuple[int, int]:
        return self.sequence, self.index

    @property
    def timer(self) -> str:
        """The id of the timer that ends the wait, should the answer never come."""
        return f"a{self.sequence}-{self.index}"


class PendingSleep(msgspec.Struct, frozen=True):
    """A recorded sleep of the open turn that has not ended."""

    slept: Slept
    sequence: int
    """Of its record."""

    @property
    def timer(self) -> str:
        """The id of the timer that ends the sleep of an actor that is not loaded."""
        return f"s{self.sequence}-{blake2b(self.slept.key.encode(), digest_size=8).hexdigest()}"


class Open(msgspec.Struct, omit_defaults=True):
    """A turn that has begun and not ended: its message, its steps so far, its failed attempts."""

    letter: Letter
    steps: list[Step] = []
    """Those of this attempt, in the order in which they completed."""
    kept: list[Step] = []
    """Those of the attempts before, which are not run again."""
    asks: dict[str, PendingAsk] = {}
    """By step key, in the order of their records."""
    sleeps: dict[str, PendingSleep] = {}
    """By step key."""
    started: dict[str, Started] = {}
    """Attempts at steps that have no outcome yet, by step key."""
    checkpoint: msgspec.Raw = msgspec.Raw(b"null")
    """The last state that its handler put down to go on from."""
    checkpoints: int = 0
    """How often it has done so."""
    suspended: bool = False
    """Nothing of it is under way in any process, and a message will end each of its waits."""
    timed: tuple[str, ...] = ()
    """Ids of the waits' timers that were set when it was last suspended."""
    starts: int = 1
    """How many processes have begun it, as far as known, since it last made progress."""
    cancel: str | None = None
    """Why somebody outside wants it to end; ``steps`` has the place of that, under ``CANCEL_KEY``."""
    attempts: int = 0
    failure: Failure | None = None
    """What the last attempt failed of."""

    def add(self, step: Step) -> None:
        """One more recorded step: an ask among the pending ones has its outcome now."""
        self.steps.append(step)
        self.asks.pop(step.key, None)
        self.sleeps.pop(step.key, None)
        if self.started:
            self._over(step)
        self.starts = 1
        self.suspended = False

    def end(self, reason: str) -> None:
        """Somebody wants it to end, behind the steps so far. The first reason counts."""
        if self.cancel is None:
            self.cancel = reason
            self.add(Step(CANCEL_KEY, "cancel", msgspec.Raw(encode(reason))))

    def start(self, entry: Started) -> None:
        """An attempt at a step is under way."""
        self.suspended = False
        self.started[entry.key] = entry

    def _over(self, step: Step) -> None:
        """One that may run only once has not ended by being cancelled: another attempt at the turn must not run it blindly."""
        begun = self.started.get(step.key)
        if begun is not None and not (begun.once and step.cancelled):
            del self.started[step.key]

    def begin_at(self, entry: Checkpoint) -> None:
        """What was recorded of its steps so far is forgotten: the handler goes on from this state."""
        self.checkpoint, self.checkpoints = entry.state, self.checkpoints + 1
        self.steps, self.kept = [], []
        for pending in (self.asks, self.sleeps, self.started):
            pending.clear()
        self.starts = 1
        self.suspended = False

    def wait(self, entry: Asked | Slept, sequence: int, index: int) -> None:
        """One more wait; ``index``: its place among the record's asks."""
        self.suspended = False
        if isinstance(entry, Asked):
            self.asks[entry.key] = PendingAsk(entry, sequence, index)
        else:
            self.sleeps[entry.key] = PendingSleep(entry, sequence)

    def waits_for(self, timer: str) -> bool:
        """Whether one of its waits has the timer of this id."""
        waits: tuple[PendingAsk | PendingSleep, ...] = (*self.asks.values(), *self.sleeps.values())
        return any(each.timer == timer for each in waits)

    def suspend(self, entry: Suspended) -> None:
        """From now on it lives in its log and its mailbox alone."""
        self.suspended, self.timed = True, entry.timers

    def fail(self, failed: Failed) -> None:
        """One attempt more. What ended it is forgotten, and what was cancelled on the way: the next one runs that again.

        What was asked stays asked: a failed turn does not un-ask.
        """
        self.attempts, self.failure = failed.attempt, failed.failure
        self.set_aside(failed.again)

    def set_aside(self, again: tuple[str, ...] = ()) -> None:
        """What was recorded so far answers whoever takes the same step, in whatever order, except those steps."""
        finished = {step.key: step for step in (*self.kept, *self.steps) if not step.cancelled}
        self.suspended = False
        self.kept = [step for step in finished.values() if step.key not in again]
        self.steps = []


class Answer(msgspec.Struct, frozen=True):
    """The reply to another actor's durable ask."""

    to: str
    """The asker, ``kind/key``."""
    id: str
    outcome: Outcome


class Outbox(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the last turn decided to let out; all of it is out before the next turn begins."""

    sequence: int
    """The record's sequence in its log stream, part of each relay's id."""
    first: int = 0
    """The place in that record of the first send."""
    sent_ms: int = 0
    sends: tuple[Send, ...] = ()
    failed: tuple[int, ...] = ()
    """Sends, by their place among ``sends``, that can never be delivered."""
    answer: Answer | None = None
    timers: tuple[TimerSet, ...] = ()
    over: tuple[str, ...] = ()
    """Ids of timers that are pending no more although they have not fired."""


class Image(msgspec.Struct, omit_defaults=True):
    """What an actor's log amounts to, beside the state."""

    in_seq: int = 0
    act_seq: int = 0
    ahead: tuple[int, ...] = ()
    """Sequences in ACT behind ``act_seq`` that were taken out of turn."""
    marks: dict[str, Mark] = {}
    """Per sender the last relay taken, the longest silent sender first."""
    replies: dict[str, Outcome] = {}
    """The last replies to the outside by the id of their message, oldest first."""
    reply_bytes: int = 0
    """What these replies take."""
    timers: dict[str, tuple[str, int]] = {}
    """Pending timers by name: the timer's id, and when it is due in milliseconds since 1970."""
    outbox: Outbox | None = None
    opened: Open | None = None
    deleted: bool = False
    """The last record is a tombstone: what belongs to the actor beside its log may still have to be removed."""
    records: int = 0
    """Records since the last snapshot."""

    @property
    def position(self) -> Position:
        return Position(self.in_seq, self.act_seq, self.ahead)

    def taken(self, letter: Letter) -> bool:
        """Whether a letter's turn is recorded, or can never be (again).

        A timer counts by its id: it overtakes waiting mail and may fire twice. A promoted ask overtook the mail as well, so it
        is remembered by its sequence until the position has passed that. Everything else is behind the position, or below its
        sender's mark, or has its reply here.
        """
        if letter.type == "timer":
            return self.timers.get(letter.timer, ("", 0))[0] != letter.id
        if letter.sequence:
            passed = self.in_seq if letter.box == "in" else self.act_seq
            if letter.sequence <= passed or (letter.box == "act" and letter.sequence in self.ahead):
                return True
        if letter.mark is not None:
            known = self.marks.get(letter.sender)
            return known is not None and letter.mark <= known[:2]
        return self.reply_to(letter) is not None

    def may_repeat(self, letter: Letter, now_ms: int) -> bool:
        """Whether a relay is so old that its sender's mark, which would tell a repetition, may be forgotten."""
        return letter.mark is not None and letter.sender not in self.marks and letter.sent_ms < now_ms - MARKS_KEPT_MS

    def reply_to(self, letter: Letter) -> Outcome | None:
        """The recorded reply to this message of the outside, as long as it is kept."""
        return self.replies.get(letter.id) if from_outside(letter) else None

    def ask_of(self, mark: tuple[int, int]) -> PendingAsk | None:
        """The pending ask of the open turn that has this mark."""
        asks = self.opened.asks.values() if self.opened is not None else ()
        return next((ask for ask in asks if ask.mark == mark), None)

    def position_after(self, letter: Letter, passed: int = 0) -> Position:
        """How far IN and ACT have been taken once this letter's turn is recorded.

        ``passed``: all ordinary mail of ACT up to this sequence has been taken, as is known once a promoted ask came out of the
        mailbox in its own turn.
        """
        in_seq, act_seq, ahead = self.in_seq, self.act_seq, self.ahead
        if letter.type == "promoted":
            ahead = (*ahead, letter.sequence)
        elif letter.type in ("timer", "direct"):
            pass
        elif letter.box == "in":
            in_seq = max(in_seq, letter.sequence)
        else:
            act_seq = max(act_seq, letter.sequence)
        if ahead:
            act_seq = max(act_seq, *(sequence for sequence in (*ahead, 0) if sequence <= passed))
            ahead = tuple(sequence for sequence in ahead if sequence > act_seq)
        return Position(in_seq, act_seq, ahead)

    def open(self, message: Letter) -> Open:
        """The open turn of this message, begun now if it is not open."""
        opened, self.deleted = self.opened, False
        if opened is None or (opened.letter.box, opened.letter.sequence) != (message.box, message.sequence):
            opened = self.opened = Open(message)
        opened.suspended = False
        return opened

    def cancel(self, reason: str, act_seq: int) -> None:
        """Somebody wants the open turn to end; the order with this sequence in ACT is taken."""
        if self.opened is not None:
            self.opened.end(reason)
        if act_seq > self.act_seq and act_seq not in self.ahead:
            self.ahead = (*self.ahead, act_seq)

    def close(self, turn: Turn, sequence: int, first: int) -> None:
        """The turn is recorded under this sequence, its first send being the record's one of that place."""
        self.opened = None
        self.deleted = False
        self.in_seq, self.act_seq, self.ahead = turn.in_seq, turn.act_seq, turn.ahead
        over = self._change_timers(turn, sequence)
        answer = Answer(turn.cause.sender, turn.cause.id, turn.reply) if turn.cause.type == "ask" else None
        self.outbox = None
        if turn.sends or turn.timers or over or answer is not None:
            self.outbox = Outbox(sequence, first, turn.at_ms, turn.sends, (), answer, turn.timers, over)
        self._remember(turn.cause, turn.reply)

    def _change_timers(self, turn: Turn, sequence: int) -> tuple[str, ...]:
        """Takes off the timer that fired, sets the new ones; the ids of those that were replaced or cancelled."""
        if turn.cause.type == "timer":
            self.timers.pop(turn.cause.timer, None)
        over: list[str] = []
        for index, change in enumerate(turn.timers):
            replaced = self.timers.pop(change.name, None)
            if replaced is not None:
                over.append(replaced[0])
            if change.at_ms:
                self.timers[change.name] = timer_id(sequence, index), change.at_ms
        return tuple(over)

    def _remember(self, cause: Cause, reply: Outcome) -> None:
        if cause.mark is not None:
            self.marks.pop(cause.sender, None)
            self.marks[cause.sender] = Mark(*cause.mark, cause.sent_ms)
            self._forget_marks(cause.sent_ms - MARKS_KEPT_MS)
        elif from_outside(cause):
            self.replies[cause.id] = reply
            self.reply_bytes += _size(cause.id, reply)
            while len(self.replies) > REPLIES_KEPT or (self.reply_bytes > REPLY_BYTES_KEPT and len(self.replies) > 1):
                oldest = next(iter(self.replies))
                self.reply_bytes -= _size(oldest, self.replies.pop(oldest))

    def _forget_marks(self, before_ms: int) -> None:
        """The mark just made is the last one, and never so old."""
        while self.marks[sender := next(iter(self.marks))].sent_ms < before_ms:
            del self.marks[sender]


def from_outside(message: Letter | Cause) -> bool:
    """Whether somebody outside chose the message's id, also where it was put into ACT on its way."""
    return message.box == "in" or message.type in ("direct", "promoted")


def timer_id(sequence: int, index: int) -> str:
    """The id of a timer: where it was decided, so that it is never used again."""
    return f"{sequence}-{index}"


def _size(message: str, reply: Outcome) -> int:
    failed = reply.failure
    return len(message) + len(failed.message if failed is not None else reply.value or b"")
