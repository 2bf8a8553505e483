"""A run of the food application over one catalogue, kept in one directory: started once, gone on with after any end."""

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from regrow.actors import Node, Refused
from regrow.agents.card import Recommendation
from regrow.agents.coordinator import Coordinator, Index, Progress, Recommend, Status
from regrow.agents.food_tools import CATALOG, Source
from regrow.agents.witness import WITNESS
from regrow.cli.failures import CommandFailed
from regrow.cli.session import Durability, embedded

RUN = "run"
"""The key of the coordinator: a store holds one run."""
POLL_S = 0.1
PLAN_TIMEOUT_S = 24 * 3600.0


class Plan(msgspec.Struct, frozen=True):
    """What a store's run is over; written before it begins."""

    source: Source
    products_max: int


class Store:
    """The directory of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.witness = path / "witness.jsonl"
        self.catalog = path / "catalog.sqlite"
        self._plan = path / "plan.json"
        self._finished = path / "finished"

    @property
    def plan(self) -> Plan | None:
        """What the run is over; None where there is no run yet."""
        return msgspec.json.decode(self._plan.read_bytes(), type=Plan) if self._plan.exists() else None

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return self._finished.exists()

    def begin(self, plan: Plan) -> None:
        """Notes a new run. Raises ``CommandFailed`` when the store holds one over something else."""
        held = self.plan
        if held is not None and held != plan:
            raise CommandFailed(
                f"{self.path} holds a run over {held.source.path} ({held.products_max:,} products at most); "
                "choose another --store for this one"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        _write(self._plan, msgspec.json.encode(plan))

    def finish(self) -> None:
        """Notes that the run is complete."""
        _write(self._finished, b"")

    def clear(self) -> None:
        """Removes a run, finished or not."""
        shutil.rmtree(self.path, ignore_errors=True)


@asynccontextmanager
async def hosted(store: Store, durability: Durability, *, witnessed: bool = False) -> AsyncGenerator[Node]:
    """The food application on this store. Its settings go by the environment, for its processes to find."""
    os.environ[CATALOG] = str(store.catalog.absolute())
    if witnessed:
        os.environ[WITNESS] = str(store.witness.absolute())
    from regrow.agents.food import app  # now: the model is chosen when the application is imported

    async with embedded(app, store.path, durability) as node:
        yield node


async def index(
    node: Node, plan: Plan, *, on_plan: Callable[[Status], None], on_progress: Callable[[Status], None]
) -> Status:
    """The run's final status; told to begin again, a run that has begun goes on."""
    run = node.ref(Coordinator, RUN)
    try:
        status = await run.ask(Index(source=plan.source, products_max=plan.products_max), timeout_s=PLAN_TIMEOUT_S)
    except Refused as no:
        raise CommandFailed(no.message) from None
    if not status.lots:
        raise CommandFailed(
            f"{plan.source.path} holds no product that could be read: {'; '.join(status.first_bad[:3])}"
        )
    on_plan(status)
    while not status.done:
        status = await run.ask(Progress())
        on_progress(status)
        await asyncio.sleep(POLL_S)
    return status


async def recommend(node: Node, question: str) -> Recommendation:
    """The answer to a question. Raises ``CommandFailed`` with the reason when there is none."""
    try:
        return await node.ref(Coordinator, RUN).ask(Recommend(question=question))
    except Refused as no:
        raise CommandFailed(no.message) from None


def _write(path: Path, data: bytes) -> None:
    """The whole file or the one before it, never a part."""
    partial = path.with_suffix(".partial")
    partial.write_bytes(data)
    partial.replace(path)
