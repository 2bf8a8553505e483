import msgspec

from regrow.agents.card import ProductCard, Trait, card_bytes
from regrow.agents.nutrition import EnergyCheck
from regrow.agents.portion import parse_portion


def card(percentiles: dict[str, int]) -> ProductCard:
    return ProductCard(
        id="7",
        title="Brie",
        category="Cheese",
        portion=parse_portion("1 ONZ", 28.0),
        traits=(Trait("much sodium", "30 % of a day's value in a portion"),),
        percentiles=percentiles,
        energy_check=EnergyCheck("plausible", 334.0, 330.0, 48.5, "fits"),
        alternatives=(),
        summary="Brie (Cheese).",
        model="rules",
    )


def test_equal_cards_are_equal_bytes_whatever_the_order_they_were_filled_in() -> None:
    assert card_bytes(card({"Iron": 1, "Zinc": 2})) == card_bytes(card({"Zinc": 2, "Iron": 1}))


def test_a_card_survives_its_bytes() -> None:
    assert msgspec.json.decode(card_bytes(card({"Iron": 1})), type=ProductCard) == card({"Iron": 1})
