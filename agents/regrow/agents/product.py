"""What a catalogue row is, once read: one frozen value, and the units of what it holds.

Pure values, safe to share between tasks and threads.
"""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

UNITS: Mapping[str, str] = MappingProxyType(
    {
        "Energy": "kcal",
        "Carbohydrate": "g",
        "Sugars, Total": "g",
        "Fiber": "g",
        "Total Sugars": "g",
        "Fiber (AOAC 2011.25)": "g",
        "Total fat": "g",
        "Cholesterol": "mg",
        "Fatty acids, total saturated": "g",
        "DHA": "g",
        "EPA": "g",
        "ALA": "g",
        "Protein": "g",
        "Vitamin A, RAE": "µg",
        "Vitamin E": "mg",
        "Vitamin D (D2 + D3)": "µg",
        "Vitamin C": "mg",
        "Thiamin": "mg",
        "Riboflavin": "mg",
        "Niacin": "mg",
        "Pantothenic acid": "mg",
        "Vitamin B-6": "mg",
        "Folate, total": "µg",
        "Vitamin B-12": "µg",
        "Choline": "mg",
        "Vitamin K2 MK-4": "µg",
        "Vitamin K1": "µg",
        "Calcium": "mg",
        "Iron": "mg",
        "Magnesium": "mg",
        "Phosphorus": "mg",
        "Potassium": "mg",
        "Sodium": "mg",
        "Zinc": "mg",
        "Copper": "mg",
        "Iodine": "µg",
        "Manganese": "mg",
        "Molybdenum": "µg",
        "Selenium": "µg",
    }
)
"""The nutrient columns of the USDA file and the unit of each, for 100 g of food (docs/data.md)."""

# USDA measured these twice, by an older and a newer method, in two columns; a question means either.
_SIBLINGS = {
    "Total Sugars": "Sugars, Total",
    "Sugars, Total": "Total Sugars",
    "Fiber": "Fiber (AOAC 2011.25)",
    "Fiber (AOAC 2011.25)": "Fiber",
}


_PLAIN_NAMES = {
    "Fatty acids, total saturated": "saturated fat",
    "Total Sugars": "sugars",
    "Sugars, Total": "sugars",
    "Fiber": "fibre",
    "Fiber (AOAC 2011.25)": "fibre",
    "Total fat": "fat",
    "Vitamin A, RAE": "vitamin A",
    "Vitamin D (D2 + D3)": "vitamin D",
    "Vitamin K2 MK-4": "vitamin K2",
    "Folate, total": "folate",
}


def plain_name(nutrient: str) -> str:
    """The word that people use for a nutrient column."""
    if nutrient in _PLAIN_NAMES:
        return _PLAIN_NAMES[nutrient]
    if nutrient.startswith("Vitamin"):
        return nutrient[:1].lower() + nutrient[1:]
    return nutrient if nutrient.isupper() else nutrient.lower()


class CatalogueError(Exception):
    """A catalogue cannot be read, or its index cannot be kept; the sentence says what to do."""


class Product(msgspec.Struct, frozen=True, omit_defaults=True):
    """One row of a catalogue.

    `id` of a USDA food is its zero-based row number in the file of the pinned version. `nutrients` holds
    the numbers that were given and no others; for USDA foods they are for 100 g, in `UNITS`. In anybody
    else's catalogue they are its numeric columns as they stand, and `details` its other columns of text.
    """

    id: str
    name: str
    category: str = ""
    portion: str = ""
    portion_g: float | None = None
    nutrients: dict[str, float] = {}
    data_type: str = ""
    details: dict[str, str] = {}

    def amount(self, nutrient: str) -> float | None:
        """The given number, from the other method's column if this one is empty; None if neither is given."""
        found = self.nutrients.get(nutrient)
        if found is None and nutrient in _SIBLINGS:
            return self.nutrients.get(_SIBLINGS[nutrient])
        return found
