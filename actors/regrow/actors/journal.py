"""The journal of one turn: recorded steps answer again, in the order in which they once completed.

The order matters as much as the outcomes: of two tasks that race, the same one must win again. So the outcome of a step is
handed out only after those of all steps that completed before it.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from regrow.actors.errors import AmbiguousStep, Drift
from regrow.actors.lineage import StepKey, path_of
from regrow.actors.records import Step

SETTLE_TICKS = 8
"""Turns of the event loop between two outcomes, so that a completion reaches whoever races for it (task, gather, wait,
timeout) before the next one exists. Live, an append lies between two records."""

STALL_S = 30.0
"""A recorded step that keeps others waiting this long was not asked for again: the handler has drifted."""


def digest(arguments: bytes) -> str:
    """The hash of a call's arguments that goes into its step key."""
    return hashlib.blake2b(arguments, digest_size=8).hexdigest()


class Journal:
    """The recorded steps of a turn and the calls that are open now. Belongs to one event loop."""

    def __init__(self, actor: str, recorded: Sequence[Step]) -> None:
        self._actor = actor
        self._recorded = list(recorded)
        self._index = {step.key: index for index, step in enumerate(self._recorded)}
        self._unused = Counter(path_of(step.key) for step in self._recorded)
        self._next = 0
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._open: dict[tuple[str, str], str] = {}
        self.closed = False

    async def replay(self, key: StepKey) -> Step | None:
        """The recorded step of this key once its turn in the order has come; None when it has to run.

        Raises ``Drift`` when it was never recorded although other steps of its task were and have not been asked for.
        """
        if self.closed:
            raise asyncio.CancelledError
        index = self._index.pop(str(key), None)
        if index is None:
            self._check_drift(key)
            return None
        self._unused[key.path] -= 1
        if index > self._next:
            await self._wait_turn(index, key)
        self._next = max(self._next, index + 1)
        self._wake_later(SETTLE_TICKS)
        return self._recorded[index]

    @contextmanager
    def running(self, key: StepKey, *, pure: bool) -> Generator[None]:
        """Keeps a call open. Raises ``AmbiguousStep`` when an equal one is open in another task, pure tools excepted."""
        call = (key.tool, key.digest)
        other = self._open.get(call)
        if other is not None and other != key.path and not pure:
            raise AmbiguousStep(key.tool)
        self._open[call] = key.path
        try:
            yield
        finally:
            self._open.pop(call, None)

    def close(self) -> None:
        """From now on no step begins: whoever asks for one is cancelled."""
        self.closed = True

    async def _wait_turn(self, index: int, key: StepKey) -> None:
        loop = asyncio.get_running_loop()
        waiting = self._waiting[index] = loop.create_future()
        try:
            while not waiting.done():
                before = self._next
                await asyncio.wait((waiting,), timeout=STALL_S)
                if not waiting.done() and self._next == before:
                    raise Drift(self._actor, str(key), self._recorded[self._next].key)
        finally:
            del self._waiting[index]

    def _wake_later(self, ticks: int) -> None:
        if ticks:
            asyncio.get_running_loop().call_soon(self._wake_later, ticks - 1)
            return
        waiting = self._waiting.get(self._next)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def _check_drift(self, key: StepKey) -> None:
        if self._unused[key.path] > 0:
            unused = next(each for each in self._index if path_of(each) == key.path)
            raise Drift(self._actor, str(key), unused)
