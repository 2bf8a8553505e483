"""The rows that a recommendation question is about: the one that was named, and those that might answer."""

from regrow.agents.nutrition import energy_check
from regrow.agents.portion import parse_portion
from regrow.agents.product import Product
from regrow.agents.question import Wish
from regrow.agents.store import CatalogStore, StoreError

_LOOKED_AT = 50
"""Search hits looked at for the row that was named, and for each one that might answer."""


class NothingLike(StoreError, LookupError):
    """No row of the catalogue matches the name in the question and gives the nutrients asked about."""


def find_base(store: CatalogStore, wish: Wish) -> Product:
    """The row that the question names: one of exactly that name if there is any, else the best match.

    Only rows that give each nutrient asked about count, for nothing can be less than an unknown number.
    Raises `NothingLike`.
    """
    hits = store.search(wish.like, _LOOKED_AT, wish.category)
    for product in (*store.named(wish.like, _LOOKED_AT), *store.products([hit.id for hit in hits])):
        if all(product.amount(column) is not None for column in (*wish.less, *wish.more)):
            return product
    raise NothingLike(f"no product like {wish.like!r} gives {', '.join((*wish.less, *wish.more))}")


def find_candidates(store: CatalogStore, wish: Wish, base: Product, limit: int = 20) -> list[Product]:
    """Rows of the wanted category that might answer: first those with a name like the base's, then the extremes.

    Rows whose numbers cannot be true (`energy_check`) are left out: a slip of the label is no better choice.
    """
    category = wish.category or base.category
    like = [hit.id for hit in store.search(base.name, _LOOKED_AT, category)]
    extremes = [i for column in wish.less for i, _ in store.category_values(category, column)[:limit]]
    extremes += [i for column in wish.more for i, _ in store.category_values(category, column)[-limit:]]
    found: list[Product] = []
    for product in store.products([i for i in dict.fromkeys((*like, *extremes)) if i != base.id]):
        portion = parse_portion(product.portion, product.portion_g)
        if energy_check(product, portion).verdict != "implausible" and _may_answer(wish, base, product):
            found.append(product)
    return found[:limit]


def _may_answer(wish: Wish, base: Product, product: Product) -> bool:
    return all(_is_less(product, base, column) for column in wish.less) and all(
        _is_less(base, product, column) for column in wish.more
    )


def _is_less(one: Product, other: Product, column: str) -> bool:
    low, high = one.amount(column), other.amount(column)
    return low is not None and high is not None and low < high
