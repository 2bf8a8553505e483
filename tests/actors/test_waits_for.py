"""Cycles of a waits-for graph, against a search that tries every path."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.actors.waits_for import CYCLES_MAX, Edge, Path, cycles, leading, said

NAMES = "abcdef"
edges = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), max_size=16)


def every_cycle(given_edges: list[Edge]) -> set[Path]:
    """All of them, by trying every path that begins at its least actor."""
    found: set[Path] = set()

    def go(path: Path) -> None:
        for waiter, on in given_edges:
            if waiter != path[-1]:
                continue
            if on == path[0]:
                found.add(path)
            elif on > path[0] and on not in path:
                go((*path, on))

    for name in NAMES:
        go((name,))
    return found


@given(edges)
def test_what_is_named_is_a_cycle_and_everybody_on_one_is_named(given_edges: list[Edge]) -> None:
    named, every = cycles(given_edges), every_cycle(given_edges)
    assert named == sorted(set(named))
    assert set(named) <= every
    assert {actor for path in named for actor in path} == {actor for path in every for actor in path}


@given(edges, st.sets(st.sampled_from(NAMES)))
def test_what_leads_to_a_cycle_or_elsewhere_is_kept_and_nothing_else(given_edges: list[Edge], away: set[str]) -> None:
    on_cycles = {actor for path in every_cycle(given_edges) for actor in path}

    def leads(actor: str, seen: frozenset[str] = frozenset()) -> bool:
        if actor in on_cycles or actor in away:
            return True
        return any(leads(on, seen | {actor}) for waiter, on in given_edges if waiter == actor and on not in seen)

    assert leading(given_edges, away.__contains__) == [each for each in given_edges if leads(each[1])]


@pytest.mark.parametrize(
    ("given_edges", "named"),
    [
        ([], []),
        ([("a", "b"), ("b", "c")], []),
        ([("b", "a"), ("a", "b")], [("a", "b")]),
        ([("a", "a")], [("a",)]),
        ([("c", "a"), ("a", "b"), ("b", "c"), ("x", "a")], [("a", "b", "c")]),
        ([("a", "b"), ("b", "a"), ("b", "c"), ("c", "b")], [("a", "b"), ("b", "c")]),
    ],
)
def test_a_cycle_is_named_by_its_least_actor_first(given_edges: list[Edge], named: list[Path]) -> None:
    assert cycles(given_edges) == named


def test_a_long_ring_is_one_cycle_and_no_deep_recursion() -> None:
    count = 20_000
    ring = [(f"{number:05}", f"{(number + 1) % count:05}") for number in range(count)]
    assert [len(path) for path in cycles(ring)] == [count]


def test_more_cycles_than_are_named_at_once_wait_for_their_turn() -> None:
    pairs = [
        each
        for number in range(CYCLES_MAX + 5)
        for each in ((f"a{number}", f"b{number}"), (f"b{number}", f"a{number}"))
    ]
    assert len(cycles(pairs)) == CYCLES_MAX


def test_a_cycle_is_said_back_to_its_first_actor() -> None:
    assert said(("a/1", "b/2")) == "a/1 -> b/2 -> a/1"


def test_nothing_leads_anywhere_where_nobody_is_elsewhere() -> None:
    nobody: Callable[[str], bool] = frozenset[str]().__contains__
    assert leading([("a", "b"), ("b", "c"), ("d", "c")], nobody) == []
