"""The researcher's tasks as rules: what a model would be asked, computed from names and numbers instead.

Pure functions, one for each task; their parameters are the inputs of the prompt by name. Any language model
can take their place, and gets the same inputs and the same types to answer in.
"""

import re
from collections.abc import Sequence

from regrow.agents.card import (
    ALTERNATIVES_MAX,
    Alternative,
    Alternatives,
    Candidate,
    Choice,
    Evidence,
    NameReading,
    Summary,
    Trait,
    Traits,
)
from regrow.agents.claims import Claim
from regrow.agents.nutrition import Amounts, Difference
from regrow.agents.product import UNITS, Product, plain_name
from regrow.agents.question import Wish, parse_question
from regrow.models.rules import RulesModel

KEYWORDS_MAX = 5
TRAITS_MAX = 6
REASONS_MAX = 2
"""Differences named in the words of a reason; the alternative carries all of them."""

_MUCH_PERCENT = 20  # of a day's value in one portion is "high": the FDA's 5/20 guide to the label
_FEW, _MANY = 10, 90  # percentiles of its category at which a product stands out
_BETTER_PERCENT = 10  # smaller differences are within what a label may round
_WORSE_PERCENT = 15

_LESS_IS_BETTER = ("Sodium", "Fatty acids, total saturated", "Total Sugars")
_MORE_IS_BETTER = ("Protein", "Fiber")
# Smaller changes in 100 g are no reason: a hundredth of a day's value (for sugars, of the 50 g of added ones).
_NEGLIGIBLE = {"Sodium": 23.0, "Fatty acids, total saturated": 0.2, "Total Sugars": 0.5, "Protein": 0.5, "Fiber": 0.28}
WATCHED = (*_LESS_IS_BETTER, *_MORE_IS_BETTER)
"""The nutrients by which an alternative is judged."""


