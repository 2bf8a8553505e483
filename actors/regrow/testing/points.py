"""Moments at which a process may die, counted in the order in which they come, and how each is named."""

import random
import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal, get_args

import msgspec

Side = Literal["before", "after"]
What = Literal[
    "append", "save", "cache", "post", "schedule", "unschedule", "ack", "publish", "bury", "remove", "step", "await"
]
KINDS: tuple[What, ...] = get_args(What)

THEN_MAX = 24
"""The last point of the second process at which it may die."""
NO_POINT = "-"
"""The name of none."""
_NAME = re.compile(r"(\w+) (\d+)(?: (before|after))?(?: \+ (\d+))?")


class Point(msgspec.Struct, frozen=True):
    """One moment: ``append 17 after`` is when the seventeenth append has reached the server and nobody knows it yet.

    ``step 3 before`` is just before the third run of a tool's body, ``step 3 after`` when it has run and nothing of that is
    recorded. ``await 5`` is the fifth time that a handler waits: whatever it waits for, it hears of it no more.
    """

    what: What
    number: int
    side: Side = "before"
    about: str = ""
    """What happens there in the undisturbed run, for whoever reads; no part of the point's name."""
    then: int = 0
    """``append 17 after + 5``: the next process dies as well, at the fifth point that it comes to; 0: it lives."""

    def __str__(self) -> str:
        name = f"await {self.number}" if self.what == "await" else f"{self.what} {self.number} {self.side}"
        return f"{name} + {self.then}" if self.then else name

    def is_same(self, other: "Point | None") -> bool:
        """Whether it is the same moment, whatever is said about it, and whatever comes then."""
        return other is not None and (self.what, self.number, self.side) == (other.what, other.number, other.side)


def point(name: str) -> Point:
    """The point of that name. Raises ValueError for what is none."""
    found = _NAME.fullmatch(name.strip())
    if found is None or found[1] not in KINDS or (found[3] is None) != (found[1] == "await"):
        raise ValueError(
            f"{name!r} is no crash point: write it as a report does, such as 'append 17 after' or 'await 5'"
        )
    return Point(
        KINDS[KINDS.index(found[1])],
        int(found[2]),
        "after" if found[3] == "after" else "before",
        then=int(found[4] or 0),
    )


class Tally:
    """Counts what a run passes, over all its processes. With ``keep`` it notes every point, in order."""

    def __init__(self, *, keep: bool = False) -> None:
        self.points: list[Point] = []
        self._keep = keep
        self._counts: Counter[str] = Counter()

    def next(self, what: What, about: str = "") -> int:
        """The number of this happening among its like; from now on it has happened."""
        self._counts[what] += 1
        number = self._counts[what]
        self.note(Point(what, number, "before", about))
        return number

    def note(self, point: Point) -> None:
        """The run has come to this point."""
        if self._keep:
            self.points.append(point)


def choose(
    passed: Sequence[Point], only: str | None, count: int | None, seed: int | None
) -> tuple[Sequence[Point], int | None]:
    """The points to try, and the seed by which they were drawn. Raises ValueError for a point that is none."""
    if only is not None:
        wanted = point(only)
        about = next((each.about for each in passed if each.is_same(wanted)), "not passed by the undisturbed run")
        return (msgspec.structs.replace(wanted, about=about),), None
    if count is None or count >= len(passed):
        return passed, seed
    seed = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    drawn = set(random.Random(seed).sample(range(len(passed)), count))
    return [each for index, each in enumerate(passed) if index in drawn], seed


def doubled(points: Sequence[Point], seed: int) -> list[Point]:
    """The same points with a second death each, soon after the next process has begun."""
    chance = random.Random(seed)
    return [msgspec.structs.replace(each, then=chance.randint(1, THEN_MAX)) for each in points]
