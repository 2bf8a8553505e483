"""The benchmarks of local actors: ``tell`` and ``ask``. Their floor is ``HandOver``."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from regrow.actors import LocalSystem
from regrow.bench.actors import Add, LocalCounter, PlainCounter
from regrow.bench.hand_over import HandOver
from regrow.bench.plan import Plan, compare, rate, times_us
from regrow.bench.result import Measured

BURST = 1_000
"""Tells before the sender waits for the last one: as many as a mailbox holds when nothing else is said."""
TELLS = 200_000
ASKS = 10_000
ASKERS = 100

_ONE = Add(amount=1)


async def tell(plan: Plan) -> list[Measured]:
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


async def ask(plan: Plan) -> list[Measured]:
    """``ask_p50_us``: one ask after the other; ``asks_per_s``: a hundred askers at once, each with an actor of its own."""
    count = plan.count(ASKS)
    async with LocalSystem("bench") as system, asyncio.TaskGroup() as tasks:
        actor, plain = system.spawn(LocalCounter, "a"), HandOver(PlainCounter().add)
        consumer = tasks.create_task(plain.run())
        alone = await compare(
            plan,
            "ask",
            "ask_p50_us",
            "us",
            lambda: times_us(partial(actor.ask, _ONE), count),
            lambda: times_us(partial(plain.ask, _ONE), count),
            better="lower",
        )
        consumer.cancel()
    return [alone, await asks_at_once(plan, ASKERS)]


async def asks_at_once(plan: Plan, askers: int) -> Measured:
    """``asks_per_s`` of so many askers, with as many asks in all."""
    each = plan.count(max(1, 3 * ASKS // askers))
    async with LocalSystem("bench") as system, asyncio.TaskGroup() as tasks:
        actors = [system.spawn(LocalCounter, str(number)).ask for number in range(askers)]
        plain = [HandOver(PlainCounter().add) for _ in range(askers)]
        consumers = [tasks.create_task(one.run()) for one in plain]
        plain_asks = [one.ask for one in plain]
        found = await compare(
            plan,
            "ask",
            "asks_per_s",
            "1/s",
            lambda: rate(lambda: _at_once(actors, each), each * askers),
            lambda: rate(lambda: _at_once(plain_asks, each), each * askers),
            better="higher",
        )
        for consumer in consumers:
            consumer.cancel()
    return found


Ask = Callable[[Add], Awaitable[int]]


async def _at_once(asks: Sequence[Ask], each: int) -> None:
    async def keep_asking(ask: Ask) -> None:
        for _ in range(each):
            await ask(_ONE)

    async with asyncio.TaskGroup() as askers:
        for one in asks:
            askers.create_task(keep_asking(one))
