import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regrow.agents.product import Product
from regrow.agents.store import (
    CARDS,
    SCORED_ROWS_MAX,
    CatalogStore,
    Hit,
    Ingested,
    NotAStore,
    StoreError,
    StoreFull,
    StoreNotWritable,
    UnknownProduct,
    query_words,
)

Food = Callable[..., Product]


def numbered(first: int, count: int) -> list[Product]:
    return [Product(str(n), f"LAMP {n}", "Lamps") for n in range(first, first + count)]


# Positions and batches


def test_nothing_is_reached_before_the_first_batch(store: CatalogStore) -> None:
    assert (store.position(), store.position(CARDS), store.count()) == (0, 0, 0)


def test_a_batch_and_its_position_are_kept_together(store: CatalogStore) -> None:
    assert store.ingest(3, numbered(0, 2)) == Ingested(3, added=2)
    assert (store.position(), store.count()) == (3, 2)


@pytest.mark.parametrize("position", [1, 2, 3])
def test_a_batch_at_or_below_the_position_changes_nothing(store: CatalogStore, position: int) -> None:
    store.ingest(3, numbered(0, 2))
    assert store.ingest(position, numbered(10, 2)) == Ingested(position, added=0, repeated=True)
    assert (store.position(), store.ids()) == (3, ["0", "1"])


def test_positions_count_from_one(store: CatalogStore) -> None:
    with pytest.raises(ValueError, match="positions count from 1, not 0"):
        store.ingest(0, [])


def test_an_identifier_that_is_there_keeps_its_product_and_is_reported(store: CatalogStore) -> None:
    store.ingest(1, [Product("1", "first")])
    assert store.ingest(2, [Product("1", "second"), Product("2", "other")]) == Ingested(2, 1, duplicates=("1",))
    assert store.product("1").name == "first"
    assert store.search("second") == []


def test_a_batch_that_raises_in_its_middle_leaves_nothing_behind(store: CatalogStore) -> None:
    def torn() -> Iterator[Product]:
        yield from numbered(0, 5)
        raise OSError("the source went away")

    with pytest.raises(OSError, match="went away"):
        store.ingest(1, torn())
    assert (store.position(), store.count(), store.search("lamp")) == (0, 0, [])
    assert store.ingest(1, numbered(0, 5)).added == 5


def test_what_was_ingested_is_there_after_opening_again(tmp_path: Path, food: Food) -> None:
    with CatalogStore(tmp_path / "c.db") as store:
        store.ingest(1, [food("1", Sodium=640)])
        store.file_cards(4, [("1", b"card")])
    with CatalogStore(tmp_path / "c.db") as again:
        assert (again.position(), again.position(CARDS)) == (1, 4)
        assert again.product("1") == food("1", Sodium=640)
        assert again.card("1") == b"card"


