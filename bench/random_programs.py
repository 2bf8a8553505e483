"""Random async programs die at every journal write, and have to come to what they would have come to without.

Each program (gathers, task groups, races, timeouts, shields, loops with equal arguments, exceptions, asks, threads, generators; a
seed grows it) runs as the handler of a durable actor. In memory it dies before and after each of its journal writes, another host
goes on (in a quarter of the trials that one dies soon as well), and a last one replays the log with every tool blocked: no recorded step may run again, what was seen and decided from
records must be seen and decided again, and the replay must come to the same reply and events without a step. With ``--process``
the points are drawn at random, the worker is a process on a real nats-server that kills itself with SIGKILL at its point, and
another process goes on.

    python bench/random_programs.py --programs 2000 --seed 1
    python bench/random_programs.py --process 1000 --seed 1
    python bench/random_programs.py --programs 20 --seed 1 --plant order      (keys, order, early: a bug that has to be found)
    python bench/random_programs.py --program 7 --write 5 --where before      (one point once more)

Prints one JSON line; exits 1 on a violation, which it tells with the seed, the point, and in memory the smallest program.
"""

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.property.growing import grown  # noqa: E402
from tests.property.hunt import Hunt, unlogged, virtual_loop  # noqa: E402
from tests.property.interpreter import Perform  # noqa: E402
from tests.property.life import KINDS, Order, live, read_witness  # noqa: E402
from tests.property.plants import PLANTS  # noqa: E402
from tests.property.shrink import shrunk  # noqa: E402
from tests.property.trial import Trial, judge, run  # noqa: E402
from tests.property.world import WHERES, Point, Universe  # noqa: E402

from regrow.bus import Address, Bus, EmbeddedServer, Request, encode, headers, open_bus  # noqa: E402
from regrow.bus.connection import ServerAddress, close, connect  # noqa: E402

PATIENCE_S = 60.0
"""For the answer of a life."""
TOLD_MAX = 5
"""Violations that are told in full."""
EACH_JOB = 25
"""Programs that a process is given at once."""
EACH_LANE = 250
"""Points for which one application is used: its streams cost time to make."""


def main() -> int:
    """Hunts and prints."""
    chosen = _arguments()
    began = time.monotonic()
    if chosen.program is not None:
        hunt = _one(chosen)
    elif chosen.process:
        hunt = asyncio.run(_in_processes(chosen.process, chosen.seed, chosen.lanes))
    else:
        hunt = _side_by_side(chosen)
    _tell(hunt.faults, None if chosen.process or not chosen.shrink else chosen.plant)
    document = {
        "v": 1,
        "programs": hunt.programs,
        "points": hunt.points,
        "steps": hunt.steps,
        "violations": len(hunt.faults),
        "seconds": round(time.monotonic() - began, 1),
        "seed": chosen.seed,
        "where": "processes" if chosen.process else "memory",
    }
    print(json.dumps(document))  # noqa: T201  # a script prints
    return 1 if hunt.faults else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--programs", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--process", type=int, default=0, metavar="POINTS")
    parser.add_argument("--lanes", type=int, default=os.cpu_count() or 1, help="how much is tried side by side")
    parser.add_argument("--plant", choices=["", *sorted(PLANTS)], default="")
    parser.add_argument("--program", type=int, metavar="SEED")
    parser.add_argument("--write", type=int, default=0)
    parser.add_argument("--where", choices=WHERES, default="before")
    parser.add_argument("--again", type=int, default=0, help="the write after which it dies once more")
    parser.add_argument("--shrink", action=argparse.BooleanOptionalAction, default=True)
    return parser.parse_args()


