"""Small catalogues, and the sample as products."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from regrow.agents.product import Product
from regrow.agents.source import read_products
from regrow.agents.store import CatalogStore
from regrow.agents.usda import sample_path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CatalogStore]:
    with CatalogStore(tmp_path / "catalog.db") as opened:
        yield opened


@pytest.fixture(scope="session")
def sample() -> list[Product]:
    return [item for item in read_products(sample_path()) if isinstance(item, Product)]


@pytest.fixture(scope="session")
def sample_store(sample: list[Product], tmp_path_factory: pytest.TempPathFactory) -> Iterator[CatalogStore]:
    """The whole sample, ingested as one batch; tests only read it."""
    with CatalogStore(tmp_path_factory.mktemp("sample") / "catalog.db") as opened:
        opened.ingest(1, sample)
        yield opened


@pytest.fixture
def food() -> Callable[..., Product]:
    """Makes a cheese from amounts given as keywords with underscores, `food("1", Sodium=640)`."""

    def make(identifier: str, name: str = "CHEDDAR CHEESE", category: str = "Cheese", **amounts: float) -> Product:
        nutrients = {key.replace("_", " "): float(value) for key, value in amounts.items()}
        return Product(identifier, name, category, portion="1 ONZ", portion_g=28.0, nutrients=nutrients)

    return make
