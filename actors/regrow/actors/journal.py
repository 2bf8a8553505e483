"""The journal of one turn: recorded steps answer again, in the order in which they once completed.

The order matters as much as the outcomes: of two tasks that race, the same one must win again. So outcomes pass one at a time,
in the order of the log, and each reaches whoever waits for it before the next one passes. That holds for steps that run now
just as for recorded ones, lest several that share a record look as if they came at once. Belongs to one event loop.

Another attempt at a turn may take another way, so of the attempts before only the outcomes are known, by the keys of their steps:
whoever takes such a step again gets it in place of running it, and it is recorded, and passes, like any other of this attempt.
"""

import asyncio
import hashlib
from collections import defaultdict, deque
from collections.abc import Callable, Sequence

from regrow.actors.drift import another_step, no_step
from regrow.actors.errors import AmbiguousStep, Drift
from regrow.actors.lineage import Lineage, StepKey, path_of
from regrow.actors.records import Outcome, Step

SETTLE_TICKS = 8
"""Turns of the event loop between two outcomes, so that a completion reaches whoever races for it (task, gather, wait,
timeout) before the next one passes."""
STALL_S = 1.0
"""How often somebody who waits for his turn looks whether the one before him can still come."""


def digest(arguments: bytes) -> str:
    """The hash of a call's arguments that goes into its step key."""
    return hashlib.blake2b(arguments, digest_size=8).hexdigest()


