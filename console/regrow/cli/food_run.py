"""A run of the food application over one catalogue, kept in one directory: started once, gone on with after any end."""

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from regrow.actors import Node, Refused
from regrow.actors.witness import WITNESS
from regrow.agents.card import Recommendation
from regrow.agents.coordinator import Coordinator, Index, Progress, Recommend, Status
from regrow.agents.food_tools import CATALOG, Source
from regrow.agents.product import CatalogueError
from regrow.agents.source import read_products
from regrow.cli.failures import CommandFailed
from regrow.cli.run_store import Plan, Store
from regrow.cli.session import Durability, embedded

RULES = "rules"
RUN = "run"
"""The key of the coordinator: a store holds one run."""
POLL_S = 0.1
PLAN_TIMEOUT_S = 24 * 3600.0

_HINTS = {
    "WrongColumns": "; name them with --id COLUMN and --text COLUMN",
    "EmptyCatalogue": "; give a file with a header and at least one row",
    "UnreadableCatalogue": "; give another file, or make this one readable",
}
"""What the command line can do about a file that could not be read, by the name of the error."""


class NothingToIndex(CommandFailed):
    """The file gave no product: nothing was planned, so the store holds nothing that is worth keeping."""


def planned(path: Path, products_max: int, id_column: str | None = None, text_column: str | None = None) -> Plan:
    """A plan over a file as it is now. Raises ``CommandFailed`` when its first rows already show that it cannot be read."""
    if not path.is_file():
        what = f"{path} is a directory" if path.is_dir() else f"there is no file {path}"
        raise CommandFailed(f"{what}; give a .csv or .jsonl file, or none for the sample")
    try:
        next(read_products(path, id_column, text_column))
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except CatalogueError as error:
        raise CommandFailed(explained(type(error).__name__, str(error))) from error
    return Plan(Source(str(path.absolute()), id_column, text_column), products_max, digest)


def explained(error: str, message: str) -> str:
    """The sentence about an error of this class, with what can be typed to mend it."""
    return message + _HINTS.get(error, "")


def model_line() -> str:
    """Which model the environment names, said before it is used."""
    name = os.environ.get("REGROW_MODEL", RULES)
    if name == RULES:
        return "model: rules (hand-written and deterministic, no language model is involved)"
    return f"model: {name}"


@asynccontextmanager
async def hosted(store: Store, durability: Durability, *, witnessed: bool = False) -> AsyncGenerator[Node]:
    """The food application on this store. Its settings go by the environment, for its processes to find."""
    os.environ[CATALOG] = str(store.catalog.absolute())
    if witnessed:
        os.environ[WITNESS] = str(store.witness.absolute())
    try:
        from regrow.agents.food import app  # now: the model is chosen when the application is imported
    except ImportError as missing:
        raise CommandFailed(str(missing)) from missing
    async with embedded(app, store.path, durability) as node:
        yield node


async def index(
    node: Node, plan: Plan, *, on_plan: Callable[[Status], None], on_progress: Callable[[Status], None]
) -> Status:
    """The run's final status; told to begin again, a run that has begun goes on. Raises ``CommandFailed``."""
    run = node.ref(Coordinator, RUN)
    try:
        status = await run.ask(Index(source=plan.source, products_max=plan.products_max), timeout_s=PLAN_TIMEOUT_S)
    except Refused as no:
        error = str(no.data.get("error", ""))
        failed = NothingToIndex if error in UNREADABLE else CommandFailed
        raise failed(explained(error, no.message)) from None
    if not status.lots:
        raise NothingToIndex(
            f"{plan.source.path} holds no product that could be read ({'; '.join(status.first_bad[:3])}); "
            "correct these rows, or name the columns with --id and --text"
        )
    on_plan(status)
    while not status.done:
        status = await run.ask(Progress())
        on_progress(status)
        await asyncio.sleep(POLL_S)
    if status.products_failed:
        raise CommandFailed(
            f"{status.products_failed:,} of {status.products:,} products could not be researched, the first is "
            f"{status.first_failed.rstrip('.')}; the others are filed, and the same command tries these again"
        )
    return status


async def recommend(node: Node, question: str) -> Recommendation:
    """The answer to a question. Raises ``CommandFailed`` with the reason when there is none."""
    try:
        return await node.ref(Coordinator, RUN).ask(Recommend(question=question))
    except Refused as no:
        raise CommandFailed(no.message) from None


UNREADABLE = frozenset({"UnreadableCatalogue", "EmptyCatalogue", "WrongEncoding", "WrongColumns"})
"""Errors of the file itself, as the catalog tier refuses it."""
