"""Trials: programs run, die at a journal write, are recovered by another host, and replayed by a third one with no tool allowed."""

import asyncio
import itertools
import random
from collections.abc import Sequence

import msgspec
from tests.property.interpreter import Perform, Performer
from tests.property.oracle import before_the_end
from tests.property.programs import Node
from tests.property.tools import Peer, Scene
from tests.property.world import NEVER, WHERES, Observed, Point, Universe, World

from regrow.actors import Kind, Policy, System
from regrow.actors.records import Outcome
from regrow.actors.wire import outcome_of
from regrow.bus import Address, Bus, encode
from regrow.supervisor import Backoff

PATIENCE_S = 1_000.0
"""Of virtual time, for all answers of a host."""
QUIET_S = 0.05
"""Of virtual time: it passes only once nobody has anything to do."""

POLICY = Policy(backoff=Backoff(first_s=0.0), deaths_max=1_000)

AGAIN = 0.25
"""The share of trials with a second death."""

_names = itertools.count()


def system(app: str, scene: Scene, *, snapshot_every: int = 500) -> System:
    """The application, on this scene."""
    policy = msgspec.structs.replace(POLICY, snapshot_every=snapshot_every)
    # Most programs fail, as planned: that is no fault of their kind.
    kinds = [Kind(actor=each, policy=policy, fails_max_ratio=1.0) for each in (Performer, Peer)]
    return System(app, kinds, ports={"scene": scene}).checked()


class Trial:
    """A program and the point at which it dies; afterwards what went wrong."""

    def __init__(self, program: Node, point: Point = NEVER, *, seed: int = 0) -> None:
        self.program = program
        self.point = point
        self.seed = seed
        self.universe = Universe("", program, point)
        self.wrong: list[str] = []
        self.writes = 0
        """Of all its lives."""

    def __str__(self) -> str:
        again = f", again after write {self.point.again}" if self.point.again else ""
        return f"seed {self.seed}, death {self.point.where} write {self.point.write}{again}"

    def forget(self) -> None:
        """Keeps nothing but what went wrong."""
        self.universe = Universe("", self.program, self.point)


def every_point(undisturbed: Trial) -> list[Trial]:
    """A trial for a death before and one for a death after each journal write; in some it dies once more soon after."""
    draw = random.Random(undisturbed.seed)
    return [
        Trial(undisturbed.program, Point(write, where, _soon_after(write, draw)), seed=undisturbed.seed)
        for write in range(1, undisturbed.writes + 1)
        for where in WHERES
    ]


def _soon_after(write: int, draw: random.Random) -> int:
    return write + draw.randint(1, 6) if draw.random() < AGAIN else 0


async def run(trials: Sequence[Trial], *, snapshot_every: int = 500) -> None:
    """All trials side by side: one host until each is dead or done, another one to the end, a third one to replay."""
    for number, trial in enumerate(trials):
        trial.universe = Universe(f"p{number}", trial.program, trial.point)
    universes = [trial.universe for trial in trials]
    app = f"w{next(_names)}"
    world = World(app, universes)
    made = system(app, world, snapshot_every=snapshot_every)
    for universe in universes:
        await world.mail.post("in", Address("performer", universe.key), encode(Perform()), world.expect(universe))
    await _live(made, world, universes)
    while any(universe.dead for universe in universes):
        world.mail.abandoned = True
        for universe in universes:
            universe.revive()
        await _live(made, world, universes)
    await judge(trials)


async def judge(trials: Sequence[Trial]) -> None:
    """Notes what went wrong in trials that are over, and what comes out otherwise when their logs are replayed."""
    for trial in trials:
        trial.writes = trial.universe.writes
        trial.wrong.extend(_faults(trial.universe))
    await _replay([trial for trial in trials if trial.universe.told["performer"].turns])


async def _live(made: System, bus: Bus, universes: Sequence[Universe]) -> None:
    """A host, until every universe is dead or has answered and all is quiet."""
    async with made.host(bus):
        try:
            async with asyncio.timeout(PATIENCE_S):
                for universe in universes:
                    await universe.over.wait()
        except TimeoutError:
            pass
        await asyncio.sleep(QUIET_S)


async def _replay(trials: Sequence[Trial]) -> None:
    """A third host, with the log as it was before the end and every tool blocked, comes to the same end."""
    replayed = [Universe(trial.universe.key, trial.program) for trial in trials]
    app = f"w{next(_names)}"
    world = World(app, replayed)
    for trial, universe in zip(trials, replayed, strict=True):
        address, sequence = Address("performer", universe.key), 0
        for data in before_the_end(trial.universe.records["performer"]):
            sequence = await world.log.append(address, data, rid="", after=sequence)
        universe.blocked = True
        await world.mail.post("in", address, encode(Perform()), world.expect(universe))
    await _live(system(app, world), world, replayed)
    for trial, universe in zip(trials, replayed, strict=True):
        trial.wrong.extend(f"replay: {each}" for each in (*universe.wrong, *universe.told["performer"].wrong))
        trial.wrong.extend(_differences(trial.universe, universe))


def _faults(universe: Universe) -> list[str]:
    """What is wrong with a universe after its last life."""
    faults = list(universe.wrong)
    for kind, told in universe.told.items():
        faults.extend(f"log of the {kind}: {each}" for each in told.wrong)
    turns = universe.told["performer"].turns
    if len(turns) != 1:
        faults.append(f"{len(turns)} turns are recorded")
    if universe.reply is None:
        faults.append("no answer")
    elif len(turns) == 1 and not _equal(outcome_of(universe.reply), turns[0].reply):
        faults.append(f"answered {outcome_of(universe.reply)}, recorded {turns[0].reply}")
    seen = (what for life in universe.observed for task in life.values() for what in task)
    faults.extend(f"seen by the program: {what}" for what in seen if "Drift " in what or "AmbiguousStep " in what)
    for first, second in itertools.combinations(universe.observed, 2):
        faults.extend(_disagreements(first, second, whole=second is universe.observed[-1]))
    return faults


def _disagreements(first: Observed, second: Observed, *, whole: bool) -> list[str]:
    """Where a life saw or decided otherwise than an earlier one, which had seen nothing but what was recorded.

    ``whole``: the later one lived to the end, so the handler has seen no less. A turn that had ended does not run again.
    """
    began_with = min((attempt for attempt, _ in second), default=POLICY.attempts_max)
    faults: list[str] = []
    for (attempt, task), seen in first.items():
        again = second.get((attempt, task), [])
        if attempt >= began_with and again[: len(seen)] != seen[: len(again)]:
            faults.append(f"task {task!r} saw {seen}, after the death {again}")
        elif attempt >= began_with and not task and whole and len(again) < len(seen):
            faults.append(f"the handler had seen {seen}, after the death only {again}")
    return faults


def _differences(universe: Universe, replayed: Universe) -> list[str]:
    turns, again = universe.told["performer"].turns, replayed.told["performer"].turns
    if len(again) != 1:
        return [f"replay: {len(again)} turns are recorded, answered {replayed.reply}"]
    pairs = [(encode(getattr(turns[0], field)), encode(getattr(again[0], field))) for field in ("reply", "events")]
    return [f"replay: {was.decode()} was recorded, now it is {now.decode()}" for was, now in pairs if was != now]


def _equal(one: Outcome, two: Outcome) -> bool:
    return encode(one.value) == encode(two.value) and (one.failure is None) == (two.failure is None)
