"""The benchmarks of durable actors: ``turn`` and ``steps``. Their floor appends the very records that the actors wrote."""

import asyncio
import statistics
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable

from regrow.actors import Kind, Node, Ref, System
from regrow.bench.actors import Add, Counter, Work, Worker
from regrow.bench.plan import Plan, compare, rate
from regrow.bench.result import Result
from regrow.bench.stage import APP, Stage, stage
from regrow.bus import Address, encode
from regrow.bus.server import Durability

TURNS: dict[Durability, int] = {"process": 200, "disk": 60}
SUFFIXES: dict[Durability, str] = {"process": "_us", "disk": "_fsync_us"}
WORKERS = 100
STEPS = 10
"""Steps of one turn of each worker."""

Act = Callable[[], Awaitable[None]]

_ONE = Add(amount=1)
_ONE_JSON = encode(_ONE)


async def turn(plan: Plan) -> list[Result]:
    """``turn_us``, ``turn_fsync_us``: asks of one durable actor from its own process, one after the other.
    ``turn_remote_us``, ``turn_remote_fsync_us``: such asks from another connection, as any NATS client sends them.

    The floor is one append each, of the record that such a turn writes.
    """
    found: list[Result] = []
    for durability, suffix in SUFFIXES.items():
        count = plan.count(TURNS[durability])
        async with stage(durability) as here, System(APP, [Kind(actor=Counter)]).host(here.bus) as node:
            inside = node.ref(Counter, "inside")
            outside = here.bus.subjects.ask(Address(Counter.__regrow__.kind, "outside"))
            await inside.ask(_ONE)
            await here.raw.request(outside, _ONE_JSON)

            async def ask(inside: Ref = inside) -> None:
                await inside.ask(_ONE)

            async def request(here: Stage = here, outside: str = outside) -> None:
                assert (await here.raw.request(outside, _ONE_JSON)).isdigit()

            ways: list[tuple[str, str, Act]] = [("turn", "inside", ask), ("turn_remote", "outside", request)]
            for way, key, act in ways:
                ours, floor = _median(act, count), _median(await _appends(here, key), count)
                found.append(await compare(plan, "turn", f"{way}{suffix}", "us", ours, floor, better="lower"))
    return found


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


def _median(act: Act, count: int) -> Callable[[], Awaitable[float]]:
    """The median time in microseconds of doing it so many times, one after the other."""

    async def measure() -> float:
        times: list[float] = []
        for _ in range(count):
            begun = time.perf_counter()
            await act()
            times.append(time.perf_counter() - begun)
        return statistics.median(times) * 1e6

    return measure


async def _appends(here: Stage, like: str) -> Act:
    """One raw append of the record that the last turn of this counter wrote, again and again to one log."""
    data = (await _records(here, Address(Counter.__regrow__.kind, like)))[-1]
    subject = here.bus.subjects.log(Address("bench_raw", like))
    last = 0

    async def append() -> None:
        nonlocal last
        last = await here.raw.append(subject, data, last)

    return append


async def _work(node: Node, keys: list[str]) -> None:
    async def work(key: str) -> None:
        done: int = await node.ref(Worker, key).ask(Work(steps=STEPS))
        assert done == STEPS

    async with asyncio.TaskGroup() as tasks:
        for key in keys:
            tasks.create_task(work(key))


async def _records(here: Stage, address: Address) -> list[bytes]:
    return [stored.data for stored in await here.bus.log.read(address)]
