"""The directory of a run: what it is over, where its parts lie, whether it has come to its end."""

import os
import shutil
from pathlib import Path

import msgspec

from regrow.agents.food_tools import Source
from regrow.bus import StoreBusy
from regrow.bus.store import living_holder, open_lock, try_lock
from regrow.cli.failures import CommandFailed

ALL = 10_000_000
"""More products than any file has: no limit."""


class Plan(msgspec.Struct, frozen=True):
    """What a store's run is over; written before it begins."""

    source: Source
    products_max: int
    digest: str
    """SHA-256 of the file: of a file that has changed, the rows that were taken are no longer its rows."""


class Store:
    """The directory of a run. It may lie in a directory with other things: only its own parts are ever removed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.nats = path / "nats"
        self.witness = path / "witness.jsonl"
        self.catalog = path / "catalog.sqlite"
        self.result = path / "result.json"
        self._plan = path / "plan.json"
        self._finished = path / "finished"

    @property
    def plan(self) -> Plan | None:
        """What the run is over; None where there is no run yet. Raises ``CommandFailed`` for what is no plan."""
        try:
            return msgspec.json.decode(self._plan.read_bytes(), type=Plan)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except msgspec.DecodeError as error:
            raise CommandFailed(f"{self._plan} is no plan of this version of regrow; choose another --store") from error

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return self._finished.exists()

    def begin(self, plan: Plan) -> None:
        """Notes a new run. Raises ``CommandFailed`` when the store holds one over something else."""
        held = self.plan
        if held is not None and (why := difference(held, plan)):
            raise CommandFailed(f"{self.path} holds a run over {why}; choose another --store for this one")
        self.path.mkdir(parents=True, exist_ok=True)
        _write(self._plan, msgspec.json.encode(plan))

    def finish(self) -> None:
        """Notes that the run is complete."""
        _write(self._finished, b"")

    def clear(self) -> None:
        """Removes the run, finished or not. Raises ``StoreBusy`` while another process works on it."""
        if self.nats.exists():
            lock = open_lock(self.nats)
            try:
                if not try_lock(lock):
                    raise StoreBusy(self.nats, living_holder(lock))
                self._remove()
            finally:
                os.close(lock)
        else:
            self._remove()

    def _remove(self) -> None:
        """The note that it is finished goes last: cut short, the same is done again."""
        catalog = [self.catalog.with_name(self.catalog.name + suffix) for suffix in ("", "-wal", "-shm")]
        shutil.rmtree(self.nats, ignore_errors=True)
        for part in (*catalog, self.witness, self.result, self._plan, self._finished):
            part.unlink(missing_ok=True)


def difference(held: Plan, wanted: Plan) -> str:
    """What the held run is over where that is something else; empty when it is the same, wherever the file lies now."""
    if held.digest != wanted.digest:
        if held.source.path == wanted.source.path:
            return f"{held.source.path} as it was before it changed"
        return held.source.path
    if held.products_max != wanted.products_max:
        return "all products" if held.products_max >= ALL else f"{held.products_max:,} products at most"
    if (held.source.id_column, held.source.text_column) != (wanted.source.id_column, wanted.source.text_column):
        return "other columns of the same file"
    return ""


def _write(path: Path, data: bytes) -> None:
    """The whole file or the one before it, never a part."""
    partial = path.with_suffix(".partial")
    partial.write_bytes(data)
    partial.replace(path)
