"""The benchmarks of durable actors: ``turn`` and ``steps``. Their floor appends the very records that the actors wrote."""

import asyncio
import statistics
import time
from collections import defaultdict

from regrow.actors import Kind, Node, System
from regrow.bench.actors import Add, Counter, Work, Worker
from regrow.bench.plan import Plan, compare, rate
from regrow.bench.result import Result
from regrow.bench.stage import APP, Stage, stage
from regrow.bus import Address

TURNS = 200
WORKERS = 100
STEPS = 10
"""Steps of one turn of each worker."""


async def turn(plan: Plan) -> list[Result]:
    """``turn_us``: asks of one durable actor from its own process, one after the other; the floor is one append each."""
    count = plan.count(TURNS)
    async with stage("process") as here, System(APP, [Kind(actor=Counter)]).host(here.bus) as node:
        counter = node.ref(Counter, "a")
        await counter.ask(Add(amount=1))
        (data,) = await _records(here, counter.address)
        subject = here.bus.subjects.log(Address("bench_raw", "a"))
        last = 0

        async def ours() -> float:
            times: list[float] = []
            for _ in range(count):
                begun = time.perf_counter()
                await counter.ask(Add(amount=1))
                times.append(time.perf_counter() - begun)
            return statistics.median(times) * 1e6

        async def floor() -> float:
            nonlocal last
            times: list[float] = []
            for _ in range(count):
                begun = time.perf_counter()
                last = await here.raw.append(subject, data, last)
                times.append(time.perf_counter() - begun)
            return statistics.median(times) * 1e6

        found = await compare(plan, "turn", "turn_us", "us", ours, floor, better="lower")
    return [found]


async def steps(plan: Plan) -> list[Result]:
    """``steps_per_s``: workers at once, each in one turn of ten trivial steps; the floor appends the records of such turns,
    those that begin and end it among them."""
    keys = [str(number) for number in range(plan.count(WORKERS))]
    async with stage("process") as here, System(APP, [Kind(actor=Worker)]).host(here.bus) as node:
        first = node.ref(Worker, "first")
        await first.ask(Work(steps=STEPS))
        written = await _records(here, first.address)
        last: defaultdict[str, int] = defaultdict(int)

        async def floor(key: str) -> None:
            subject = here.bus.subjects.log(Address("bench_raw", key))
            for data in written:
                last[key] = await here.raw.append(subject, data, last[key])

        async def floors() -> None:
            async with asyncio.TaskGroup() as tasks:
                for key in keys:
                    tasks.create_task(floor(key))

        count = len(keys) * STEPS
        found = await compare(
            plan,
            "steps",
            "steps_per_s",
            "1/s",
            lambda: rate(lambda: _work(node, keys), count),
            lambda: rate(floors, count),
            better="higher",
        )
    return [found]


async def _work(node: Node, keys: list[str]) -> None:
    async def work(key: str) -> None:
        done: int = await node.ref(Worker, key).ask(Work(steps=STEPS))
        assert done == STEPS

    async with asyncio.TaskGroup() as tasks:
        for key in keys:
            tasks.create_task(work(key))


async def _records(here: Stage, address: Address) -> list[bytes]:
    return [stored.data for stored in await here.bus.log.read(address)]
