"""What a portion text says: "2 ONZ", "1 1/2 cups (240 mL)", "0.25 PIZZA | ABOUT".

Pure functions over frozen values.
"""

import re

import msgspec

OUNCE_G = 28.349523125
"""One avoirdupois ounce in grams, by definition (NIST Handbook 44, appendix C)."""

# Household measures in millilitres as a label counts them: 21 CFR 101.9(b)(5)(viii).
_MILLILITRES = {"tsp": 5.0, "tbsp": 15.0, "fl oz": 30.0, "cup": 240.0, "ml": 1.0, "l": 1000.0}
_GRAMS = {"g": 1.0, "kg": 1000.0, "oz": OUNCE_G}

# Labels write units as words; the codes ONZ, OZA, GRM, MLT are those of UN/ECE Recommendation 20.
_UNITS = {
    "onz": "oz",
    "oz": "oz",
    "ounce": "oz",
    "ounces": "oz",
    "oza": "fl oz",
    "fl oz": "fl oz",
    "fluid ounce": "fl oz",
    "fluid ounces": "fl oz",
    "grm": "g",
    "g": "g",
    "gm": "g",
    "gram": "g",
    "grams": "g",
    "kg": "kg",
    "mlt": "ml",
    "ml": "ml",
    "l": "l",
    "ltr": "l",
    "cup": "cup",
    "cups": "cup",
    "tbsp": "tbsp",
    "tbsps": "tbsp",
    "tbs": "tbsp",
    "tb": "tbsp",
    "tablespoon": "tbsp",
    "tablespoons": "tbsp",
    "tsp": "tsp",
    "tsps": "tsp",
    "teaspoon": "tsp",
    "teaspoons": "tsp",
}
_UNKNOWN = {"", "undetermined", "amount per serving"}

_QUANTITY = re.compile(
    r"^(?:about|approx\.?)?\s*(?:(?P<whole>\d+)(?P<gap>[\s-]+))?(?:(?P<top>\d+)\s*/\s*(?P<bottom>\d+)|(?P<plain>\d*\.\d+|\d+))",
    re.IGNORECASE,
)
_NUMBER_AND_UNIT = r"(\d*\.\d+|\d+)\s*({})(?![a-z])"
_GRAMS_SAID = re.compile(_NUMBER_AND_UNIT.format("grams?|grm|gm|g"), re.IGNORECASE)
_MILLILITRES_SAID = re.compile(_NUMBER_AND_UNIT.format("mlt|ml"), re.IGNORECASE)
_NOISE = re.compile(r"[|,].*$|\(.*?\)|\b(?:about|approx|of)\b\.?", re.IGNORECASE)


class Portion(msgspec.Struct, frozen=True):
    """One portion: how many of what, and what that weighs or fills where it can be told.

    `unit` is "g", "kg", "oz", "ml", "l", "fl oz", "tsp", "tbsp", "cup", or the label's own word in lower
    case ("slice"). `household` is a text for people, "" if nothing is known. Volume is never turned into
    weight: that would need a density, which no column gives.
    """

    quantity: float | None
    unit: str
    grams: float | None
    millilitres: float | None
    household: str


def parse_portion(text: str, grams: float | None = None) -> Portion:
    """What a portion text says; `grams`, where the catalogue gives them, count more than those in the text."""
    text = " ".join(text.split())
    if grams is not None and grams <= 0:
        grams = None  # 46 rows of the USDA file give a portion of 0 g: nothing can be computed from it
    if text.lower() in _UNKNOWN:
        return Portion(None, "", grams, None, "" if grams is None else f"{_plain(grams)} g")
    quantity, rest = _quantity(text)
    unit = _unit(rest)
    if grams is None:
        grams = _said(_GRAMS_SAID, text) or _times(quantity, _GRAMS.get(unit))
    millilitres = _said(_MILLILITRES_SAID, text) or _times(quantity, _MILLILITRES.get(unit))
    return Portion(quantity, unit, grams, millilitres, _household(quantity, unit, grams))


def _quantity(text: str) -> tuple[float | None, str]:
    found = _QUANTITY.match(text)
    if found is None:
        return None, text
    rest = text[found.end() :]
    whole = float(found["whole"] or 0)
    if found["bottom"] is None and found["whole"] is None:
        return float(found["plain"]), rest
    if found["bottom"] is None:
        # "2-3 tbsp" is at least two; "1 12 oz can" is one can. Only a fraction continues a number.
        return whole, rest if "-" in found["gap"] else text[found.start("plain") :]
    if not int(found["bottom"]):
        return None, rest
    return whole + int(found["top"]) / int(found["bottom"]), rest


def _unit(rest: str) -> str:
    if rest[:1].isdigit():
        return " ".join(rest.lower().split()[:3])  # "12 oz can" of "1 12 oz can": a thing, not a unit
    words = re.findall(r"[a-z]+", _NOISE.sub(" ", rest).lower())
    for length in (2, 1):
        unit = _UNITS.get(" ".join(words[:length]))
        if unit is not None:
            return unit
    return " ".join(words[:3])


def _said(pattern: re.Pattern[str], text: str) -> float | None:
    found = pattern.search(text)
    amount = float(found[1]) if found else 0.0
    return amount or None


def _times(quantity: float | None, factor: float | None) -> float | None:
    if not quantity or factor is None:
        return None
    return round(quantity * factor, 2)


def _household(quantity: float | None, unit: str, grams: float | None) -> str:
    words = " ".join(part for part in ("" if quantity is None else _plain(quantity), unit) if part)
    if grams is None or unit == "g":
        return words
    return f"{words} ({_plain(grams)} g)" if words else f"{_plain(grams)} g"


def _plain(number: float) -> str:
    return f"{round(number, 3):g}"
