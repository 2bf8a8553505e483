from collections.abc import Callable

import msgspec
import pytest

from regrow.agents.product import UNITS, Product
from regrow.agents.question import NUTRIENT_WORDS, QuestionNotUnderstood, Wish, constraint_ok, parse_question

Food = Callable[..., Product]
SATURATED = "Fatty acids, total saturated"


@pytest.mark.parametrize(
    ("question", "wish"),
    [
        ("like CHEDDAR CHEESE but less sodium", Wish("CHEDDAR CHEESE", ("Sodium",))),
        ("like X but more protein and less sugar", Wish("X", ("Total Sugars",), ("Protein",))),
        ("Something similar to BRIE with less salt, saturated fat?", Wish("BRIE", ("Sodium", SATURATED))),
        ("like BRIE, but with less fat & more calcium and iron.", Wish("BRIE", ("Total fat",), ("Calcium", "Iron"))),
        ("an alternative to GRANOLA that has fewer calories", Wish("GRANOLA", ("Energy",))),
        ("instead of 'WHITE BREAD' but higher in fibre", Wish("WHITE BREAD", (), ("Fiber",))),
        ("like FRIES WITH SALT but less salt", Wish("FRIES WITH SALT", ("Sodium",))),
        ("like MAC AND CHEESE but less salt and less salt", Wish("MAC AND CHEESE", ("Sodium",))),
        (
            "What is like WHITE BREAD but more fiber in the category Breads & Buns?",
            Wish("WHITE BREAD", (), ("Fiber",), "Breads & Buns"),
        ),
    ],
)
def test_a_question_is_read(question: str, wish: Wish) -> None:
    assert parse_question(question) == wish


@pytest.mark.parametrize(
    ("question", "why"),
    [
        ("which cheese is best?", "is not of the shape"),
        ("", "is not of the shape"),
        ("like BRIE but cheaper", "is not of the shape"),
        ("like BRIE but less money", "'money' is no nutrient known here"),
        ("like BRIE but less salt and more sodium", "wants both less and more Sodium"),
    ],
)
def test_a_question_that_is_not_understood_says_why(question: str, why: str) -> None:
    with pytest.raises(QuestionNotUnderstood, match=why):
        parse_question(question)


def test_every_word_stands_for_a_column() -> None:
    assert set(NUTRIENT_WORDS.values()) <= set(UNITS)


LESS_SALT = Wish("CHEDDAR CHEESE", less=("Sodium",))


def test_an_answer_with_strictly_less_is_right(food: Food) -> None:
    assert constraint_ok(LESS_SALT, food("1", Sodium=640), food("2", Sodium=639))


@pytest.mark.parametrize("amounts", [{"Sodium": 640}, {"Sodium": 641}, {}])
def test_an_answer_with_as_much_or_more_or_unknown_is_wrong(food: Food, amounts: dict[str, float]) -> None:
    assert not constraint_ok(LESS_SALT, food("1", Sodium=640), food("2", **amounts))


def test_less_than_an_unknown_amount_is_wrong(food: Food) -> None:
    assert not constraint_ok(LESS_SALT, food("1"), food("2", Sodium=0))


def test_every_part_of_a_wish_must_hold(food: Food) -> None:
    wish = Wish("x", less=("Sodium",), more=("Protein",))
    base = food("1", Sodium=640, Protein=20)
    assert constraint_ok(wish, base, food("2", Sodium=600, Protein=21))
    assert not constraint_ok(wish, base, food("2", Sodium=600, Protein=20))
    assert not constraint_ok(wish, base, food("2", Sodium=640, Protein=21))


def test_the_product_itself_is_no_answer_and_an_empty_wish_has_none(food: Food) -> None:
    base = food("1", Sodium=640)
    assert not constraint_ok(LESS_SALT, base, msgspec.structs.replace(base, nutrients={"Sodium": 1.0}))
    assert not constraint_ok(Wish("x"), base, food("2", Sodium=1))


def test_an_answer_must_be_of_the_category_wanted_or_else_of_the_base_s(food: Food) -> None:
    base = food("1", Sodium=640)
    soda = food("2", category="Soda", Sodium=1)
    assert not constraint_ok(LESS_SALT, base, soda)
    assert constraint_ok(Wish("x", less=("Sodium",), category="soda"), base, soda)
    assert not constraint_ok(Wish("x", less=("Sodium",), category="soda"), base, food("2", Sodium=1))
