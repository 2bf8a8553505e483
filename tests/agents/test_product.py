import msgspec
import pytest

from regrow.agents.product import UNITS, Product, plain_name


def test_amount_is_the_given_number() -> None:
    assert Product("1", "SALT", nutrients={"Sodium": 0.0}).amount("Sodium") == 0.0


def test_amount_of_a_column_that_was_empty_is_none() -> None:
    assert Product("1", "SALT").amount("Sodium") is None


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("Total Sugars", "Sugars, Total"),
        ("Sugars, Total", "Total Sugars"),
        ("Fiber", "Fiber (AOAC 2011.25)"),
        ("Fiber (AOAC 2011.25)", "Fiber"),
    ],
)
def test_amount_is_taken_from_the_other_method_when_the_asked_one_is_empty(asked: str, given: str) -> None:
    assert Product("1", "OATS", nutrients={given: 7.5}).amount(asked) == 7.5


def test_the_asked_method_counts_before_the_other_one() -> None:
    oats = Product("1", "OATS", nutrients={"Fiber": 0.0, "Fiber (AOAC 2011.25)": 9.0})
    assert oats.amount("Fiber") == 0.0


def test_a_product_survives_its_encoding() -> None:
    product = Product("7", "BRIE", "Cheese", "1 ONZ", 28.0, {"Sodium": 600.0}, "branded_food", {"origin": "France"})
    assert msgspec.json.decode(msgspec.json.encode(product), type=Product) == product


@pytest.mark.parametrize(
    ("column", "word"),
    [
        ("Sodium", "sodium"),
        ("Vitamin C", "vitamin C"),
        ("DHA", "DHA"),
        ("Fatty acids, total saturated", "saturated fat"),
    ],
)
def test_plain_name_is_the_word_that_people_use(column: str, word: str) -> None:
    assert plain_name(column) == word


def test_every_nutrient_of_the_sample_has_a_unit(sample: list[Product]) -> None:
    assert {nutrient for product in sample for nutrient in product.nutrients} <= set(UNITS)
