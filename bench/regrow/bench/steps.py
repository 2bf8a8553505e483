"""The benchmark of steps. Its floor appends the very records that the actors wrote."""

import asyncio
from collections import defaultdict

from regrow.actors import Kind, Node, System
from regrow.bench.actors import Work, Worker
from regrow.bench.plan import Plan, compare, rate
from regrow.bench.result import Measured
from regrow.bench.stage import APP, Stage, stage
from regrow.bus import Address
from regrow.bus.server import Durability

WORKERS = 2_000
"""Handlers that run at once."""
STEPS: dict[Durability, int] = {"process": 20, "disk": 5}
"""Steps of one turn of each worker."""
SUFFIXES: dict[Durability, str] = {"process": "", "disk": "_fsync"}
PATIENCE_S = 120.0


async def steps(plan: Plan) -> list[Measured]:
    """``steps_per_s``, ``steps_fsync_per_s``: workers at once, each in one turn of trivial steps, one after the other; the floor
    appends the records of such turns, those that begin and end it among them, as many at once."""
    return [await _steps(plan, durability) for durability in STEPS]


async def _steps(plan: Plan, durability: Durability) -> Measured:
    work, keys = Work(steps=STEPS[durability]), [str(number) for number in range(plan.count(WORKERS))]
    kind = Kind(actor=Worker, active_max=WORKERS)
    async with stage(durability) as here, System(APP, [kind]).host(here.bus) as node:
        first = node.ref(Worker, "first")
        await first.ask(work)
        written = [stored.data for stored in await here.bus.log.read(first.address)]
        last: defaultdict[str, int] = defaultdict(int)

        async def ours() -> None:
            async with asyncio.TaskGroup() as tasks:
                for key in keys:
                    tasks.create_task(_work(node, key, work))

        async def floor() -> None:
            async with asyncio.TaskGroup() as tasks:
                for key in keys:
                    tasks.create_task(_append(here, key, written, last))

        count = len(keys) * work.steps
        return await compare(
            plan,
            "steps",
            f"steps{SUFFIXES[durability]}_per_s",
            "1/s",
            lambda: rate(ours, count),
            lambda: rate(floor, count),
            better="higher",
        )


async def _work(node: Node, key: str, work: Work) -> None:
    done: int = await node.ref(Worker, key).ask(work, timeout_s=PATIENCE_S)
    assert done == work.steps


async def _append(here: Stage, key: str, written: list[bytes], last: defaultdict[str, int]) -> None:
    subject = here.bus.subjects.log(Address("bench_raw", key))
    for data in written:
        last[key] = await here.raw.append(subject, data, last[key])
