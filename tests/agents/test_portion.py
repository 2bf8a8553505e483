import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.agents.portion import Portion, parse_portion


@pytest.mark.parametrize(
    ("text", "quantity", "unit", "grams", "millilitres"),
    [
        ("2 ONZ", 2.0, "oz", 56.7, None),
        ("10 3/25 ONZ", 10.12, "oz", 286.9, None),
        ("8 OZA", 8.0, "fl oz", None, 240.0),
        ("11.0 fl. oz (325mL)", 11.0, "fl oz", None, 325.0),
        ("1 -1/2 CUPS FROZEN", 1.5, "cup", None, 360.0),
        ("1/4 tsp", 0.25, "tsp", None, 1.25),
        (".5 cup", 0.5, "cup", None, 120.0),
        ("2-3 Tbsp", 2.0, "tbsp", None, 30.0),
        ("35 g", 35.0, "g", 35.0, None),
        ("221 GRM", 221.0, "g", 221.0, None),
        ("355mL", 355.0, "ml", None, 355.0),
        ("3 strips (98g)", 3.0, "strips", 98.0, None),
        ("1 Container (71g/4 fl oz)", 1.0, "container", 71.0, None),
        ("0.25 PIZZA | ABOUT", 0.25, "pizza", None, None),
        ("about 20 chips", 20.0, "chips", None, None),
        ("1/8 of 1 Crust (27g)", 0.125, "crust", 27.0, None),
        ("1 POUCH, PER CONTAINER", 1.0, "pouch", None, None),
        ("1 12 oz can", 1.0, "12 oz can", None, None),
        ("13 | ABOUT", 13.0, "", None, None),
        ("1/0 cup", None, "cup", None, None),
        ("a handful", None, "a handful", None, None),
    ],
)
def test_a_label_s_portion_is_read(
    text: str, quantity: float | None, unit: str, grams: float | None, millilitres: float | None
) -> None:
    portion = parse_portion(text)
    assert (portion.quantity, portion.unit, portion.grams, portion.millilitres) == (quantity, unit, grams, millilitres)


def test_given_grams_count_more_than_those_in_the_text() -> None:
    assert parse_portion("1 oz (30g)", 28.0).grams == 28.0


def test_a_portion_of_nothing_weighs_nothing_known() -> None:
    assert parse_portion("1 SPRAY", 0.0).grams is None


@pytest.mark.parametrize("text", ["", "undetermined", "Amount per serving"])
def test_a_text_that_says_nothing_leaves_the_grams(text: str) -> None:
    assert parse_portion(text, 28.0) == Portion(None, "", 28.0, None, "28 g")
    assert parse_portion(text) == Portion(None, "", None, None, "")


@pytest.mark.parametrize(
    ("text", "grams", "household"),
    [
        ("2 ONZ", 56.0, "2 oz (56 g)"),
        ("1/3 cup", 30.0, "0.333 cup (30 g)"),
        ("30 g", 30.0, "30 g"),
        ("1 BAR", None, "1 bar"),
    ],
)
def test_household_is_for_people(text: str, grams: float | None, household: str) -> None:
    assert parse_portion(text, grams).household == household


@given(st.text(), st.none() | st.floats(0, 10_000))
def test_any_text_is_read_without_an_error(text: str, grams: float | None) -> None:
    portion = parse_portion(text, grams)
    assert portion.grams is None or portion.grams > 0
