"""Crash everywhere: a scenario is played once undisturbed, and again with a death at each moment that it passes.

Each run has a bus, a loop in virtual time and a thread of its own. What a process leaves behind at its death is what a killed one
leaves: a bus. What lives in module globals and in the system's ports is not the process's here; ``process=True`` kills for real.
"""

import asyncio
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from regrow.actors import System
from regrow.bus import MemoryBus
from regrow.testing.application import load
from regrow.testing.ending import View
from regrow.testing.killing import Killing, NotOver, killed_run, server
from regrow.testing.play import GaveUp, NeverEnds, Play, Scenario, play
from regrow.testing.points import Point
from regrow.testing.report import CrashReport
from regrow.testing.stage import run_on_stage
from regrow.testing.trying import Choice, Trial, try_all
from regrow.testing.virtual_time import EndlessLoop, Stalled

PATIENCE_S = 3_600.0
SETTLE_S = 3_600.0
REAL_PATIENCE_S = 60.0
REAL_SETTLE_S = 30.0


def as_it_is(actor: str, state: Any) -> Any:
    """Compares whole states."""
    return state


async def crash_points(
    app: System | Callable[[], System] | str,
    scenario: Scenario,
    *,
    only: str | None = None,
    points: int | None = None,
    seed: int | None = None,
    twice: bool = False,
    view: View = as_it_is,
    witness: bool = True,
    patience_s: float | None = None,
    settle_s: float | None = None,
    process: bool = False,
    bus: Callable[[str], MemoryBus] = MemoryBus,
) -> CrashReport:
    """Whether a death at any moment changes nothing: ``report = await crash_points(app, scenario); assert report.ok, report``.

    ``scenario(outside)`` is played by a client that outlives the processes: ``await outside.ref(Counter, "a").ask(…)``. The
    process dies before or after every append, acknowledgement, publish, post and timer, every run of a tool's body, and at
    every await of a handler; another one takes over. Compared with the undisturbed run are what the scenario returns, the
    state of every actor, all replies, the dead letters, and what ran: a step whose outcome was recorded never runs again.

    ``app``: the system, what makes it (called once for each run), or ``module:attribute`` or ``file.py:attribute``, where it is.
    ``only``: one point, by the name in the report. ``points``: so many of them, drawn with ``seed``. ``twice``: the
    process that takes over dies too, soon, at a point drawn with ``seed``; in memory only. ``view(actor, state)``: what
    of a state is compared. ``witness``: whether a tool may run with the same arguments only as often as in the undisturbed run,
    what was in flight at the death apart; say False where a handler polls, or its tools answer differently each time.
    ``patience_s``, ``settle_s``: seconds until a run is said to hang, and for which timers are waited for at its end; virtual
    ones, an hour each. ``bus``: makes the server of each run.

    ``process=True``: on a real nats-server, in worker processes that get SIGKILL, each of which imports ``app`` by its path. Some
    seconds for each point, so give ``points``; patience is a minute, and timers are waited for 30 s. How often what ran is not
    compared there, only that nothing ran whose outcome was recorded.

    Raises ``ValueError`` for an ``only`` that names no point, ``TypeError`` where ``process=True`` is not given a path,
    ``NoApplication`` where there is no system at it. What goes wrong in a run is in the report.
    """
    choice = Choice(only, points, seed, twice)
    if process:
        if not isinstance(app, str):
            raise TypeError(
                "a process of its own imports the application: give its path, module:attribute or file.py:attribute"
            )
        killing = Killing(
            path=app,
            scenario=scenario,
            view=view,
            patience_s=REAL_PATIENCE_S if patience_s is None else patience_s,
            settle_s=REAL_SETTLE_S if settle_s is None else settle_s,
        )
        async with server() as (url, folder):
            return await try_all(load(app).name, partial(_killed, killing, url, folder), choice, witness=False)
    plan = Play(
        system=_making(app),
        scenario=scenario,
        bus=bus,
        view=view,
        patience_s=PATIENCE_S if patience_s is None else patience_s,
        settle_s=SETTLE_S if settle_s is None else settle_s,
    )
    return await try_all(plan.system().name, partial(_played, plan), choice, witness=witness)


def _making(app: System | Callable[[], System] | str) -> Callable[[], System]:
    if callable(app):
        return app
    system = load(app) if isinstance(app, str) else app
    return lambda: system


async def _killed(what: Killing, url: str, folder: Path, doom: Point | None) -> Trial:
    try:
        run = await killed_run(what, url, folder, doom)
    except NotOver as error:
        return Trial(stuck=(str(error),))
    return Trial(run.ending, passed=run.passed, reached=run.reached)


async def _played(plan: Play, doom: Point | None) -> Trial:
    return await asyncio.to_thread(_play_here, plan, doom)


def _play_here(plan: Play, doom: Point | None) -> Trial:
    """One run, always with the same random numbers."""
    state = random.getstate()
    random.seed(0)
    try:
        with capture_logs():
            run = run_on_stage(lambda stage: play(plan, stage, doom))
        return Trial(run.ending, passed=run.tally.points, reached=run.reached)
    except NeverEnds as error:
        return Trial(stuck=error.sentences)
    except (GaveUp, Stalled, EndlessLoop) as error:
        return Trial(stuck=(str(error),))
    finally:
        random.setstate(state)