def test_two_writers_that_are_given_the_same_batches_take_each_once(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    with CatalogStore(path) as one, CatalogStore(path) as other, ThreadPoolExecutor(2) as pool:

        def ingest_all(store: CatalogStore) -> int:
            return sum(store.ingest(n, numbered(10 * n, 10)).added for n in range(1, 21))

        added = list(pool.map(ingest_all, [one, other]))
        assert sum(added) == 200
        assert (one.count(), one.position()) == (200, 20)


# Crashes: a real process, killed by the kernel

INGEST = """
import sys
from pathlib import Path
from regrow.agents.product import Product
from regrow.agents.store import CatalogStore

def torn(batch, stop):
    for n in range(100):
        if n == stop:
            print("middle", flush=True)
            sys.stdin.read()  # the killer holds the other end
        yield Product(f"{batch}-{n}", f"LAMP {batch} {n}", "Lamps")

store = CatalogStore(Path(sys.argv[1]))
for batch in range(1, 4):
    store.ingest(batch, torn(batch, None))
{filing}
store.ingest(4, torn(4, 60))
"""


def killed_in_the_middle(path: Path, script: str) -> None:
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "middle\n"
        process.kill()


def test_position_and_rows_agree_after_a_kill_in_the_middle_of_a_batch(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    killed_in_the_middle(path, INGEST.replace("{filing}", ""))
    with CatalogStore(path) as store:
        assert (store.position(), store.count()) == (3, 300)
        assert len(store.search("lamp", limit=1_000)) == 300
        again = store.ingest(4, [Product(f"4-{n}", f"LAMP 4 {n}", "Lamps") for n in range(100)])
        assert (again.added, again.duplicates) == (100, ())
        assert (store.position(), store.count(), len(store.search("lamp", limit=1_000))) == (4, 400, 400)


def test_position_and_cards_agree_after_a_kill_in_the_middle_of_filing(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    filing = """
store.file_cards(1, [("a", b"1")])
store.file_cards(2, ((p.id, b"2") for p in torn(9, 60)))
"""
    killed_in_the_middle(path, INGEST.replace("{filing}", filing))
    with CatalogStore(path) as store:
        assert (store.position(CARDS), list(store.cards())) == (1, [("a", b"1")])
        assert store.file_cards(2, [("b", b"2")])


# Reading


def test_products_come_in_the_order_of_the_identifiers(store: CatalogStore) -> None:
    store.ingest(1, numbered(0, 5))
    assert [product.id for product in store.products(["3", "0", "3"])] == ["3", "0", "3"]


def test_an_identifier_that_is_not_there_is_named(store: CatalogStore) -> None:
    store.ingest(1, numbered(0, 1))
    reads: list[Callable[[], object]] = [
        lambda: store.product("x"),
        lambda: store.products(["0", "x"]),
        lambda: store.ids("x"),
    ]
    for read in reads:
        with pytest.raises(UnknownProduct, match="no product has the identifier 'x'") as caught:
            read()
        assert caught.value.identifier == "x"


def test_ids_page_through_the_catalogue_in_its_order(store: CatalogStore) -> None:
    store.ingest(1, [Product("b", "x"), Product("a", "x"), Product("c", "x")])
    assert store.ids(limit=2) == ["b", "a"]
    assert store.ids(after="a", limit=2) == ["c"]
    assert store.ids(after="c") == []


def test_named_finds_exactly_the_name_in_any_case(store: CatalogStore) -> None:
    store.ingest(1, [Product("1", "Brie"), Product("2", "BRIE"), Product("3", "BRIE, SOFT")])
    assert [product.id for product in store.named("brie")] == ["1", "2"]


def test_categories_are_counted_the_largest_first(store: CatalogStore) -> None:
    store.ingest(1, [Product("1", "x", "B"), Product("2", "x", "A"), Product("3", "x", "A"), Product("4", "x")])
    assert store.categories() == [("A", 2), ("", 1), ("B", 1)]


def test_category_values_come_least_first_without_the_unknown_ones(store: CatalogStore, food: Food) -> None:
    store.ingest(1, [food("1", Sodium=640), food("2"), food("3", Sodium=0), food("4", category="Soda", Sodium=1)])
    assert store.category_values("Cheese", "Sodium") == [("3", 0.0), ("1", 640.0)]


def test_statistics_are_computed_once_and_again_when_the_catalogue_has_grown(store: CatalogStore, food: Food) -> None:
    store.ingest(1, [food(str(n), Sodium=n) for n in range(11)])
    first = store.statistics("Cheese")
    assert first.nutrients["Sodium"].quartiles == (2.5, 5.0, 7.5)
    assert store.statistics("Cheese") is first
    store.file_cards(1, [("1", b"card")])
    assert store.statistics("Cheese") is first
    store.ingest(2, [food("100", Sodium=1_000)])
    assert store.statistics("Cheese").products == 12


# Searching


def names(hits: list[Hit]) -> list[str]:
    return [hit.name for hit in hits]


def test_rows_with_every_word_come_before_rows_with_some(store: CatalogStore) -> None:
    store.ingest(1, [Product("1", "SHARP"), Product("2", "MILD CHEDDAR"), Product("3", "AGED SHARP CHEDDAR CHEESE")])
    hits = store.search("sharp cheddar")
    assert names(hits)[0] == "AGED SHARP CHEDDAR CHEESE"
    assert set(names(hits)[1:]) == {"SHARP", "MILD CHEDDAR"}


def test_a_word_in_the_name_says_more_than_one_in_the_details(store: CatalogStore) -> None:
    store.ingest(1, [Product("1", "LAMP", details={"x": "oak"}), Product("2", "OAK"), Product("3", "CHAIR")])
    assert [hit.id for hit in store.search("oak")] == ["2", "1"]


def test_words_are_found_in_another_form_and_without_accents(store: CatalogStore) -> None:
    store.ingest(1, [Product("1", "CRÈME COOKIES")])
    assert names(store.search("cookie")) == names(store.search("creme")) == ["CRÈME COOKIES"]


def test_equal_matches_come_in_the_order_of_the_catalogue(store: CatalogStore) -> None:
    store.ingest(1, [Product(i, "BRIE") for i in ("9", "1", "5")])
    assert [hit.id for hit in store.search("brie", limit=2)] == ["9", "1"]


def test_a_category_is_matched_whole_and_its_words_count_for_nothing_in_it(store: CatalogStore) -> None:
    store.ingest(
        1,
        [
            Product("1", "SODA", "Soda"),
            Product("2", "SODA BREAD", "Breads & Soda"),
            Product("3", "CHERRY", "Soda"),
            Product("4", "CHERRY SODA", "soda"),
        ],
    )
    assert [hit.id for hit in store.search("cherry soda", category="Soda")] == ["3"]
    assert [hit.id for hit in store.search("soda", category="Soda")] == ["1"]
    assert [hit.id for hit in store.search("soda", category="Breads & Soda")] == ["2"]


def test_products_without_category_can_be_searched_alone(store: CatalogStore) -> None:
    store.ingest(1, [Product("1", "BRIE"), Product("2", "BRIE", "Cheese")])
    assert [hit.id for hit in store.search("brie", category="")] == ["1"]


def test_where_a_word_is_in_very_many_rows_the_rarer_ones_find_the_rest(store: CatalogStore) -> None:
    common = [Product(str(n), f"LAMP {n}") for n in range(SCORED_ROWS_MAX + 1)]
    store.ingest(1, [*common, Product("oak", "OAK LAMP"), Product("chair", "OAK CHAIR")])
    assert [hit.id for hit in store.search("oak lamp", limit=9)] == ["oak", "chair"]
    assert len(store.search("lamp", limit=9)) == 9


@pytest.mark.parametrize("text", ["", "   ", "!?*", '"'])
def test_text_without_words_finds_nothing(store: CatalogStore, text: str) -> None:
    store.ingest(1, numbered(0, 3))
    assert store.search(text) == []


def test_a_limit_below_one_finds_nothing(store: CatalogStore) -> None:
    store.ingest(1, numbered(0, 3))
    assert store.search("lamp", limit=0) == []


@pytest.mark.parametrize(
    "text", ['lamp AND NOT "', "name:lamp*", "NEAR(lamp)", "lamp) OR (", "^lamp", "{lamp}", "-lamp"]
)
def test_query_syntax_is_only_words(store: CatalogStore, text: str) -> None:
    store.ingest(1, numbered(0, 3))
    assert "LAMP 0" in names(store.search(text))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(), category=st.none() | st.text(st.characters(exclude_categories=["Cs"])))
def test_no_text_is_a_query_error(store: CatalogStore, text: str, category: str | None) -> None:
    assert store.search(text, category=category) == []


def test_a_query_is_cut_at_its_first_words() -> None:
    words = query_words(" ".join(f"w{n}" for n in range(100)))
    assert (words[0], len(words)) == ('"w0"', 32)


# Cards


def test_cards_are_filed_once_for_each_position_and_come_sorted(store: CatalogStore) -> None:
    assert store.file_cards(1, [("b", b"1"), ("a", b"2")])
    assert not store.file_cards(1, [("c", b"3")])
    assert list(store.cards(page=1)) == [("a", b"2"), ("b", b"1")]
    assert (store.card_count(), store.card("c")) == (2, None)


def test_a_card_filed_again_at_a_later_position_replaces_the_earlier(store: CatalogStore) -> None:
    store.file_cards(1, [("a", b"old")])
    store.file_cards(2, [("a", b"new")])
    assert list(store.cards()) == [("a", b"new")]


# Threads and errors


def test_threads_may_search_while_another_ingests(store: CatalogStore) -> None:
    store.ingest(1, numbered(0, 100))
    done = threading.Event()

    def search() -> int:
        found = 0
        while not done.is_set():
            found = len(store.search("lamp", limit=10_000))
        return found

    with ThreadPoolExecutor(3) as pool:
        searching = [pool.submit(search) for _ in range(3)]
        for batch in range(2, 12):
            store.ingest(batch, numbered(batch * 100, 100))
        done.set()
        assert all(0 < future.result() <= 1_100 for future in searching)
    assert len(store.search("lamp", limit=10_000)) == 1_100


def test_a_store_that_is_full_keeps_what_it_has_and_goes_on_with_room(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    with CatalogStore(path, bytes_max=200_000) as store:
        store.ingest(1, numbered(0, 100))
        with pytest.raises(StoreFull, match="make room and run the same batch again"):
            store.ingest(2, numbered(1_000, 50_000))
        assert (store.position(), store.count(), len(store.search("lamp", limit=1_000))) == (1, 100, 100)
    with CatalogStore(path) as store:
        assert store.ingest(2, numbered(1_000, 5_000)).added == 5_000


def test_a_file_that_is_no_store_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear reader, " * 100)
    with pytest.raises(NotAStore, match="is not an index of products"):
        CatalogStore(path)
    assert path.read_text() == "Dear reader, " * 100


def test_a_folder_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StoreNotWritable, match="cannot be opened for writing"):
        CatalogStore(tmp_path / "none" / "c.db")


def test_a_store_of_another_layout_is_a_store_error(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "c.db")
    other.execute("CREATE TABLE product (x)")
    other.close()
    with pytest.raises(StoreError):
        CatalogStore(tmp_path / "c.db")


def test_a_closed_store_says_so_and_closes_twice(tmp_path: Path) -> None:
    store = CatalogStore(tmp_path / "c.db")
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.count()
