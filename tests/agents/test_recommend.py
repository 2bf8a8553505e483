from collections.abc import Callable

import pytest

from regrow.agents.product import Product
from regrow.agents.question import Wish, constraint_ok, parse_question
from regrow.agents.recommend import NothingLike, find_base, find_candidates
from regrow.agents.rules_food import pick_answer
from regrow.agents.store import CatalogStore

Food = Callable[..., Product]
LESS_SALT = Wish("cheddar cheese", less=("Sodium",))


def test_a_row_of_exactly_the_name_is_meant_before_any_better_match(store: CatalogStore, food: Food) -> None:
    twice = food("1", "CHEDDAR CHEESE, CHEDDAR CHEESE", Sodium=1)
    store.ingest(1, [twice, food("2", Sodium=2), food("3", Sodium=3)])
    assert find_base(store, LESS_SALT).id == "2"


def test_a_row_that_does_not_give_the_nutrient_is_not_meant(store: CatalogStore, food: Food) -> None:
    store.ingest(1, [food("1"), food("2", "AGED CHEDDAR CHEESE", Sodium=2)])
    assert find_base(store, LESS_SALT).id == "2"


def test_where_nothing_is_like_it_the_error_says_what_was_looked_for(store: CatalogStore, food: Food) -> None:
    store.ingest(1, [food("1")])
    with pytest.raises(NothingLike, match="no product like 'cheddar cheese' gives Sodium"):
        find_base(store, LESS_SALT)


def test_candidates_give_what_was_asked_and_can_be_true(store: CatalogStore, food: Food) -> None:
    base = food("base", Sodium=640)
    liar = food("liar", Sodium=1, Protein=90, Total_fat=90)
    store.ingest(1, [base, food("salty", Sodium=700), food("good", Sodium=500), food("unknown"), liar])
    assert [product.id for product in find_candidates(store, LESS_SALT, base)] == ["good"]


def test_the_least_salty_is_a_candidate_even_with_quite_another_name(store: CatalogStore, food: Food) -> None:
    base = food("base", Sodium=640)
    like = [food(str(n), Sodium=700 + n) for n in range(60)]
    store.ingest(1, [base, *like, food("ricotta", "RICOTTA", Sodium=80)])
    assert [product.id for product in find_candidates(store, LESS_SALT, base)] == ["ricotta"]


@pytest.mark.parametrize(
    "question",
    [
        "like CHEDDAR CHEESE but less sodium",
        "like SHARP CHEDDAR CHEESE but more protein and less sodium",
        "like GRANOLA but less sugar and more fiber",
        "like POTATO CHIPS but less salt",
        "like CREAM OF MUSHROOM SOUP but less sodium",
        "like WHITE BREAD but more fibre in the category Breads & Buns",
    ],
)
def test_the_sample_answers_questions_and_the_independent_check_agrees(
    sample_store: CatalogStore, question: str
) -> None:
    wish = parse_question(question)
    base = find_base(sample_store, wish)
    choice = pick_answer(wish, base, tuple(find_candidates(sample_store, wish, base)))
    assert choice.id is not None
    answer = sample_store.product(choice.id)
    assert constraint_ok(wish, base, answer)
    assert {(e.id, e.nutrient, e.value) for e in choice.evidence} == {
        (row.id, column, row.amount(column)) for row in (base, answer) for column in (*wish.less, *wish.more)
    }
