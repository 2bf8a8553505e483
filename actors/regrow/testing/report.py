"""What trying all deaths has shown."""

from collections import Counter
from collections.abc import Sequence

import msgspec

from regrow.testing.points import Point

SENTENCES_MAX = 10


class Difference(msgspec.Struct, frozen=True):
    """A death after which things did not come to the same."""

    point: str
    """Its name, for ``only=``; empty when the scenario differs from itself without any death."""
    about: str
    """What was happening there."""
    sentences: tuple[str, ...]
    """What differs."""


class CrashReport(msgspec.Struct, frozen=True):
    """The outcome of ``crash_points``; its text is for whoever reads a failed assertion."""

    application: str
    tried: dict[str, int]
    """Deaths that took place, by what was happening."""
    possible: int
    """Points that the undisturbed run passes."""
    unreached: tuple[str, ...] = ()
    """Points that their run did not come to: it took another course than the undisturbed one."""
    first: Difference | None = None
    """The first point that differs; no later one was tried."""
    seconds: float = 0.0
    seed: int | None = None
    """Of a sample."""

    @property
    def ok(self) -> bool:
        """Whether every death that was tried came to the same as none."""
        return self.first is None

    @property
    def points(self) -> int:
        """Deaths that took place."""
        return sum(self.tried.values())

    def __str__(self) -> str:
        kinds = ", ".join(f"{what} {count}" for what, count in self.tried.items())
        sample = f" (seed {self.seed})" if self.seed is not None else ""
        told = f"{self.points} deaths of {self.application} tried in {self.seconds:.1f} s{sample}: {kinds or 'none'}"
        if self.unreached:
            told += f"; {len(self.unreached)} not reached, first {self.unreached[0]}"
        if self.first is None:
            return told
        what = "\n".join(f"  - {sentence}" for sentence in self.first.sentences[:SENTENCES_MAX])
        if not self.first.point:
            return f"{told}\nAlready without any death, from one run to the next:\n{what}"
        return (
            f"{told}\nThe first that differs: {self.first.point} ({self.first.about})\n{what}\n"
            f"To see it again: crash_points(app, scenario, only={self.first.point!r})"
        )


def tried(points: Sequence[Point]) -> dict[str, int]:
    """How many points there are of each kind."""
    return dict(Counter(point.what for point in points))
