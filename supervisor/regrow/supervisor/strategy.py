"""Which siblings a death concerns, in which order they stop, and when a supervisor ends by itself; pure.

The rules are those of OTP's supervisor.erl. Sequences are in start order.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeVar

T = TypeVar("T")

Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]
AutoShutdown = Literal["never", "any_significant", "all_significant"]


def affected(strategy: Strategy, siblings: Sequence[T], dead: T) -> Sequence[T]:
    """Who is stopped and started again when `dead` is to be restarted, itself among them.

    one_for_one: it alone. one_for_all: everybody. rest_for_one: it and whoever was started after it. That
    includes siblings that had been stopped by hand or had finished, as in OTP: they too come back.
    """
    match strategy:
        case "one_for_one":
            return (dead,)
        case "one_for_all":
            return tuple(siblings)
        case _:  # rest_for_one
            return tuple(siblings[siblings.index(dead) :])


def ends_all(auto_shutdown: AutoShutdown, significant: bool, others_live: bool) -> bool:
    """True when a child that ended by itself, and stays so, takes its supervisor with it.

    `others_live`: another significant child runs or is about to be restarted.
    """
    return significant and (
        auto_shutdown == "any_significant" or (auto_shutdown == "all_significant" and not others_live)
    )


Waves = Callable[[Sequence[T]], Iterable[Sequence[T]]]
"""Who stops together; the next wave waits until all of the one before it are gone."""


def one_by_one(slots: Sequence[T]) -> Iterable[Sequence[T]]:
    """The last started first, each after the one before it is gone."""
    return ((slot,) for slot in reversed(slots))


def all_at_once(slots: Sequence[T]) -> Iterable[Sequence[T]]:
    """All together, each with its own time, as Elixir's DynamicSupervisor stops its children."""
    return (slots,)
