"""The journal of one turn: recorded steps answer again, in the order in which they once completed.

The order matters as much as the outcomes: of two tasks that race, the same one must win again. So outcomes pass one at a time,
in the order of the log, and each reaches whoever waits for it before the next one passes. That holds for steps that run now
just as for recorded ones, lest several that share a record look as if they came at once. Belongs to one event loop.

Another attempt at a turn may take another way, so the steps of the attempts before are only known by their keys: each answers as
soon as it is asked for, and none is missed.
"""

import asyncio
import hashlib
from collections import defaultdict, deque
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from regrow.actors.errors import AmbiguousStep, Drift
from regrow.actors.lineage import Lineage, StepKey, path_of
from regrow.actors.records import Step

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

    def __init__(
        self, actor: str, recorded: Sequence[Step], lineage: Lineage | None = None, kept: Sequence[Step] = ()
    ) -> None:
        self.lineage = lineage or Lineage()
        self.closed = False
        self._actor = actor
        self._kept = {step.key: step for step in kept} if kept else {}
        self._recorded = tuple(recorded)
        # Of a step that completed and was cancelled before its task saw the outcome, the later record counts.
        self._position: dict[str, int] = {}
        self._unasked: defaultdict[str, deque[str]] = defaultdict(deque)
        self._passed: set[int] = set()
        self._next = 0
        self._positions = len(self._recorded)
        self._settling = False
        self._gates: dict[int, asyncio.Future[None]] = {}
        self._open: dict[tuple[str, str], str] = {}
        if recorded:
            self._lay_out(recorded)

    def _lay_out(self, recorded: Sequence[Step]) -> None:
        self._position = {step.key: position for position, step in enumerate(recorded)}
        for key in sorted(self._position, key=self._position.__getitem__):
            self._unasked[path_of(key)].append(key)
        self._passed = {position for position, step in enumerate(recorded) if self._position[step.key] != position}
        self._skip_passed()

    def recorded(self, key: StepKey) -> Step | None:
        """What the log has of this step; None when it has to run.

        Raises ``Drift`` when the task of this step took another one here when the journal was written.
        """
        kept = self._kept.pop(str(key), None)
        if kept is not None:
            return kept
        unasked = self._unasked[key.path]
        if unasked and unasked[0] != str(key):
            raise Drift(self._actor, str(key), unasked[0])
        if not unasked:
            return None
        return self._recorded[self._position[unasked.popleft()]]

    async def replay(self, step: Step) -> Step:
        """The recorded step once its turn has come; a cancelled one never comes, its task is cancelled again instead."""
        position = self._position.get(step.key)
        if position is None:
            for _ in range(SETTLE_TICKS):
                await asyncio.sleep(0)
            return step
        if not step.cancelled:
            self._settle()
            await self.arrive(position)
            return step
        cancelled: asyncio.Future[Step] = asyncio.get_running_loop().create_future()
        try:
            return await cancelled
        finally:
            self.give_up(position)

    def place(self) -> int:
        """The position of a step whose record is handed to the writer now."""
        self._positions += 1
        return self._positions - 1

    async def arrive(self, position: int) -> None:
        """Returns when the outcome at this position passes. Raises ``Drift`` when one before it can come no more."""
        try:
            if position != self._next or self._settling:
                await self._wait_gate(position)
            self._settle()
        finally:
            self.give_up(position)

    def give_up(self, position: int) -> None:
        """Nobody waits for the outcome at this position (any more): the next one may pass."""
        self._passed.add(position)
        self._skip_passed()
        if not self._settling:
            self._open_gate()

    @contextmanager
    def running(self, key: StepKey, *, pure: bool) -> Generator[None]:
        """Keeps a call open. Raises ``AmbiguousStep`` when an equal one is open in another task, pure tools excepted."""
        call = (key.tool, key.digest)
        other = self._open.get(call)
        if other is not None and other != key.path and not pure and str(key) not in self._position:
            raise AmbiguousStep(key.tool)
        self._open[call] = key.path
        try:
            yield
        finally:
            self._open.pop(call, None)

    def check_done(self) -> None:
        """Raises ``Drift`` when the handler's own task ends without having asked for all steps that it once took."""
        if self._unasked[""]:
            raise Drift(self._actor, "none", self._unasked[""][0])

    def close(self) -> None:
        """From now on no step begins: whoever asks for one is cancelled."""
        self.closed = True

    async def _wait_gate(self, position: int) -> None:
        gate = self._gates[position] = asyncio.get_running_loop().create_future()
        try:
            while not gate.done():
                await asyncio.wait((gate,), timeout=STALL_S)
                if not gate.done():
                    self._check_stalled()
        finally:
            del self._gates[position]

    def _check_stalled(self) -> None:
        """A task that sleeps may still ask for the step that is next; one that has ended cannot."""
        if self._next >= len(self._recorded):
            return
        missing = self._recorded[self._next].key
        if missing in self._unasked[path_of(missing)] and self.lineage.is_over(path_of(missing)):
            raise Drift(self._actor, "another task's", missing)

    def _skip_passed(self) -> None:
        while self._next in self._passed:
            self._passed.discard(self._next)
            self._next += 1

    def _settle(self) -> None:
        if not self._settling:
            self._settling = True
            self._tick(SETTLE_TICKS)

    def _tick(self, left: int) -> None:
        if left:
            asyncio.get_running_loop().call_soon(self._tick, left - 1)
            return
        self._settling = False
        self._open_gate()

    def _open_gate(self) -> None:
        gate = self._gates.get(self._next)
        if gate is not None and not gate.done():
            gate.set_result(None)
