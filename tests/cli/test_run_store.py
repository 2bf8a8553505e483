from pathlib import Path

import msgspec
import pytest

from regrow.agents.food_tools import Source
from regrow.bus import EmbeddedServer, StoreBusy
from regrow.cli.failures import CommandFailed
from regrow.cli.run_store import ALL, Plan, Store, difference

PLAN = Plan(Source("/data/rows.csv"), 5, "abc")


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (PLAN, ""),
        (msgspec.structs.replace(PLAN, source=Source("/elsewhere/rows.csv")), ""),
        (msgspec.structs.replace(PLAN, digest="xyz"), "/data/rows.csv as it was before it changed"),
        (Plan(Source("/data/other.csv"), 5, "xyz"), "/data/other.csv"),
        (msgspec.structs.replace(PLAN, products_max=7_000), "7,000 products at most"),
        (msgspec.structs.replace(PLAN, products_max=ALL), "all products"),
        (msgspec.structs.replace(PLAN, source=Source("/data/rows.csv", "sku")), "other columns of the same file"),
    ],
)
def test_a_store_says_what_it_holds_where_that_is_something_else(held: Plan, said: str) -> None:
    assert difference(held, PLAN) == said


def test_a_store_goes_on_with_its_own_plan_and_refuses_another(tmp_path: Path) -> None:
    store = Store(tmp_path / "s")
    assert store.plan is None
    store.begin(PLAN)
    Store(tmp_path / "s").begin(PLAN)
    assert store.plan == PLAN
    with pytest.raises(CommandFailed, match="holds a run over 5 products at most; choose another --store"):
        store.begin(msgspec.structs.replace(PLAN, products_max=6))


def test_a_plan_of_another_version_is_told(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(CommandFailed, match=r"plan\.json is no plan of this version of regrow"):
        Store(tmp_path).begin(PLAN)


def test_clearing_removes_the_run_and_nothing_else(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.begin(PLAN)
    store.finish()
    for own in ("catalog.sqlite", "catalog.sqlite-wal", "witness.jsonl", "result.json"):
        (tmp_path / own).touch()
    (tmp_path / "nats" / "jetstream").mkdir(parents=True)
    (tmp_path / "thesis.tex").touch()
    store.clear()
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.tex"]
    store.clear()


@pytest.mark.asyncio
async def test_a_run_that_somebody_works_on_is_not_cleared(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.begin(PLAN)
    async with EmbeddedServer(store.nats, "process"):
        with pytest.raises(StoreBusy):
            store.clear()
    assert store.plan == PLAN
