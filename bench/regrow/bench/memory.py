"""The benchmarks of local actors: ``tell`` and ``ask``. Their floor is ``HandOver``."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence

from regrow.actors import LocalSystem
from regrow.bench.actors import Add, LocalCounter, PlainCounter
from regrow.bench.hand_over import HandOver
from regrow.bench.plan import Plan, compare, rate
from regrow.bench.result import Result

BURST = 1_000
"""Tells before the sender waits for the last one: as many as a mailbox holds when nothing else is said."""
TELLS = 200_000
ASKS = 10_000
ASKERS = 100

_ONE = Add(amount=1)


async def tell(plan: Plan) -> list[Result]:
    """``tell_per_s``: messages told to one actor in bursts, until all are handled."""
    bursts = plan.count(TELLS // BURST)

    async def flood(send: Callable[[Add], None], ask: Callable[[Add], Awaitable[int]]) -> None:
        for _ in range(bursts):
            for _ in range(BURST - 1):
                send(_ONE)
            await ask(_ONE)

    async with LocalSystem("bench") as system, asyncio.TaskGroup() as tasks:
        actor, plain = system.spawn(LocalCounter, "a"), HandOver(PlainCounter().add)
        consumer = tasks.create_task(plain.run())
        found = await compare(
            plan,
            "tell",
            "tell_per_s",
            "1/s",
            lambda: rate(lambda: flood(actor.tell, actor.ask), bursts * BURST),
            lambda: rate(lambda: flood(plain.tell, plain.ask), bursts * BURST),
            better="higher",
        )
        consumer.cancel()
    return [found]


async def ask(plan: Plan) -> list[Result]:
    """``ask_p50_us``: one ask after the other; ``asks_per_s``: a hundred askers at once, each with an actor of its own."""
    count = plan.count(ASKS)
    each = plan.count(ASKS * 3 // ASKERS)
    async with LocalSystem("bench") as system, asyncio.TaskGroup() as tasks:
        actors = [system.spawn(LocalCounter, str(number)).ask for number in range(ASKERS)]
        plain = [HandOver(PlainCounter().add) for _ in range(ASKERS)]
        consumers = [tasks.create_task(one.run()) for one in plain]
        plain_asks = [one.ask for one in plain]
        alone = await compare(
            plan,
            "ask",
            "ask_p50_us",
            "us",
            lambda: _median_us(actors[0], count),
            lambda: _median_us(plain_asks[0], count),
            better="lower",
        )
        together = await compare(
            plan,
            "ask",
            "asks_per_s",
            "1/s",
            lambda: rate(lambda: _at_once(actors, each), each * ASKERS),
            lambda: rate(lambda: _at_once(plain_asks, each), each * ASKERS),
            better="higher",
        )
        for consumer in consumers:
            consumer.cancel()
    return [alone, together]


Ask = Callable[[Add], Awaitable[int]]


async def _median_us(ask: Ask, count: int) -> float:
    times: list[float] = []
    for _ in range(count):
        begun = time.perf_counter()
        await ask(_ONE)
        times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1e6


async def _at_once(asks: Sequence[Ask], each: int) -> None:
    async def keep_asking(ask: Ask) -> None:
        for _ in range(each):
            await ask(_ONE)

    async with asyncio.TaskGroup() as askers:
        for one in asks:
            askers.create_task(keep_asking(one))
