"""A slice of the catalogue run whose process may die anywhere: the four tiers over a few products, and the cards at the end.

The rows and the cards lie in a file outside of every process, as in earnest; each run of a scenario has a new one. The tool
agents run in the process that dies, and with it. Model: the rules.
"""

import asyncio
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from regrow.actors import System
from regrow.actors.witness import WITNESS
from regrow.agents import ToolAgent, food
from regrow.agents.card import Recommendation
from regrow.agents.coordinator import Coordinator, Index, Progress, Recommend, Status
from regrow.agents.food_tools import CATALOG, Source
from regrow.agents.rules_food import food_rules
from regrow.agents.store import CatalogStore
from regrow.agents.usda import sample_path
from regrow.testing import Outside

LOT_SIZE = 2
LOOK_S = 0.1
QUESTION = "like CHEDDAR CHEESE but less sodium"
ROWS = 40
"""Of the sample: enough for categories with statistics and for products alike."""

PATH = "regrow.bench.crash_catalogue:app"

app = System(
    food.app.name,
    actors=list(food.app.kinds.values()),
    children=[
        ToolAgent(each.name, each.tools, size=each.size) for each in food.app.children if isinstance(each, ToolAgent)
    ],
    ports={"model": food_rules()},
)


class Found(msgspec.Struct, frozen=True):
    """What a run has come to, outside of the actors."""

    status: Status
    cards: Mapping[str, str]
    answer: Recommendation


class Slice:
    """A few products, researched in a folder of its own: ``crash_points(slice.system, slice.scenario)``."""

    def __init__(self, folder: Path, *, products: int, lots_at_once: int) -> None:
        """``products``: how many of the sample's rows are researched, in lots of two, so many of them at once."""
        self._folder = folder
        self._products = products
        self._lots_at_once = lots_at_once
        self._rows = folder / "rows.csv"
        with sample_path().open(encoding="utf-8") as sample, self._rows.open("w", encoding="utf-8") as rows:
            rows.writelines(line for line, _ in zip(sample, range(ROWS + 1), strict=False))
        self._renew()

    def system(self) -> System:
        """The application on a new catalogue, for a run in this process."""
        self._renew()
        return app

    async def scenario(self, outside: Outside) -> Found:
        """Indexes the products, waits for the last card, asks a question."""
        run = outside.ref(Coordinator, "run")
        rows = Source(str(self._rows))
        status = await run.ask(
            Index(source=rows, products_max=self._products, lot_size=LOT_SIZE, lots_at_once=self._lots_at_once)
        )
        while not status.done:
            await asyncio.sleep(LOOK_S)
            status = await run.ask(Progress())
        answer = await run.ask(Recommend(question=QUESTION))
        with CatalogStore(self._catalog) as store:
            cards = {product: body.decode() for product, body in store.cards()}
        return Found(status, cards, answer)

    async def scenario_elsewhere(self, outside: Outside) -> Found:
        """The same where workers of their own host the application: they know one catalogue, and find it empty."""
        for each in self._catalog.parent.iterdir():
            each.unlink()  # those of the run before are dead, and this one's open it when they are asked
        return await self.scenario(outside)

    def _renew(self) -> None:
        self._catalog = Path(tempfile.mkdtemp(dir=self._folder)) / "catalog.sqlite"
        os.environ[CATALOG] = str(self._catalog)
        os.environ.pop(WITNESS, None)


def without_order(actor: str, state: Any) -> Any:
    """Of lots at once nobody says which is finished first."""
    return {**state, "finished": sorted(state["finished"])} if actor.startswith("coordinator/") else state
