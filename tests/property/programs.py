"""Random programs: what a handler may do with plain asyncio, as a small tree that a seed grows.

Every program keeps to what replay promises: whoever races ends with a step, waits of its own between two steps are a few turns of
the event loop, and a timeout either never fires or guards something that never ends.
"""

import random
from collections.abc import Iterator
from typing import Literal, cast

import msgspec

Losers = Literal["cancel", "await", "leave"]
Kind = Literal["work", "look", "thread", "flaky", "route", "burst", "own"]


class _Node(msgspec.Struct, frozen=True, tag=True):
    pass


class Call(_Node, frozen=True):
    """A step. Its outcome is a token that no other execution has."""

    tool: Kind
    argument: int
    ticks: int = 0
    """Turns of the event loop that the body takes, in the odd lives; in the even ones what was slow is fast."""
    emit: bool = False


class Ask(_Node, frozen=True):
    """A durable ask to another actor, which runs a step of its own and may refuse."""

    argument: int
    refused: bool = False
    emit: bool = False


class Ticks(_Node, frozen=True):
    """So many turns of the event loop."""

    number: int


class Raise(_Node, frozen=True):
    """An exception of the handler's own."""


class Sequence(_Node, frozen=True):
    parts: tuple["Node", ...]


class Gather(_Node, frozen=True):
    parts: tuple["Node", ...]
    keep_errors: bool = False


class Group(_Node, frozen=True):
    """A TaskGroup: the first that fails cancels the others."""

    parts: tuple["Node", ...]


class Race(_Node, frozen=True):
    """``asyncio.wait(FIRST_COMPLETED)``."""

    parts: tuple["Node", ...]
    losers: Losers


class Completed(_Node, frozen=True):
    """``asyncio.as_completed``, of which so many are taken; the others go on, or are cancelled where they were given as tasks."""

    parts: tuple["Node", ...]
    take: int
    tasks: bool = False


class Timeout(_Node, frozen=True):
    """``asyncio.timeout`` or ``wait_for``. One that fires guards the body and then a step that never ends."""

    body: "Node"
    argument: int
    after_s: float
    fires: bool = False
    waits_for: bool = False


class Shield(_Node, frozen=True):
    """A shielded task whose waiter times out, while it goes on with ``late``; it is awaited in the end, or left."""

    body: "Node"
    late: "Node"
    after_s: float
    awaited: bool = True


class Repeat(_Node, frozen=True):
    """A loop with equal arguments."""

    body: "Node"
    times: int


class Catch(_Node, frozen=True):
    """``except Exception``."""

    body: "Node"
    fallback: "Node"


class Compensate(_Node, frozen=True):
    """``except CancelledError``: a step, then the cancellation goes on."""

    body: "Node"
    undo: Call


class Branch(_Node, frozen=True):
    """``if``, by the outcome seen last."""

    even: "Node"
    odd: "Node"


class Generate(_Node, frozen=True):
    """An async generator with a step for each item and one at its end, left after so many items."""

    parts: tuple["Node", ...]
    take: int
    end: Call


class Thread(_Node, frozen=True):
    """``to_thread``: of a plain function, or of one that calls a tool from there."""

    argument: int
    calls: bool


Node = (
    Call
    | Ask
    | Ticks
    | Raise
    | Sequence
    | Gather
    | Group
    | Race
    | Completed
    | Timeout
    | Shield
    | Repeat
    | Catch
    | Compensate
    | Branch
    | Generate
    | Thread
)


class Place(msgspec.Struct, frozen=True):
    """Where in a program a part grows, and what may stand there."""

    depth: int = 0
    raced: bool = False
    """Somebody may be waiting for it to end, or cancel it."""
    looped: bool = False
    """It runs more than once: no task of it may outlive its round, for the next one makes the same calls."""
    parallel: bool = False

    def below(self, **changed: bool) -> "Place":
        return msgspec.structs.replace(self, depth=self.depth + 1, **changed)