class Journal:
    """The steps of one attempt at a turn: what the log has of them, which are open now, and whose outcome passes next."""

    __slots__ = (
        "_actor",
        "_gates",
        "_kept",
        "_looked",
        "_next",
        "_open",
        "_passed",
        "_position",
        "_positions",
        "_recorded",
        "_settling",
        "_ticks",
        "_unasked",
        "_watching",
        "closed",
        "drift",
        "lineage",
        "stalled",
        "watchful",
    )

    def __init__(
        self, actor: str, recorded: Sequence[Step], lineage: Lineage | None = None, kept: Sequence[Step] = ()
    ) -> None:
        self.lineage = lineage or Lineage()
        self.closed = False
        self.drift: Drift | None = None
        """The first report that this attempt gave rise to, whatever the handler made of it."""
        self.watchful = True
        """Whether it looks now and then, while somebody waits, for the end of a task whose step can come no more."""
        self.stalled: Callable[[], object] = _nobody_looks
        """Called once when outcomes have waited for ``STALL_S`` for a step that a task of the handler has not asked for yet."""
        self._looked = False
        self._actor = actor
        self._kept = {step.key: step.outcome for step in kept}
        self._recorded = tuple(recorded)
        # Of a step that completed and was cancelled before its task saw the outcome, the later record counts.
        self._position: dict[str, int] = {}
        self._unasked: defaultdict[str, deque[str]] = defaultdict(deque)
        self._passed: dict[int, None] = {}  # an empty set would take three times as much, in every turn
        self._next = 0
        self._positions = len(self._recorded)
        self._settling = False
        self._ticks = 0
        self._watching = False
        self._gates: dict[int, asyncio.Future[None]] = {}
        self._open: dict[str, str] = {}
        if recorded:
            self._lay_out(recorded)

    def _lay_out(self, recorded: Sequence[Step]) -> None:
        self._position = {step.key: position for position, step in enumerate(recorded)}
        for key in sorted(self._position, key=self._position.__getitem__):
            self._unasked[path_of(key)].append(key)
        self._passed = {
            position: None for position, step in enumerate(recorded) if self._position[step.key] != position
        }
        self._skip_passed()

    def recorded(self, key: StepKey, arguments: bytes = b"null") -> Step | None:
        """What the log has of this step; None when it has to run.

        Raises ``Drift`` when the task of this step took another one here when the journal was written, and from then on.
        """
        if self.drift is not None:
            raise self.drift
        unasked = self._unasked.get(key.path)
        if not unasked:
            return None
        if unasked[0] != key.text:
            raise self._drifted(another_step(self._actor, key, arguments, self._step(unasked[0])))
        return self._step(unasked.popleft())

    def kept(self, key: str) -> Outcome | None:
        """The outcome that an attempt before has for this step."""
        return self._kept.get(key)

    async def replay(self, step: Step) -> None:
        """Returns when the recorded outcome passes. That of a cancelled step never comes: its task is cancelled again instead,
        and goes on from there when the cancellation's turn has come."""
        position = self._position[step.key]
        if step.cancelled:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                await self.arrive_cancelled(position)
        elif self.passes(position):
            await asyncio.sleep(0)
        else:
            await self.arrive(position)

    def place(self) -> int:
        """The position of a step whose record is handed to the writer now."""
        self._positions += 1
        return self._positions - 1

    def passes(self, position: int) -> bool:
        """Whether the outcome at this position passes here and now, as it does where it can race with no other."""
        if position != self._next or self._settling or self._gates or self.lineage.family:
            return False
        self._next = position + 1
        if self._passed:
            self._skip_passed()
        return True

    async def arrive(self, position: int) -> None:
        """Returns when the outcome at this position passes, and whoever has seen the one before has gone on as far as in a replay.
        Raises ``Drift`` when one before it can come no more.

        There a step may be asked for late in the time that the outcome before it gives to all, and its outcome is known at once:
        if it is next, the time begins again, for others who had asked before it passed may come later still. So it does here.
        """
        if position == self._next:
            self._ticks = SETTLE_TICKS
        self._settle()
        try:
            await self._wait_gate(position)
            self._settle()
        finally:
            self.give_up(position)

    async def arrive_cancelled(self, position: int) -> None:
        """Returns when the cancellation at this position passes, through further ones; or when the journal is closed."""
        while not self.closed and (position != self._next or self._settling):
            try:
                await self._wait_gate(position)
            except asyncio.CancelledError:
                continue
        if not self.closed:
            self._settle()
        self.give_up(position)

    def give_up(self, position: int) -> None:
        """Nobody waits for the outcome at this position (any more): the next one may pass."""
        self._passed[position] = None
        self._skip_passed()
        if not self._settling:
            self._open_gate()

    def enter(self, key: StepKey, *, pure: bool) -> None:
        """Keeps a call open until ``leave``. Raises ``AmbiguousStep`` when an equal one is open in another task, pure tools
        excepted."""
        other = self._open.get(key.call)
        if other is not None and other != key.path and not pure and key.text not in self._position:
            tool, _, same = key.call.partition("/")
            raise AmbiguousStep(tool, same.removeprefix(":") if same.startswith(":") else "")
        self._open[key.call] = key.path

    def leave(self, key: StepKey) -> None:
        """The call is open no more."""
        self._open.pop(key.call, None)

    def check_done(self) -> None:
        """Raises ``Drift`` when the handler's own task ends without having asked for all steps that it once took."""
        if self.drift is not None:
            raise self.drift
        unasked = self._unasked[self.lineage.path]
        if unasked:
            raise self._drifted(no_step(self._actor, self._step(unasked[0])))

    def check_asked(self) -> None:
        """Raises ``Drift`` when a recorded step has not been asked for again: for when nobody can any more."""
        if self.drift is not None:
            raise self.drift
        left = [self._position[each] for unasked in self._unasked.values() for each in unasked]
        if left:
            raise self._drifted(no_step(self._actor, self._recorded[min(left)]))

    def begin_anew(self, path: str) -> int:
        """Forgets every step: the handler's own task, which is alone, goes on from a checkpoint under this path.

        How many positions there were. They go on from there, for one may be taken that is not a step's.
        """
        self.lineage.begin_anew(path)
        self._recorded = ()
        for each in (self._kept, self._position, self._unasked):
            each.clear()
        return self._positions

    def end_waiting(self, drift: Drift) -> None:
        """Whoever waits for his turn gets this report in its place."""
        self.drift = self.drift or drift
        for gate in self._gates.values():
            if not gate.done():
                gate.set_exception(drift)
                gate.exception()  # seen, also where its waiter is cancelled at the same time

    def close(self) -> None:
        """From now on no step begins: whoever asks for one is cancelled."""
        self.closed = True

    def _step(self, key: str) -> Step:
        return self._recorded[self._position[key]]

    def _drifted(self, drift: Drift) -> Drift:
        """The report, of which the first one counts."""
        self.drift = self.drift or drift
        return drift

    async def _wait_gate(self, position: int) -> None:
        gate = self._gates[position] = asyncio.get_running_loop().create_future()
        if self.watchful and self._next < len(self._recorded) and not self._watching:
            self._watch()
        try:
            await gate
        finally:
            del self._gates[position]

    def _watch(self) -> None:
        """While somebody waits for what is recorded, looks now and then whether that can still come."""
        self._watching = bool(self._gates) and self._next < len(self._recorded)
        if self._watching:
            asyncio.get_running_loop().call_later(STALL_S, self._look)

    def _look(self) -> None:
        """A task that sleeps may still ask for the step that is next; one that has ended cannot."""
        missing = self._recorded[self._next].key if self._next < len(self._recorded) else ""
        if missing in self._unasked[path_of(missing)]:
            if self.lineage.is_over(path_of(missing)):
                self.end_waiting(no_step(self._actor, self._step(missing)))
            elif not self._looked:
                self._looked = True
                self.stalled()
        self._watch()

    def _skip_passed(self) -> None:
        while self._next in self._passed:
            del self._passed[self._next]
            self._next += 1

    def _settle(self) -> None:
        if not self._settling:
            self._settling, self._ticks = True, SETTLE_TICKS
            self._tick()

    def _tick(self) -> None:
        if self._ticks:
            self._ticks -= 1
            asyncio.get_running_loop().call_soon(self._tick)
            return
        self._settling = False
        self._open_gate()

    def _open_gate(self) -> None:
        gate = self._gates.get(self._next)
        if gate is not None and not gate.done():
            gate.set_result(None)


def _nobody_looks() -> None:
    """A stalled journal waits in patience where nobody can tell more."""
