"""The one appender of an actor's log: entries that become ready while an append is in flight go together into the next."""

import asyncio
import secrets
from collections.abc import Callable
from itertools import count

from regrow.actors.image import Fold
from regrow.actors.records import VERSION, Entry, Record, Snapshot
from regrow.bus import Address, EventLog, PayloadTooLarge, encode

_NONCE = secrets.token_hex(6)
_numbers = count()

Pending = tuple[Entry, asyncio.Future[None]]


def next_record_id() -> str:
    """An id that no other record has: this process's nonce and a counter."""
    return f"{_NONCE}-{next(_numbers)}"


class Writer:
    """Appends entries to one log and folds what was stored. ``start`` runs a function in a task that the host owns."""

    def __init__(self, log: EventLog, address: Address, fold: Fold, start: Callable[..., asyncio.Task[None]]) -> None:
        self._log = log
        self._address = address
        self._fold = fold
        self._start = start
        self._pending: list[Pending] = []
        self._draining: asyncio.Task[None] | None = None

    def submit(self, entry: Entry) -> asyncio.Future[None]:
        """Done once the entry is stored and folded, in the order of the calls; cancelling it changes nothing about that.

        Its exception is the append's: ``StaleWriter``, ``PayloadTooLarge``, ``StoreFull``.
        """
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((entry, stored))
        if self._draining is None:
            self._draining = self._start(self._drain)
        return stored

    async def _drain(self) -> None:
        try:
            while self._pending:
                batch, self._pending = self._pending, []
                await self._append(batch)
        finally:
            self._draining = None
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
        rollup = isinstance(entries[0], Snapshot)
        stored = await self._log.append(
            self._address, encode(record), rid=record.rid, after=self._fold.sequence, rollup=rollup
        )
        self._fold.advance(entries, stored)


def _settle(stored: asyncio.Future[None], error: Exception | None) -> None:
    if stored.done():
        return
    if error is None:
        stored.set_result(None)
    else:
        stored.set_exception(error)
