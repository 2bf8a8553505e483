"""Programs that seeds grow.

Every program keeps to what replay promises: whoever races ends with a step, waits of its own between two steps are a few turns of
the event loop, and a timeout either never fires or guards something that never ends. Under a real clock those that fire are
``regrow.actors.timeout``: how far a program comes beside a plain one is no step, and in a replay less time passes.
"""

import random

import msgspec
from tests.property.programs import (
    Ask,
    Branch,
    Call,
    Catch,
    Compensate,
    Completed,
    Deadline,
    Gather,
    Generate,
    Group,
    Kind,
    Losers,
    Node,
    Race,
    Raise,
    Repeat,
    Sequence,
    Shield,
    Thread,
    Ticks,
    Timeout,
)


class Place(msgspec.Struct, frozen=True):
    """Where in a program a part grows, and what may stand there."""

    depth: int = 0
    raced: bool = False
    """Somebody may be waiting for it to end, or cancel it."""
    looped: bool = False
    """It runs more than once: no task of it may outlive its round, for the next one makes the same calls."""

    def below(self, **changed: bool) -> "Place":
        return msgspec.structs.replace(self, depth=self.depth + 1, **changed)


class Grower:
    """Grows one program. ``real_clock``: the same, but no plain timeout fires."""

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
        below = place.below(raced=place.raced or raced)
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
        fires = self._draw.random() < 0.5 and not self._threads
        after_s = self._draw.uniform(0.0, 0.005) if fires else 3600.0
        below = place.below(raced=place.raced or fires, looped=place.looped or fires)
        body = self._sequence(below, self._draw.randint(1, 2))
        by: Deadline = self._draw.choice(("timeout", "wait_for", "durable"))
        return Timeout(body, self._fresh(), after_s, fires, "durable" if fires and self._real_clock else by)

    def _shield(self, place: Place) -> Node:
        below = place.below(raced=True)
        body, late = self._sequence(below, self._draw.randint(1, 2)), self._sequence(below, 1)
        awaited, durable = self._draw.random() < 0.7, self._draw.random() < 0.5
        return Shield(body, late, self._draw.uniform(0.001, 0.005), awaited, durable or self._real_clock)

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
