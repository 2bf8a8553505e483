"""The food catalogue's tools. Each body tells the witness that it runs; what takes less than a millisecond is not sent to a thread.

The catalogue's file is named by the environment variable ``REGROW_CATALOG``, so that the processes of tool agents open the same one.
"""

import os
from functools import cache
from pathlib import Path

import msgspec

from regrow.actors import Repeat, Retry, tool
from regrow.actors.failure_kind import INFRASTRUCTURE
from regrow.actors.witness import witness
from regrow.agents import nutrition, portion, recommend, verify
from regrow.agents.card import Alternative, Candidate, ProductCard, card_bytes
from regrow.agents.claims import Claim, claims
from regrow.agents.product import Product
from regrow.agents.question import Wish
from regrow.agents.recommend import NothingLike
from regrow.agents.rules_food import WATCHED
from regrow.agents.source import (
    EmptyCatalogue,
    UnreadableCatalogue,
    WrongColumns,
    WrongEncoding,
    read_batches,
    read_products,
)
from regrow.agents.statistics import percentiles
from regrow.agents.store import CatalogStore, UnknownProduct
from regrow.agents.verify import Verified

CATALOG = "REGROW_CATALOG"
"""The environment variable that names the catalogue's file."""

BATCH_ROWS = 1_000
CANDIDATES_MAX = 12

CALL_S = 10.0
"""How long a call waits for a tool agent, seconds; most take a millisecond, the first statistics of a large category a second."""
AGAIN = Retry(attempts=3)
"""For what a tool agent serves: its process may die in the middle of a call. These tools only read, so they may run again."""
WRITING = Retry(attempts=1_000, on={INFRASTRUCTURE: Repeat()})
"""For what writes to the catalogue: it fails for want of space or for its lock, which others have to mend, and may be repeated."""


class Source(msgspec.Struct, frozen=True):
    """A file with a catalogue: ``.csv`` or ``.jsonl``; the columns are found by their usual names unless given."""

    path: str
    id_column: str | None = None
    text_column: str | None = None


class Loaded(msgspec.Struct, frozen=True):
    """What a catalogue was found to hold."""

    products: int
    bad_rows: int
    """Rows that could not be read, or whose id an earlier row has."""
    first_bad: tuple[str, ...]
    """The first of them, each with its line and the reason."""


def catalog() -> CatalogStore:
    """The catalogue of this process's application."""
    return _opened(os.environ.get(CATALOG, ".regrow/catalog.sqlite"))


@cache
def _opened(path: str) -> CatalogStore:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return CatalogStore(Path(path))


@tool(raises=(UnreadableCatalogue, EmptyCatalogue, WrongEncoding, WrongColumns), retry=WRITING)
def ingest(source: Source) -> Loaded:
    """Takes a file into the catalogue. Batches that are there already change nothing, so that it may run again at any point."""
    witness()
    store = catalog()
    bad: list[str] = []
    for batch in read_batches(read_products(Path(source.path), source.id_column, source.text_column), BATCH_ROWS):
        store.ingest(batch.position, batch.products)
        bad += [f"line {row.line}: {row.why}" for row in batch.bad]
    return Loaded(store.count(), len(bad), tuple(bad[:20]))


@tool
async def plan_lots(size: int, products_max: int) -> list[str]:
    """Where each lot begins: the id after which its products come, in the catalogue's own order; the first is empty."""
    witness()
    starts: list[str] = []
    after: str | None = None
    planned = 0
    while planned < products_max and (ids := catalog().ids(after, min(size, products_max - planned))):
        starts.append(after or "")
        after, planned = ids[-1], planned + len(ids)
    return starts


@tool
async def lot_products(after: str, size: int) -> list[str]:
    """The ids of one lot."""
    witness()
    return catalog().ids(after or None, size)


@tool(retry=WRITING)
async def file_cards(position: int, cards: list[ProductCard]) -> int:
    """Files cards in one transaction with the position they stand for; a position that is filed already changes nothing."""
    witness()
    catalog().file_cards(position, [(card.id, card_bytes(card)) for card in cards])
    return len(cards)


@tool(raises=(UnknownProduct,))
async def lookup(product: str) -> Product:
    """The catalogue's row."""
    witness()
    return catalog().product(product)


@tool(retry=AGAIN, timeout_s=CALL_S)
async def convert_portion(text: str, grams: float | None) -> portion.Portion:
    """What a label's portion means in grams, millilitres and household words."""
    witness()
    return portion.parse_portion(text, grams)


@tool
async def portion_amounts(product: str, of: portion.Portion) -> nutrition.Amounts:
    """The nutrients for 100 g, for one portion, and as a share of a day's value."""
    witness()
    return nutrition.per_portion(catalog().product(product), of)


@tool
async def nutrient_claims(amounts: nutrition.Amounts, of: portion.Portion) -> tuple[Claim, ...]:
    """The claims that these amounts would allow on a label."""
    witness()
    return claims(amounts, of)


@tool
async def check_energy(product: str, of: portion.Portion) -> nutrition.EnergyCheck:
    """Whether the stated energy fits the macronutrients."""
    witness()
    return nutrition.energy_check(catalog().product(product), of)


@tool(retry=AGAIN, timeout_s=CALL_S)
async def place_in_category(product: str) -> dict[str, int]:
    """The percentile of each nutrient among the products of the same category."""
    witness()
    row = catalog().product(product)
    return percentiles(row, catalog().statistics(row.category))


@tool(retry=AGAIN, timeout_s=CALL_S)
async def search_similar(product: str, keywords: tuple[str, ...]) -> list[str]:
    """Ids of products of the same category that share these words, the best match first."""
    witness()
    category = catalog().product(product).category
    hits = catalog().search(" ".join(keywords), CANDIDATES_MAX + 1, category)
    return [hit.id for hit in hits if hit.id != product][:CANDIDATES_MAX]


@tool(retry=AGAIN, timeout_s=CALL_S)
async def compare_candidates(product: str, candidates: list[str]) -> tuple[Candidate, ...]:
    """How each candidate differs in the nutrients by which an alternative is judged."""
    witness()
    base = catalog().product(product)
    found: list[Candidate] = []
    for row in catalog().products(candidates):
        checked = nutrition.energy_check(row, portion.parse_portion(row.portion, row.portion_g))
        found.append(Candidate(row.id, row.name, tuple(nutrition.compare(base, row, WATCHED)), checked.verdict))
    return tuple(found)


@tool
async def verify_alternatives(product: str, alternatives: tuple[Alternative, ...]) -> Verified:
    """The alternatives that the rows bear out, and those that they do not."""
    witness()
    rows = {row.id: row for row in catalog().products([each.id for each in alternatives])}
    return verify.verify_alternatives(catalog().product(product), alternatives, rows)


@tool(raises=(NothingLike,), retry=AGAIN, timeout_s=CALL_S)
async def find_base(wish: Wish) -> Product:
    """The row that a question names."""
    witness()
    return recommend.find_base(catalog(), wish)


@tool(retry=AGAIN, timeout_s=CALL_S)
async def find_candidates(wish: Wish, base: str) -> list[Product]:
    """Rows that might answer a question."""
    witness()
    return recommend.find_candidates(catalog(), wish, catalog().product(base))