def _listed(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SMALL_WORDS = _listed("a an and at by de for from in la of on or the to with")
_SAYS_NOTHING = _SMALL_WORDS | _listed(
    "oz lb ct pk g ml all assorted brand classic deluxe family favorite flavor flavored fresh gourmet made "
    "natural new old original premium product pure quality real regular style traditional value"
)
_FORMS = _listed(
    "bag baked bar bars bites blend block boneless bottled broth canned chopped chunk chunks chunky concentrate "
    "cooked creamy crumbled crumbles crunchy cubed cubes cut diced dried dry fillets flakes fresh frozen glazed "
    "grated ground halves iced instant juice liquid mini mix patties pieces powder powdered puree raw ready "
    "roasted rolls salted seasoned shredded sliced slices smoked soft sparkling spread sticks stuffed syrup thin "
    "toasted unsalted unsweetened whipped whole"
)
_SIZE = re.compile(r"\b(?:\d+x)?\d*\.?\d+\s*(?:oz|lb|lbs|g|gr|kg|ml|l|ct|pk)\b\.?", re.IGNORECASE)


def read_name(name: str, category: str) -> NameReading:
    """A name for people, the words that tell the product from others of its category, and those for its form."""
    parts = [part for raw in re.split(r"[,;]", _SIZE.sub("", name)) if (part := raw.strip(" -&'\""))]
    kept: list[str] = []
    said: set[str] = set()
    for part in parts or [name]:
        if said.issuperset(_words(part)):
            continue  # "SHARP CHEDDAR CHEESE, SHARP": the flavour column, appended to the name
        said.update(_words(part))
        kept.append(part)
    words = [word for part in kept for word in _words(part)]
    form = tuple(dict.fromkeys(word for word in words if word in _FORMS))
    telling = list(dict.fromkeys(word for word in words if word not in _FORMS | _SAYS_NOTHING and len(word) > 1))
    own = set(_words(category))
    # A brand comes first in a name and the kind of food last, so the last words are kept if there are too many.
    keywords = [word for word in telling if word not in own] or telling or words[:1]
    title = ", ".join(_title(part) for part in kept) if name.isupper() else name
    return NameReading(title, tuple(keywords[-KEYWORDS_MAX:]), form)


def judge_traits(amounts: Amounts, percentiles: dict[str, int], claims: tuple[Claim, ...]) -> Traits:
    """What marks a product: claims its numbers allow, much of a day's value, places at an end of its category."""
    traits = [Trait(claim.claim, f"{claim.amount:g} {claim.unit} in a portion ({claim.rule})") for claim in claims]
    for nutrient in ("Sodium", "Fatty acids, total saturated", "Total Sugars"):
        share = amounts.daily_percent.get(nutrient, 0)
        if share >= _MUCH_PERCENT:
            traits.append(Trait(f"much {plain_name(nutrient)}", f"{share} % of a day's value in a portion"))
    claimed = {claim.nutrient for claim in claims}
    ends = sorted((-abs(place - 50), nutrient) for nutrient, place in percentiles.items() if nutrient not in claimed)
    for _, nutrient in ends:
        place, amount = percentiles[nutrient], amounts.per_100g.get(nutrient)
        if _FEW < place < _MANY or amount is None:
            continue
        more = place >= _MANY
        because = f"{amount:g} {UNITS[nutrient]} in 100 g, {'more' if more else 'less'} than "
        because += f"{place if more else 100 - place} % of its category"
        traits.append(Trait(f"{'rich' if more else 'poor'} in {plain_name(nutrient)}", because))
    return Traits(tuple(traits[:TRAITS_MAX]))


def choose_alternatives(candidates: tuple[Candidate, ...]) -> Alternatives:
    """Up to three candidates that are better in a watched nutrient and worse in none, the best first."""
    ranked = [(gain, c) for c in candidates if c.energy != "implausible" and (gain := _gain(c)) > 0]
    ranked.sort(key=lambda pair: (-pair[0], pair[1].id))
    chosen: dict[str, Alternative] = {}  # several rows may share a name: one of them is enough
    for _, candidate in ranked:
        if candidate.name not in chosen and len(chosen) < ALTERNATIVES_MAX:
            better = tuple(d for d in candidate.differences if _improvement(d) >= _BETTER_PERCENT)
            strongest = sorted(better, key=_improvement, reverse=True)[:REASONS_MAX]
            reason = _and([_said(difference) for difference in strongest])
            chosen[candidate.name] = Alternative(candidate.id, candidate.name, reason, better)
    return Alternatives(tuple(chosen.values()))


def summarise(title: str, category: str, traits: tuple[Trait, ...], alternatives: tuple[Alternative, ...]) -> Summary:
    """One sentence from what was found."""
    marked = _and([trait.trait for trait in traits[:3]]) or "nothing that sets it apart"
    start = f"{title} ({category or 'no category'}): {marked}"
    if not alternatives:
        return Summary(f"{start}; nothing like it is better.")
    best = alternatives[0]
    return Summary(f"{start}; {read_name(best.name, '').title} has {best.reason}.")


def read_question(question: str) -> Wish:
    """The wish in a question; raises `QuestionNotUnderstood`."""
    return parse_question(question)


def pick_answer(wish: Wish, base: Product, candidates: tuple[Product, ...]) -> Choice:
    """The candidate most like the base among those that give all that was asked, with the numbers that show it."""
    fit = [c for c in candidates if c.id != base.id and all(_gives(wish, base, c))]
    if not fit:
        return Choice(None, "", f"none of {len(candidates)} candidates gives all that was asked")
    answer = max(fit, key=lambda c: (_likeness(base, c), _margin(wish, base, c), -candidates.index(c)))
    evidence = [
        Evidence(row.id, column, amount)
        for column in (*wish.less, *wish.more)
        for row in (base, answer)
        if (amount := row.amount(column)) is not None
    ]
    reason = _and([_numbers(column, base, answer, "less") for column in wish.less])
    more = _and([_numbers(column, base, answer, "more") for column in wish.more])
    return Choice(answer.id, answer.name, _and([part for part in (reason, more) if part]), tuple(evidence))


def food_rules() -> RulesModel:
    """The rules above as a model; no language model is involved."""
    rules = (read_name, judge_traits, choose_alternatives, summarise, read_question, pick_answer)
    return RulesModel({rule.__name__: rule for rule in rules})


def _gain(candidate: Candidate) -> float:
    """The sum of what is better, in percent; 0 if anything is worse by more than labels round."""
    changes = [_improvement(d) for d in candidate.differences if d.nutrient in WATCHED]
    if not changes or min(changes) < -_WORSE_PERCENT or max(changes) < _BETTER_PERCENT:
        return 0.0
    return float(sum(change for change in changes if change >= _BETTER_PERCENT))


def _improvement(difference: Difference) -> int:
    """How much better the other food is in one nutrient, -100 to 100 percent; 0 for a nutrient not watched."""
    if abs(difference.change) < _NEGLIGIBLE.get(difference.nutrient, 0.0):
        return 0
    if difference.percent is not None:
        percent = max(-100, min(100, difference.percent))
    else:
        percent = 100 if difference.other > 0 else 0
    if difference.nutrient in _LESS_IS_BETTER:
        return -percent
    return percent if difference.nutrient in _MORE_IS_BETTER else 0


def _said(difference: Difference) -> str:
    word = "less" if difference.change < 0 else "more"
    share = "" if difference.percent is None else f"{abs(difference.percent)} % "
    amounts = f"{difference.other:g} instead of {difference.base:g} {difference.unit} in 100 g"
    return f"{share}{word} {plain_name(difference.nutrient)} ({amounts})"


def _gives(wish: Wish, base: Product, candidate: Product) -> list[bool]:
    given = [_more(column, candidate, base) for column in wish.less]
    given += [_more(column, base, candidate) for column in wish.more]
    category = wish.category or base.category
    return [*given, candidate.category.casefold() == category.casefold(), bool(given)]


def _more(column: str, low: Product, high: Product) -> bool:
    least, most = low.amount(column), high.amount(column)
    return least is not None and most is not None and least < most


def _likeness(base: Product, candidate: Product) -> float:
    """Words of the two names in common, of all their words: 0 to 1."""
    mine, theirs = set(_words(base.name)), set(_words(candidate.name))
    return round(len(mine & theirs) / len(mine | theirs), 3) if mine | theirs else 0.0


def _margin(wish: Wish, base: Product, candidate: Product) -> float:
    """The smallest of the wanted changes, as a share of the larger amount."""
    shares: list[float] = []
    for column in (*wish.less, *wish.more):
        mine, theirs = base.amount(column) or 0.0, candidate.amount(column) or 0.0
        shares.append(abs(theirs - mine) / max(mine, theirs))
    return min(shares)


def _numbers(column: str, base: Product, answer: Product, word: str) -> str:
    amounts = f"{answer.amount(column):g} instead of {base.amount(column):g} {UNITS.get(column, '')}"
    return f"{word} {plain_name(column)} ({amounts.strip()} in 100 g)"


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower())


def _title(text: str) -> str:
    if not text.isupper():
        return text
    words = text.lower().split()
    return " ".join(
        word if place and word in _SMALL_WORDS else word[:1].upper() + word[1:] for place, word in enumerate(words)
    )


def _and(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))
