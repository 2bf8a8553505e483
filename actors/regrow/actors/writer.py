"""The one appender of an actor's log: entries that become ready while an append is in flight go together into the next.

It also decides when the log has grown long enough for a snapshot, which it may take after any record: the image is whole
whatever the actor is in the middle of.
"""

import asyncio
import secrets
from collections.abc import Callable
from itertools import count

import structlog

from regrow.actors.fold import Fold
from regrow.actors.policy import Policy
from regrow.actors.records import VERSION, Entry, Record, Snapshot, Tombstone
from regrow.bus import Address, BusError, EventLog, PayloadTooLarge, StaleWriter, encode

_NONCE = secrets.token_hex(6)
_numbers = count()
_log = structlog.get_logger(__name__)

Pending = tuple[Entry, asyncio.Future[None]]


def next_record_id() -> str:
    """An id that no other record has: this process's nonce and a counter."""
    return f"{_NONCE}-{next(_numbers)}"


class Writer:
    """Appends entries to one log and folds what was stored. ``start`` runs a function in a task that the host owns."""

    def __init__(
        self,
        log: EventLog,
        address: Address,
        fold: Fold,
        policy: Policy,
        start: Callable[..., asyncio.Task[None]],
    ) -> None:
        self._log = log
        self._address = address
        self._fold = fold
        self._policy = policy
        self._start = start
        self._pending: list[Pending] = []
        self._busy = False

    def submit(self, entry: Entry) -> asyncio.Future[None]:
        """Done once the entry is stored and folded, in the order of the calls; cancelling it changes nothing about that.

        Its exception is the append's: ``StaleWriter``, ``PayloadTooLarge``, ``StoreFull``.
        """
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((entry, stored))
        if not self._busy:
            self._busy = True
            self._start(self._drain)
        return stored

    async def append(self, entry: Entry) -> None:
        """The same for a caller who waits, at no more cost than the append itself where nothing else is being written."""
        if self._busy:
            await self.submit(entry)
            return
        self._busy = True
        try:
            await self._store((entry,))
            await self._keep_short()
        except BaseException:
            self._stop()
            raise
        self._go_on()

    async def roll_up(self) -> None:
        """Makes the log short now, if it is longer than a snapshot and nothing is being written."""
        if not self._busy and self._fold.image.records > 1:
            self._busy = True
            try:
                await self._snapshot()
            except BaseException:
                self._stop()
                raise
            self._go_on()

    async def _drain(self) -> None:
        try:
            while self._pending:
                batch, self._pending = self._pending, []
                await self._append(batch)
                await self._keep_short()
        finally:
            self._stop()

    def _go_on(self) -> None:
        """Writes what became ready meanwhile."""
        if self._pending:
            self._start(self._drain)
        else:
            self._busy = False

    def _stop(self) -> None:
        """Nothing is being written any more; what waited for it never will be by this copy."""
        self._busy = False
        for _, stored in self._pending:
            stored.cancel()
        self._pending.clear()

    async def _append(self, batch: list[Pending]) -> None:
        """One record for the batch; one each when together they are too large."""
        try:
            await self._store(tuple(entry for entry, _ in batch))
        except PayloadTooLarge as error:
            if len(batch) == 1:
                _settle(batch[0][1], error)
                return
            for each in batch:
                await self._append([each])
        except asyncio.CancelledError:
            for _, stored in batch:
                stored.cancel()
            raise
        except Exception as error:  # whatever stops an append belongs to those who wait for it
            for _, stored in batch:
                _settle(stored, error)
        else:
            for _, stored in batch:
                _settle(stored, None)

    async def _store(self, entries: tuple[Entry, ...]) -> None:
        record = Record(VERSION, next_record_id(), entries)
        rollup = isinstance(entries[0], Snapshot | Tombstone)
        stored = await self._log.append(
            self._address, encode(record), rid=record.rid, after=self._fold.sequence, rollup=rollup
        )
        self._fold.advance(entries, stored)

    async def _keep_short(self) -> None:
        """A snapshot when it is due: after so many records of the actor, or when its first one lies far back in the stream."""
        fold, policy = self._fold, self._policy
        records = fold.image.records
        if records >= policy.snapshot_every or (records > 1 and fold.sequence - fold.first >= policy.snapshot_distance):
            await self._snapshot()

    async def _snapshot(self) -> None:
        """One that does not come about costs only the time of a later recovery."""
        try:
            self._fold.check()
            if self._policy.history == "compact":
                await self._store((self._fold.snapshot(),))
            else:
                await self._log.save(self._address, self._fold.saved(), self._fold.sequence)
        except StaleWriter:
            return  # the next append finds it out, and knows what to do
        except BusError as error:
            _log.error("no snapshot was taken; the log stays as it is", actor=str(self._address), error=str(error))
        self._fold.image.records = 0


def _settle(stored: asyncio.Future[None], error: Exception | None) -> None:
    if stored.done():
        return
    if error is None:
        stored.set_result(None)
    else:
        stored.set_exception(error)