def _side_by_side(chosen: argparse.Namespace) -> Hunt:
    """Each program and all its points in one process, some programs each in several processes."""
    seeds = range(chosen.seed, chosen.seed + chosen.programs)
    some = [seeds[start : start + EACH_JOB] for start in range(0, len(seeds), EACH_JOB)]
    hunt = Hunt()
    with ProcessPoolExecutor(chosen.lanes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for done, found in enumerate(pool.map(_hunted, some, [chosen.plant] * len(some)), start=1):
            hunt.programs += found.programs
            hunt.points += found.points
            hunt.steps += found.steps
            hunt.faults.extend(each.trial() for each in found.faults)
            if done % 4 == 0:
                _say(f"{hunt.programs} programs, {hunt.points} points, {len(hunt.faults)} violations")
    return hunt


class _Fault(NamedTuple):
    """A violation as another process tells of it."""

    seed: int
    point: Point
    wrong: list[str]

    def trial(self) -> Trial:
        """The trial, to be looked at or repeated."""
        trial = Trial(grown(self.seed), self.point, seed=self.seed)
        trial.wrong.extend(self.wrong)
        return trial


class _Found(NamedTuple):
    programs: int
    points: int
    steps: int
    faults: list[_Fault]


def _hunted(seeds: range, plant: str) -> _Found:
    with PLANTS[plant]() if plant else contextlib.nullcontext():
        hunt = Hunt().through(seeds)
    faults = [_Fault(trial.seed, trial.point, trial.wrong) for trial in hunt.faults]
    return _Found(hunt.programs, hunt.points, hunt.steps, faults)


def _one(chosen: argparse.Namespace) -> Hunt:
    """One point of one program, in memory."""
    trial = Trial(grown(chosen.program), Point(chosen.write, chosen.where, chosen.again), seed=chosen.program)
    with unlogged(), asyncio.Runner(loop_factory=virtual_loop) as runner:
        runner.run(run([trial]))
    hunt = Hunt()
    hunt.add([trial])
    return hunt


def _tell(faults: list[Trial], plant: str | None) -> None:
    """The first violations in full, and the smallest program that still shows the first one; without it where ``plant`` is None."""
    for trial in faults[:TOLD_MAX]:
        _say(str(trial))
        for what in trial.wrong[:3]:
            _say(f"  {what[:600]}")
    if faults and plant is not None:
        planted = PLANTS[plant]() if plant else contextlib.nullcontext()
        with planted, unlogged(), asyncio.Runner(loop_factory=virtual_loop) as runner:
            least = runner.run(shrunk(faults[0]))
        _say(f"the smallest found, death {least.point.where} write {least.point.write}: {least.program}")
        for what in least.wrong[:3]:
            _say(f"  {what[:600]}")


def _say(text: str) -> None:
    """A line for the person who watches."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201  # a script prints


async def _in_processes(points: int, seed: int, lanes: int) -> Hunt:
    """So many points, each of another program, in lanes side by side."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    spawn = multiprocessing.get_context("forkserver")
    spawn.set_forkserver_preload(["tests.property.life"])
    hunt, draw, seeds = Hunt(), random.Random(seed), iter(range(seed, seed + 100 * points))
    with tempfile.TemporaryDirectory(prefix="regrow-random-") as folder:
        async with EmbeddedServer(Path(folder, "store"), durability="process") as server:

            async def lane(number: int) -> None:
                while hunt.points < points:
                    async with contextlib.AsyncExitStack() as stack:
                        client = await connect(ServerAddress(url=server.url), name="random-programs")
                        stack.push_async_callback(close, client)
                        app = f"r{number}-{hunt.points}"
                        bus = await stack.enter_async_context(open_bus(client, app, create=True))
                        witness = Path(folder, app)
                        for _ in range(EACH_LANE):
                            if hunt.points >= points:
                                break
                            await _Point(bus, server.url, witness, next(seeds), draw, hunt).die_and_go_on()

            with unlogged():
                await asyncio.gather(*(lane(number) for number in range(lanes)))
    return hunt


class _Point:
    """A program that dies in a process of its own and goes on in another one."""

    def __init__(self, bus: Bus, url: str, witness: Path, seed: int, draw: random.Random, hunt: Hunt) -> None:
        self._bus = bus
        self._url = url
        self._seed = seed
        self._hunt = hunt
        self._draw = draw
        self._key = f"{seed}-p"
        self._witness = witness.with_name(f"{witness.name}-{seed}")
        self._replied: asyncio.Future[Request] = asyncio.get_running_loop().create_future()

    async def die_and_go_on(self) -> None:
        """Counts where the program died and has been recovered; one that ended before its point does not count."""
        program = grown(self._seed, real_clock=True)
        undisturbed = Trial(program)
        await asyncio.to_thread(_in_memory, undisturbed)
        point = Point(self._draw.randint(1, max(undisturbed.writes, 1)), self._draw.choice(WHERES))
        trial = Trial(program, point, seed=self._seed)
        trial.universe = Universe(self._key, program, point)
        async with self._bus.expect_reply(self._hear) as subject:
            given = {headers.ID: self._key, headers.REPLY: subject}
            await self._bus.mail.post("in", Address("performer", self._key), encode(Perform()), given)
            if not await self._life(1, point):
                return
            await self._life(2, Point())
        await self._judge(trial)

    def _hear(self, reply: Request) -> None:
        if not self._replied.done():
            self._replied.set_result(reply)

    async def _life(self, number: int, point: Point) -> bool:
        """A process until it has killed itself, or answered; whether it has killed itself."""
        order = Order(self._url, self._bus.subjects.app, self._key, number, point, self._witness)
        process = multiprocessing.get_context("forkserver").Process(target=live, args=(order,), daemon=True)
        await asyncio.to_thread(process.start)
        ended = asyncio.create_task(_ended(process))
        try:
            await asyncio.wait((ended, self._replied), timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
            if point.write and not ended.done():  # its last writes may come after its answer
                await asyncio.wait((ended,), timeout=0.5)
            return ended.done()
        finally:
            process.kill()
            await ended
            process.close()

    async def _judge(self, trial: Trial) -> None:
        universe = trial.universe
        universe.died = True
        universe.reply = self._replied.result() if self._replied.done() else None
        read_witness(universe, self._witness)
        for kind in KINDS:
            for stored in await self._bus.log.read(Address(kind, self._key)):
                universe.add(kind, stored.data)
        await asyncio.to_thread(_judge_in_memory, trial)
        self._hunt.add([trial])
        self._hunt.programs += 1
        if trial.wrong:
            _say(f"{trial}: {trial.wrong[0][:600]}")
        if self._hunt.points % 50 == 0:
            _say(f"{self._hunt.points} points, {len(self._hunt.faults)} violations")


async def _ended(process: ForkServerProcess) -> None:
    """Returns when the process has ended."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(process.sentinel, done.set)
    try:
        await done.wait()
    finally:
        loop.remove_reader(process.sentinel)


def _in_memory(undisturbed: Trial) -> None:
    with asyncio.Runner(loop_factory=virtual_loop) as runner:
        runner.run(run([undisturbed]))


def _judge_in_memory(trial: Trial) -> None:
    with asyncio.Runner(loop_factory=virtual_loop) as runner:
        runner.run(judge([trial]))


if __name__ == "__main__":
    sys.exit(main())
