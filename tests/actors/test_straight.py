"""Handlers that never await have a plain form that does the same."""

import functools
import inspect
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from regrow.actors.straight import plain_form


def plain(method: Callable[..., Any]) -> Callable[..., Any]:
    found = plain_form(method)
    assert found is not None
    return found


class Base:
    def __init__(self) -> None:
        self.total = 1

    async def add(self, amount: int) -> int:
        """Adds."""
        self.total += amount
        return self.total

    async def fails(self, amount: int) -> int:
        try:
            raise ValueError(amount)
        finally:
            self.total = 0

    def name(self) -> str:
        return "base"


def test_the_plain_form_returns_what_the_coroutine_returns() -> None:
    base = Base()
    add = plain(Base.add)
    assert not inspect.iscoroutinefunction(add)
    assert [add(base, amount) for amount in range(40)][-1] == 1 + sum(range(40))
    assert inspect.iscoroutinefunction(Base.add)


def test_it_raises_what_the_coroutine_raises_and_names_the_same_line() -> None:
    base = Base()
    with pytest.raises(ValueError, match="3") as caught:
        plain(Base.fails)(base, 3)
    last = traceback.extract_tb(caught.tb)[-1]
    assert (last.name, last.line) == ("fails", "raise ValueError(amount)")
    assert base.total == 0


def test_closures_super_defaults_and_inner_functions_stay() -> None:
    word = "closed over"

    class Derived(Base):
        async def all(self, amount: int, by: int = 2, *, more: int = 3) -> tuple[Any, ...]:
            def inner() -> int:
                return amount * by

            return super().name(), word, inner(), more, [each + by for each in range(2)]

    made = plain(Derived.all)
    assert made(Derived(), 5) == ("base", "closed over", 10, 3, [2, 3])
    assert made.__qualname__ == Derived.all.__qualname__


def test_a_stop_iteration_ends_no_loop_around_it() -> None:
    async def stop(actor: object, message: object) -> None:
        raise StopIteration("enough")

    with pytest.raises((StopIteration, RuntimeError)):
        plain(stop)(None, None)


@pytest.mark.parametrize("method", [functools.partial(Base.add), len, Base.name])
def test_what_does_not_begin_as_a_coroutine_function_has_none(method: Callable[..., Any]) -> None:
    assert plain_form(method) is None
