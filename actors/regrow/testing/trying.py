"""Trying deaths one after the other, however a run is made, until one comes to something else than the undisturbed run."""

import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import msgspec

from regrow.testing.ending import Ending, differences
from regrow.testing.points import Point, choose, doubled
from regrow.testing.report import CrashReport, Difference, tried


class Trial(msgspec.Struct, frozen=True):
    """How one run went."""

    ending: Ending | None = None
    """None: it came to no end."""
    stuck: tuple[str, ...] = ()
    """What kept it from one."""
    passed: Sequence[Point] = ()
    """The points that it came to, where there was no death."""
    reached: bool = True
    """Whether the death took place."""


class Choice(msgspec.Struct, frozen=True):
    """Which points are tried: one, so many of them, or all."""

    only: str | None = None
    points: int | None = None
    seed: int | None = None
    twice: bool = False
    """Whether the next process dies too."""


async def try_all(
    name: str, run: Callable[[Point | None], Awaitable[Trial]], choice: Choice, *, witness: bool
) -> CrashReport:
    """The undisturbed run twice, then one with each death, up to the first that differs."""
    began_s = time.perf_counter()
    undisturbed = await run(None)
    if undisturbed.ending is None:
        return CrashReport(name, {}, 0, first=Difference("", "", undisturbed.stuck))
    compare = partial(_compared, undisturbed.ending, witness)
    chosen, seed = choose(undisturbed.passed, choice.only, choice.points, choice.seed)
    if choice.twice and choice.only is None:
        seed = secrets.randbelow(1 << 32) if seed is None else seed
        chosen = doubled(chosen, seed)
    deaths: list[Point] = []
    unreached: list[str] = []
    itself = compare(await run(None))
    first = Difference("", "", itself) if itself else None
    for death in chosen if first is None else ():
        trial = await run(death)
        if not trial.reached:
            unreached.append(str(death))
            continue
        deaths.append(death)
        sentences = compare(trial)
        if sentences:
            first = Difference(str(death), death.about, sentences)
            break
    seconds = time.perf_counter() - began_s
    return CrashReport(name, tried(deaths), len(undisturbed.passed), tuple(unreached), first, seconds, seed)


def _compared(expected: Ending, witness: bool, trial: Trial) -> tuple[str, ...]:
    if trial.ending is None:
        return trial.stuck
    return tuple(differences(expected, trial.ending, witness=witness))
