"""Two runs of the same benchmarks: what became faster, what slower, and what the noise does not let one tell. Pure.

Compared are ratios to the floor, for a faster or a busier machine moves both sides. A difference counts where it is larger than what
the repeats of either run were apart, and than what runs of the same code differ by from one process to the next.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from regrow.bench.result import NOISY, Measured, Result

APART = 0.1
"""Medians of the same code differed by up to 8 % from process to process, with repeats 3 % apart."""

Verdict = Literal["faster", "slower", "the same", "too noisy to conclude from", "new"]


class NotResults(ValueError):
    """A file holds no lines of an earlier run."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One metric now, and what it was."""

    metric: str
    before: Result | None
    verdict: Verdict
    change: float = 0.0
    """Of the ratio to the floor: 0.1 is a tenth faster."""
    noise: float = 0.0
    """What a change must exceed to count."""

    def __str__(self) -> str:
        if self.before is None:
            return f"{self.metric}: not in the earlier run"
        return f"{self.metric}: {self.verdict} ({self.change:+.0%} against the floor, noise {self.noise:.0%}; it was {self.before.ratio:.2f})"


def read_results(text: str) -> list[Result]:
    """The lines of ``regrow bench --json``. Raises ``NotResults`` with the number of the line that is none."""
    found: list[Result] = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            found.append(msgspec.json.decode(line, type=Result))
        except msgspec.MsgspecError as error:
            raise NotResults(f"line {number} is no line of 'regrow bench --json': {error}") from None
    if not found:
        raise NotResults("it is empty; fill it with: regrow bench --all --json > FILE")
    return found


def changed(now: Measured, before: Iterable[Result]) -> Change:
    """What became of a metric; the last earlier line of the same metric and loop counts."""
    line = now.line
    earlier = [each for each in before if (each.metric, each.loop) == (line.metric, line.loop)]
    if not earlier:
        return Change(metric=line.metric, before=None, verdict="new")
    was = earlier[-1]
    noise = max(APART, now.noise, line.spread, was.spread)
    change = line.ratio / was.ratio - 1
    return Change(
        metric=line.metric,
        before=was,
        verdict=_verdict(change, noise),
        change=round(change, 3),
        noise=round(noise, 3),
    )


def worse(changes: Sequence[Change]) -> bool:
    """Whether something became slower, beyond the noise."""
    return any(each.verdict == "slower" for each in changes)


def _verdict(change: float, noise: float) -> Verdict:
    if abs(change) > noise:
        return "faster" if change > 0 else "slower"
    return "too noisy to conclude from" if noise > NOISY else "the same"
