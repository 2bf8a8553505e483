"""Who waits for whom: the cycles in a graph of asks, and the part of it that may belong to one. Pure.

An edge says that the turn of one actor waits for the answer of another. Its mail waits until that turn has ended, so actors on a
cycle of edges wait until one of the asks ends by its deadline, unless the handler of one goes on without that answer.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import TypeVar

Edge = tuple[str, str]
"""Who waits, and for whom."""
Path = tuple[str, ...]
"""The actors of a cycle in the order in which they wait, each once, the least one first."""
Graph = Mapping[str, list[str]]
A = TypeVar("A", bound=Hashable)
"""An actor, named in whatever way."""

CYCLES_MAX = 100
"""Named at once; where there are more, the others are when these are over."""


def cycles(edges: Iterable[Edge], most: int = CYCLES_MAX) -> list[Path]:
    """Cycles among these edges, sorted: every actor that is on any cycle is on one of them, until there are ``most``.

    Each is the shortest one through one of its actors. Takes the time of a walk over the edges where there is none, and of one
    more for each that is found.
    """
    graph = graph_of(edges)
    found: set[Path] = set()
    for component in _components(graph):
        within = {each: [to for to in graph[each] if to in component] for each in component}
        named: set[str] = set()
        for actor in sorted(component):
            if len(found) >= most:
                return sorted(found)
            if actor not in named:
                path = _shortest(within, actor)
                named.update(path)
                found.add(path)
    return sorted(found)


def leading(edges: Iterable[tuple[A, A]], is_elsewhere: Callable[[A], bool]) -> list[tuple[A, A]]:
    """The edges that lead, maybe over others, to a cycle or to an actor that is elsewhere, where its own edges are."""
    given = list(edges)
    waiting = {waiter for waiter, _ in given}
    # Most asks lead to somebody who waits for nobody.
    kept = [(waiter, on) for waiter, on in given if on in waiting or is_elsewhere(on)]
    waiters = dict.fromkeys(waiting, 0)
    into: dict[A, list[A]] = {}
    for waiter, on in kept:
        waiters[waiter] += 1
        into.setdefault(on, []).append(waiter)
    ended = deque(on for on in into if not waiters.get(on) and not is_elsewhere(on))
    gone = set(ended)
    while ended:
        for waiter in into.get(ended.popleft(), ()):
            waiters[waiter] -= 1
            if not waiters[waiter] and not is_elsewhere(waiter):
                gone.add(waiter)
                ended.append(waiter)
    return [(waiter, on) for waiter, on in kept if on not in gone]


def graph_of(edges: Iterable[Edge]) -> dict[str, list[str]]:
    """Everybody who is named, with those whom he waits for."""
    graph: dict[str, list[str]] = {}
    for waiter, on in edges:
        graph.setdefault(waiter, []).append(on)
        graph.setdefault(on, [])
    return graph


def said(path: Path) -> str:
    """A cycle for people, back to its first actor."""
    return " -> ".join((*path, path[0]))


def _shortest(graph: Graph, actor: str) -> Path:
    """The shortest way from an actor of a strong component back to itself, the least actor first."""
    came_from: dict[str, str] = {}
    look = deque([actor])
    while actor not in came_from:
        each = look.popleft()
        for on in graph[each]:
            if on not in came_from:
                came_from[on] = each
                look.append(on)
    path = [actor]
    while (before := came_from[path[-1]]) != actor:
        path.append(before)
    path.reverse()
    first = path.index(min(path))
    return (*path[first:], *path[:first])


def _components(graph: Graph) -> Iterator[set[str]]:
    """The strong components that hold a cycle (Tarjan's, without recursion)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    for root in graph:
        if root in number:
            continue
        walk = [(root, iter(graph[root]))]
        _enter(root, number, low, stack, on_stack)
        while walk:
            actor, rest = walk[-1]
            for on in rest:
                if on not in number:
                    _enter(on, number, low, stack, on_stack)
                    walk.append((on, iter(graph[on])))
                    break
                if on in on_stack:
                    low[actor] = min(low[actor], number[on])
            else:
                walk.pop()
                if walk:
                    low[walk[-1][0]] = min(low[walk[-1][0]], low[actor])
                if low[actor] == number[actor]:
                    component = _leave(actor, stack, on_stack)
                    if len(component) > 1 or actor in graph[actor]:
                        yield component


def _enter(actor: str, number: dict[str, int], low: dict[str, int], stack: list[str], on_stack: set[str]) -> None:
    number[actor] = low[actor] = len(number)
    stack.append(actor)
    on_stack.add(actor)


def _leave(actor: str, stack: list[str], on_stack: set[str]) -> set[str]:
    component: set[str] = set()
    while actor not in component:
        component.add(stack.pop())
    on_stack -= component
    return component