class Grower:
    """Grows one program. ``real_clock``: no two timeouts may run at once, for they wait their time again in a replay."""

    DEPTH_MAX = 3

    def __init__(self, seed: int, *, real_clock: bool = False) -> None:
        self._draw = random.Random(seed)
        self._real_clock = real_clock
        self._threads = self._draw.random() < 0.25
        """Threads take their own time, so a program has either those or tasks that somebody races, cancels or leaves."""
        self._arguments = 0

    def program(self) -> Node:
        return self._sequence(Place(), self._draw.randint(2, 4))

    def _sequence(self, place: Place, length: int) -> Node:
        parts: list[Node] = []
        for _ in range(length):
            if self._draw.random() < 0.2:
                parts.append(Ticks(self._draw.randint(1, 3)))
            parts.append(self._part(place, parts))
        if self._draw.random() < 0.06:
            parts.append(Raise())
        return Sequence(tuple(parts)) if len(parts) > 1 else parts[0]

    def _part(self, place: Place, before: list[Node]) -> Node:
        if place.depth >= self.DEPTH_MAX or self._draw.random() < 0.5:
            return self._leaf(place, before)
        choices = [self._gather, self._catch, self._branch, self._timeout, self._generate]
        if not place.looped:
            choices.append(self._repeat)
        if not self._threads:
            choices += [self._race, self._race, self._compensate]
            if not place.looped:
                choices += [self._group, self._completed, self._shield]
        return self._draw.choice(choices)(place)

    def _leaf(self, place: Place, before: list[Node]) -> Node:
        if self._threads and not place.raced and self._draw.random() < 0.25:
            return Thread(self._fresh(), calls=self._draw.random() < 0.6)
        if self._draw.random() < 0.2:
            return Ask(self._fresh(), refused=self._draw.random() < 0.15, emit=self._draw.random() < 0.3)
        return self._call(before)

    def _call(self, before: list[Node] | None = None) -> Call:
        tool: Kind = self._draw.choices(
            ("work", "look", "thread", "flaky", "route", "burst", "own"), (8, 3, 1, 2, 1, 1, 1)
        )[0]
        ticks, emit = self._draw.randint(0, 12), self._draw.random() < 0.3
        earlier = [each for each in before or () if isinstance(each, Call)]
        if earlier and self._draw.random() < 0.4:
            return msgspec.structs.replace(self._draw.choice(earlier), ticks=ticks, emit=emit)
        return Call(tool, self._draw.randint(0, 1) if tool == "look" else self._fresh(), ticks, emit)

    def _fresh(self) -> int:
        self._arguments += 1
        return 10 + self._arguments

    def _tasks(self, place: Place, *, raced: bool) -> tuple[Node, ...]:
        below = place.below(raced=place.raced or raced, parallel=True)
        return tuple(self._sequence(below, self._draw.randint(1, 2)) for _ in range(self._draw.randint(2, 3)))

    def _gather(self, place: Place) -> Node:
        keep = self._threads or place.looped or self._draw.random() < 0.5
        return Gather(self._tasks(place, raced=not keep), keep)

    def _group(self, place: Place) -> Node:
        return Group(self._tasks(place, raced=True))

    def _race(self, place: Place) -> Node:
        losers: Losers = self._draw.choice(("cancel", "await") if place.looped else ("cancel", "await", "leave"))
        return Race(self._tasks(place, raced=True), losers)

    def _completed(self, place: Place) -> Node:
        parts = self._tasks(place, raced=True)
        return Completed(parts, self._draw.randint(1, len(parts)), self._draw.random() < 0.5)

    def _timeout(self, place: Place) -> Node:
        fires = self._draw.random() < 0.5 and not (self._real_clock and place.parallel) and not self._threads
        after_s = self._draw.uniform(0.0, 0.005) if fires else 3600.0
        below = place.below(raced=place.raced or fires, looped=place.looped or fires)
        body = self._sequence(below, self._draw.randint(1, 2))
        return Timeout(body, self._fresh(), after_s, fires, self._draw.random() < 0.4)

    def _shield(self, place: Place) -> Node:
        if self._real_clock and place.parallel:
            return self._gather(place)
        below = place.below(raced=True, parallel=True)
        body, late = self._sequence(below, self._draw.randint(1, 2)), self._sequence(below, 1)
        return Shield(body, late, self._draw.uniform(0.001, 0.005), self._draw.random() < 0.7)

    def _repeat(self, place: Place) -> Node:
        return Repeat(self._sequence(place.below(looped=True), self._draw.randint(1, 2)), self._draw.randint(2, 3))

    def _catch(self, place: Place) -> Node:
        body = Sequence((self._sequence(place.below(), 2), *((Raise(),) if self._draw.random() < 0.3 else ())))
        return Catch(body, self._sequence(place.below(), 1))

    def _compensate(self, place: Place) -> Node:
        return Compensate(self._sequence(place.below(), self._draw.randint(1, 2)), Call("work", self._fresh()))

    def _branch(self, place: Place) -> Node:
        return Branch(self._sequence(place.below(), 1), self._sequence(place.below(), self._draw.randint(1, 2)))

    def _generate(self, place: Place) -> Node:
        parts = tuple(self._sequence(place.below(), 1) for _ in range(self._draw.randint(2, 3)))
        return Generate(parts, self._draw.randint(1, len(parts)), Call("work", self._fresh()))


def grown(seed: int, *, real_clock: bool = False) -> Node:
    """The program of this seed."""
    return Grower(seed, real_clock=real_clock).program()


def smaller(node: Node) -> Iterator[Node]:
    """Programs with a part less, for whoever looks for the smallest that still shows a fault."""
    for field in node.__struct_fields__:
        value = getattr(node, field)
        if isinstance(value, tuple):
            yield from _with_fewer(node, field, cast("tuple[Node, ...]", value))
        elif field == "undo" or field == "end":
            continue
        elif isinstance(value, _Node):
            part = cast(Node, value)
            yield part
            for each in smaller(part):
                yield msgspec.structs.replace(node, **{field: each})
        elif field in ("ticks", "emit", "refused") and value:
            yield msgspec.structs.replace(node, **{field: type(value)(0)})


def _with_fewer(node: Node, field: str, parts: tuple[Node, ...]) -> Iterator[Node]:
    yield from parts
    for index, part in enumerate(parts):
        if len(parts) > 1:
            yield msgspec.structs.replace(node, **{field: (*parts[:index], *parts[index + 1 :])})
        for each in smaller(part):
            yield msgspec.structs.replace(node, **{field: (*parts[:index], each, *parts[index + 1 :])})


def is_sound(node: Node) -> bool:
    """Whether every part of a program that may be raced has a step, and ends with one."""
    match node:
        case Ticks() | Raise():
            return False
        case Sequence(parts):
            return not isinstance(parts[-1], Ticks) and any(_is_step_or_more(part) for part in parts) and _inner(parts)
        case _:
            fields = (getattr(node, field) for field in node.__struct_fields__)
            parts = tuple(
                cast(Node, part)
                for value in fields
                for part in (cast("tuple[object, ...]", value) if isinstance(value, tuple) else (value,))
                if isinstance(part, _Node)
            )
            return all(is_sound(part) for part in parts)


def _is_step_or_more(part: Node) -> bool:
    return not isinstance(part, Ticks | Raise)


def _inner(parts: tuple[Node, ...]) -> bool:
    return all(is_sound(part) for part in parts if _is_step_or_more(part))
