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

_NOTHING = Record(VERSION, "", ())

Told = Callable[[Entry, Exception | None], None]
"""Hears what became of an entry before whoever waits for it goes on; not when the host ends meanwhile."""


Pending = tuple[Entry, asyncio.Future[None] | None, Told | None]
"""An entry that is not in the log yet, and who is to know when it is."""


def next_record_id() -> str:
    """An id that no other record has: this process's nonce and a counter."""
    return f"{_NONCE}-{next(_numbers)}"


class Writer:
    """Appends entries to one log and folds what was stored. ``start`` runs a function in a task that the host owns."""

    __slots__ = (
        "_address",
        "_busy",
        "_fold",
        "_log",
        "_pending",
        "_policy",
        "_record",
        "_sent",
        "_start",
    )

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
        self._sent: list[Pending] = []
        self._record = _NOTHING

    def submit(self, *entries: Entry, told: Told | None = None, at_once: bool = False) -> asyncio.Future[None]:
        """Done once the entries are stored and folded, in the order of the calls; cancelling it changes nothing about that.

        What is submitted in one turn of the event loop goes into one record, unless it is sent ``at_once``. The exception is the
        append's: ``StaleWriter``, ``PayloadTooLarge``, ``StoreFull``.
        """
        loop = asyncio.get_running_loop()
        stored: asyncio.Future[None] = loop.create_future()
        for entry in entries[:-1]:
            self._pending.append((entry, None, told))
        self._pending.append((entries[-1], stored, told))
        if not self._busy:
            self._busy = True
            if at_once:
                self._begin()
            else:
                loop.call_soon(self._begin)
        return stored

    async def append(self, entry: Entry) -> None:
        """The same for a caller who waits."""
        await self.submit(entry, at_once=True)

    async def roll_up(self) -> None:
        """Makes the log short now, if it is longer than a snapshot and nothing is being written."""
        if not self._busy and self._fold.image.records > 1:
            self._busy = True
            await self._shorten()

    def _begin(self) -> None:
        """Sends off what is pending. What cannot be told from one answer needs a task, which takes the batch over."""
        batch, self._pending = self._pending, []
        entries = (batch[0][0],) if len(batch) == 1 else tuple([entry for entry, _, _ in batch])
        record = Record(VERSION, next_record_id(), entries)
        if isinstance(entries[0], Snapshot | Tombstone):
            self._take_time(batch, record)
            return
        self._sent, self._record = batch, record
        self._log.attempt(self._address, encode(record), rid=record.rid, after=self._fold.sequence, done=self._answered)

    def _answered(self, sequence: int | None) -> None:
        """What became of the record that was sent; there is never more than one."""
        if sequence is None:
            self._take_time(self._sent, self._record)
        else:
            self._stored(self._sent, self._record, sequence)
            self._go_on()

    def _take_time(self, batch: list[Pending], record: Record) -> None:
        try:
            self._start(self._insist, batch, record)
        except RuntimeError:  # the host is ending
            self._give_up(batch)

    async def _insist(self, batch: list[Pending], record: Record) -> None:
        try:
            await self._append(batch, record)
        except BaseException:
            self._give_up(batch)
            raise
        self._go_on()

    def _go_on(self) -> None:
        """Writes what became ready meanwhile, after a snapshot where one is due."""
        if self._too_long():
            try:
                self._start(self._shorten)
            except RuntimeError:  # the host is ending
                self._give_up([])
        elif self._pending:
            self._begin()
        else:
            self._busy = False

    async def _shorten(self) -> None:
        try:
            await self._snapshot()
        except BaseException:
            self._give_up([])
            raise
        if self._pending:
            self._begin()
        else:
            self._busy = False

    def _give_up(self, batch: list[Pending]) -> None:
        """Nothing is being written any more; what waited for it never will be by this copy."""
        self._busy = False
        for _, stored, _ in (*batch, *self._pending):
            if stored is not None:
                stored.cancel()
        self._pending.clear()

    def _stored(self, batch: list[Pending], record: Record, sequence: int) -> None:
        error: Exception | None = None
        try:
            self._fold.advance(record.entries, sequence)
        except Exception as broken:  # a user's event: whoever waits for the record is told
            error = broken
        for each in batch:
            _settle(each, error)

    async def _append(self, batch: list[Pending], record: Record) -> None:
        """One record for the batch; one each when together they are too large."""
        try:
            sequence = await self._send(record)
        except PayloadTooLarge as error:
            if len(batch) == 1:
                _settle(batch[0], error)
                return
            for each in batch:
                await self._append([each], Record(VERSION, next_record_id(), (each[0],)))
        except Exception as error:  # whatever stops an append belongs to those who wait for it
            for each in batch:
                _settle(each, error)
        else:
            self._stored(batch, record, sequence)

    async def _send(self, record: Record) -> int:
        rollup = isinstance(record.entries[0], Snapshot | Tombstone)
        data = encode(record)
        return await self._log.append(self._address, data, rid=record.rid, after=self._fold.sequence, rollup=rollup)

    def _too_long(self) -> bool:
        """Whether a snapshot is due: after so many records of the actor, or when its first one lies far back in the stream."""
        fold, policy = self._fold, self._policy
        records = fold.image.records
        return records >= policy.snapshot_every or (
            records > 1 and fold.sequence - fold.first >= policy.snapshot_distance
        )

    async def _snapshot(self) -> None:
        """One that does not come about costs only the time of a later recovery."""
        try:
            self._fold.check()
            if self._policy.history == "compact":
                record = Record(VERSION, next_record_id(), (self._fold.snapshot(),))
                self._fold.advance(record.entries, await self._send(record))
            else:
                await self._log.save(self._address, self._fold.saved(), self._fold.sequence)
        except StaleWriter:
            return  # the next append finds it out, and knows what to do
        except BusError as error:
            _log.error("no snapshot was taken; the log stays as it is", actor=str(self._address), error=str(error))
        self._fold.image.records = 0


def _settle(pending: Pending, error: Exception | None) -> None:
    entry, stored, told = pending
    if told is not None:
        told(entry, error)
    if stored is None or stored.done():
        return
    if error is None:
        stored.set_result(None)
    else:
        stored.set_exception(error)
        stored.exception()  # seen: whoever waits gets it, and nobody may wait any more
