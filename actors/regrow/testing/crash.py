"""Crash everywhere: a scenario is played once undisturbed, and again with a death at each moment that it passes.

Each run has a bus, a loop in virtual time and a thread of its own. What a process leaves behind at its death is what a killed one
leaves: a bus. What lives in module globals and in the system's ports is not the process's here; ``process=True`` kills for real.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import msgspec
from structlog.testing import capture_logs

from regrow.actors import System
from regrow.bus import MemoryBus
from regrow.testing.ending import Ending, View, differences
from regrow.testing.play import GaveUp, NeverEnds, Play, Run, Scenario, play
from regrow.testing.points import Point, point
from regrow.testing.report import CrashReport, Difference, tried
from regrow.testing.stage import run_on_stage
from regrow.testing.virtual_time import EndlessLoop, Stalled

PATIENCE_S = 3_600.0
SETTLE_S = 3_600.0


def as_it_is(actor: str, state: Any) -> Any:
    """Compares whole states."""
    return state


async def crash_points(
    app: System | Callable[[], System],
    scenario: Scenario,
    *,
    only: str | None = None,
    points: int | None = None,
    seed: int | None = None,
    view: View = as_it_is,
    witness: bool = True,
    patience_s: float = PATIENCE_S,
    settle_s: float = SETTLE_S,
    bus: Callable[[str], MemoryBus] = MemoryBus,
) -> CrashReport:
    """Whether a death at any moment changes nothing: ``report = await crash_points(app, scenario); assert report.ok, report``.

    ``scenario(outside)`` is played by a client that outlives the processes: ``await outside.ref(Counter, "a").ask(…)``. The
    process dies before or after every append, acknowledgement, publish, post and timer, every run of a tool's body, and at
    every await of a handler; another one takes over. Compared with the undisturbed run are what the scenario returns, the
    state of every actor, all replies, the dead letters, and what ran: a step whose outcome was recorded never runs again.

    ``app``: the system, or what makes it, called once for each run. ``only``: one point, by the name in the report.
    ``points``: so many of them, drawn with ``seed``. ``view(actor, state)``: what of a state is compared. ``witness``: whether a
    tool may run with the same arguments only as often as in the undisturbed run, what was in flight at the death apart; say
    False where a handler polls, or its tools answer differently each time. ``patience_s``, ``settle_s``: virtual seconds until
    a run is said to hang, and for which timers are waited for at its end. ``bus``: makes the server of each run.
    """
    began_s = time.perf_counter()
    plan = Play(
        system=app if not isinstance(app, System) else lambda: app,
        scenario=scenario,
        bus=bus,
        view=view,
        patience_s=patience_s,
        settle_s=settle_s,
    )
    name = plan.system().name
    undisturbed = await asyncio.to_thread(_run, plan, None)
    if isinstance(undisturbed, tuple):
        return CrashReport(name, {}, 0, first=Difference("", "", undisturbed))
    passed = undisturbed.tally.points
    chosen, seed = _choose(passed, only, points, seed)
    deaths: list[Point] = []
    unreached: list[str] = []
    compare = partial(differences, undisturbed.ending, witness=witness)
    first = await _differs_from_itself(plan, compare)
    for death in chosen if first is None else ():
        run = await asyncio.to_thread(_run, plan, death)
        if isinstance(run, Run) and not run.reached:
            unreached.append(str(death))
            continue
        deaths.append(death)
        sentences = run if isinstance(run, tuple) else tuple(compare(run.ending))
        if sentences:
            first = Difference(str(death), death.about, sentences)
            break
    seconds = time.perf_counter() - began_s
    return CrashReport(name, tried(deaths), len(passed), tuple(unreached), first, seconds, seed)


def _choose(
    passed: Sequence[Point], only: str | None, count: int | None, seed: int | None
) -> tuple[Sequence[Point], int | None]:
    """The points to try, and the seed by which they were drawn. Raises ValueError for a point that is none."""
    if only is not None:
        wanted = point(only)
        about = next((each.about for each in passed if str(each) == str(wanted)), "not passed by the undisturbed run")
        return (msgspec.structs.replace(wanted, about=about),), None
    if count is None or count >= len(passed):
        return passed, None
    seed = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    drawn = set(random.Random(seed).sample(range(len(passed)), count))
    return [each for index, each in enumerate(passed) if index in drawn], seed


async def _differs_from_itself(plan: Play, compare: Callable[[Ending], Iterable[str]]) -> Difference | None:
    """What a second undisturbed run shows: what differs there says nothing about deaths."""
    again = await asyncio.to_thread(_run, plan, None)
    sentences = again if isinstance(again, tuple) else tuple(compare(again.ending))
    return Difference("", "", sentences) if sentences else None


def _run(plan: Play, doom: Point | None) -> Run | tuple[str, ...]:
    """One run, always with the same random numbers; what kept it from an end, a sentence each."""
    state = random.getstate()
    random.seed(0)
    try:
        with capture_logs():
            return run_on_stage(lambda stage: play(plan, stage, doom))
    except NeverEnds as error:
        return error.sentences
    except (GaveUp, Stalled, EndlessLoop) as error:
        return (str(error),)
    finally:
        random.setstate(state)
