"""How a projection is run: read ahead, handle in batches, keep the position, begin again from it after any failure.

One task does all of that and owns one more, which reads. The position in the projection's store is the truth, and looked at
again at the beginning of every batch: what another process has handled meanwhile is not handled again.
"""

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec
import structlog

from regrow.actors.errors import ActorError
from regrow.actors.happening import Happening, Place, Recorded, happenings, recorded
from regrow.actors.read_ahead import ReadAhead
from regrow.bus import EventLog, Followed
from regrow.supervisor import Start

_log = structlog.get_logger(__name__)

BATCH_RECORDS_MAX = 256
"""Records of one batch; a batch is what has been read while the one before was handled, so at low rates it is one record."""

Positions = Mapping[int, int]
"""How far each log stream was handled: the sequence of the last record, by the number of the stream."""


class ProjectionFailed(ActorError):
    """A projection could not take an event; it is tried again from the saved position."""

    def __init__(self, projection: str, at: Recorded, attempt: int, error: Exception) -> None:
        super().__init__(
            f"the projection {projection} failed on {at}, at attempt {attempt}: {type(error).__name__}: {error}"
        )
        self.projection = projection
        self.at = at
        self.attempt = attempt


class PositionMoved(ActorError):
    """The position in the store was set back while the projection ran; it begins again from there."""

    def __init__(self, projection: str) -> None:
        super().__init__(
            f"the position of the projection {projection} was set back under it; it goes on from there "
            "(to do that on purpose, call reset())"
        )
        self.projection = projection


class Projecting(Protocol):
    """What a projection does, as far as whoever runs it is concerned."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def skip_after(self) -> int | None: ...
    async def load(self) -> Positions: ...
    async def save(self, positions: Positions) -> None: ...
    async def skipped(self, at: Recorded, error: str) -> None: ...
    def batch(self) -> AbstractAsyncContextManager[object]: ...
    async def take(self, what: Happening, at: Recorded) -> None: ...
    async def forget(self) -> None: ...


class _Failed(msgspec.Struct, frozen=True):
    """How often an event failed in this process, and how at last."""

    attempts: int
    error: str


class Runner:
    """Runs one projection over one bus, incarnation after incarnation."""

    def __init__(self, projection: Projecting, log: EventLog) -> None:
        self._projection = projection
        self._log = log
        self._turn = asyncio.Lock()
        self._ahead: ReadAhead | None = None
        self._work: asyncio.Task[None] | None = None
        self._stopping = False
        self._saved: dict[int, int] = {}
        self._seen: dict[int, int] = {}
        self._unsaved = 0
        self._failed: dict[Place, _Failed] = {}

    async def run(self, start: Start) -> None:
        """Runs as a child. Asked to stop, it finishes the record that it is at and saves how far it came."""
        start.ready()  # at once: whatever ails a projection must not keep the actors from starting
        self._stopping = False
        self._work = asyncio.create_task(self._run(), name=f"projection {self._projection.name}")
        try:
            await asyncio.shield(self._work)
        except asyncio.CancelledError:
            self._stopping = True
            self._end()
            await self._work
            raise
        except Exception as error:  # the supervised edge, whose supervisor does not log what an error says
            _log.error(
                "projection failed, going on from its position", projection=self._projection.name, error=str(error)
            )
            raise

    async def reset(self) -> None:
        """Forgets the position between two batches and begins again with the first record."""
        if asyncio.current_task() is self._work:
            raise ActorError(f"the projection {self._projection.name} cannot be reset by one of its own handlers")
        async with self._turn:
            await self._projection.forget()
            self._failed.clear()
            self._end()

    def _end(self) -> None:
        if self._ahead is not None:
            self._ahead.end()
            self._ahead = None

    async def _run(self) -> None:
        while not self._stopping:
            await self._follow()

    async def _follow(self) -> None:
        """Handles everything from the saved position on, until stopped or reset."""
        async with self._turn:
            self._saved = dict(await self._projection.load())
            self._seen, self._unsaved = dict(self._saved), 0
            ahead = self._ahead = ReadAhead(self._log.follow(self._projection.kind, self._saved))
        async with ahead:
            if self._stopping:
                return
            while taken := await ahead.take(1 if self._failed else BATCH_RECORDS_MAX):
                async with self._turn:
                    if self._ahead is not ahead and not self._stopping:
                        return  # reset while this waited
                    await self._records(taken)
            if self._stopping and self._unsaved:
                async with self._turn:
                    await self._batch([])

    async def _records(self, taken: list[Followed]) -> None:
        """One batch; none, yet, for records that tell nothing."""
        told = [(each, happenings(each)) for each in taken]
        self._unsaved += len(told)
        if any(what for _, what in told) or self._unsaved >= BATCH_RECORDS_MAX:
            await self._batch(told)
        else:
            self._seen.update({each.stream: each.stored.sequence for each in taken})

    async def _batch(self, told: list[tuple[Followed, tuple[Happening, ...]]]) -> None:
        """Handles records and saves the position, both inside the projection's batch, unless they were handled meanwhile."""
        async with self._projection.batch():
            there = await self._projection.load()
            if any(there.get(stream, 0) < sequence for stream, sequence in self._saved.items()):
                raise PositionMoved(self._projection.name)
            reached = furthest(self._seen, there)
            for each, what in told:
                if each.stored.sequence > there.get(each.stream, 0):
                    await self._record(each, what)
                    reached[each.stream] = each.stored.sequence
                if self._stopping:
                    break
            if reached != there:
                await self._projection.save(reached)
        self._saved, self._seen, self._unsaved = reached, dict(reached), 0
        self._failed = {place: each for place, each in self._failed.items() if place[1] > reached.get(place[0], 0)}

    async def _record(self, followed: Followed, what: tuple[Happening, ...]) -> None:
        for index, each in enumerate(what):
            at = recorded(followed, index)
            failed = self._failed.get(at.place, _Failed(0, ""))
            if self._projection.skip_after is not None and failed.attempts >= self._projection.skip_after:
                await self._projection.skipped(at, failed.error)
                continue
            try:
                await self._projection.take(each, at)
            except Exception as error:  # the supervised edge: a user's handler
                attempts = failed.attempts + 1
                self._failed[at.place] = _Failed(attempts, f"{type(error).__name__}: {error}")
                raise ProjectionFailed(self._projection.name, at, attempts, error) from error


def furthest(one: Positions, other: Positions) -> dict[int, int]:
    """The later position of each stream."""
    return {stream: max(one.get(stream, 0), other.get(stream, 0)) for stream in sorted({*one, *other})}
