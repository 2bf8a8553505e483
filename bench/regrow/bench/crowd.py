"""The benchmarks of many local actors: ``fanout``, ``ring`` and ``spawn``. Their floor is ``HandOver``, one for each actor."""

import asyncio
import gc
import time
import tracemalloc
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from regrow.actors import LocalSystem
from regrow.bench.actors import (
    Add,
    Goer,
    Latch,
    LocalCounter,
    Pass,
    PlainCounter,
    PlainGoer,
    PlainRelay,
    Relay,
    Through,
    Token,
)
from regrow.bench.hand_over import HandOver
from regrow.bench.plan import Plan, compare, rate
from regrow.bench.result import Measured

RECEIVERS = 1_000
ROUNDS = 100
RING = 1_000
HOPS = 20_000
SPAWNED = 20_000

_ONE = Add(amount=1)

Tell = Callable[[Through], None]


async def fanout(plan: Plan) -> list[Measured]:
    """``fanout_per_s``: one sender tells 1,000 actors a message each, and again when all have handled it, 100 times."""
    return [await fan_out(plan, RECEIVERS)]


async def fan_out(plan: Plan, receivers: int) -> Measured:
    """The same for so many actors, with as many messages in all."""
    many = plan.count(receivers)
    rounds = plan.count(ROUNDS * RECEIVERS // many)

    async def spread(tells: Sequence[Tell]) -> None:
        for _ in range(rounds):
            latch = Latch(many)
            through = Through(latch=latch)
            for tell in tells:
                tell(through)
            await latch.opened

    async with LocalSystem("bench") as system, asyncio.TaskGroup() as tasks:
        ours = [system.spawn(Goer, str(number)).tell for number in range(many)]
        plain = [HandOver(PlainGoer().go) for _ in range(many)]
        consumers = [tasks.create_task(each.run()) for each in plain]
        theirs = [each.tell for each in plain]
        found = await compare(
            plan,
            "fanout",
            "fanout_per_s",
            "1/s",
            lambda: rate(lambda: spread(ours), rounds * many),
            lambda: rate(lambda: spread(theirs), rounds * many),
            better="higher",
        )
        for consumer in consumers:
            consumer.cancel()
    return found


async def ring(plan: Plan) -> list[Measured]:
    """``hop_us``: a token goes round a ring of 1,000 actors, each of which tells the next; the time of one hop."""
    many, hops = plan.count(RING), plan.count(HOPS)
    async with LocalSystem("bench") as system, asyncio.TaskGroup() as tasks:
        actors = [system.spawn(Relay, str(number)) for number in range(many)]
        relays = [PlainRelay() for _ in range(many)]
        plain = [HandOver(each.handle) for each in relays]
        consumers = [tasks.create_task(each.run()) for each in plain]
        for number, actor in enumerate(actors):
            await actor.ask(Pass(to=actors[(number + 1) % many].tell))
            relays[number].to = plain[(number + 1) % many].tell
        found = await compare(
            plan,
            "ring",
            "hop_us",
            "us",
            lambda: _hop_us(actors[0].tell, hops),
            lambda: _hop_us(plain[0].tell, hops),
            better="lower",
        )
        for consumer in consumers:
            consumer.cancel()
    return [found]


async def _hop_us(tell: Callable[[Token], None], hops: int) -> float:
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    begun = time.perf_counter()
    tell(Token(left=hops, ended=ended))
    await ended
    return (time.perf_counter() - begun) / (hops + 1) * 1e6


Crowd = Callable[[int], AbstractAsyncContextManager[None]]
"""So many of them, each of which has answered a message, until the end of the block."""


async def spawn(plan: Plan) -> list[Measured]:
    """``spawn_per_s``: actors that are made and answer a message, named and supervised; ``idle_bytes``: what such a one keeps,
    its state with it."""
    many = plan.count(SPAWNED)
    speed = await compare(
        plan,
        "spawn",
        "spawn_per_s",
        "1/s",
        lambda: _spawn_rate(actors, many),
        lambda: _spawn_rate(consumers, many),
        better="higher",
    )
    room = await compare(
        plan,
        "spawn",
        "idle_bytes",
        "bytes",
        lambda: _idle_bytes(actors, many),
        lambda: _idle_bytes(consumers, many),
        better="lower",
    )
    return [speed, room]


@asynccontextmanager
async def actors(many: int) -> AsyncGenerator[None]:
    """Local actors, whose references nobody keeps: they are found by their names."""
    async with LocalSystem("bench") as system:
        for number in range(many):
            await system.spawn(LocalCounter, str(number)).ask(_ONE)
        yield


@asynccontextmanager
async def consumers(many: int) -> AsyncGenerator[None]:
    """Consumers by hand, by number."""
    known: dict[int, HandOver[Add, int]] = {}
    async with asyncio.TaskGroup() as group:
        tasks: list[asyncio.Task[None]] = []
        for number in range(many):
            known[number] = one = HandOver(PlainCounter().add)
            tasks.append(group.create_task(one.run()))
            await one.ask(_ONE)
        yield
        for task in tasks:
            task.cancel()


async def _spawn_rate(crowd: Crowd, many: int) -> float:
    begun = time.perf_counter()
    async with crowd(many):
        return many / (time.perf_counter() - begun)


async def _idle_bytes(crowd: Crowd, many: int) -> float:
    gc.collect()
    tracemalloc.start(1)
    try:
        before = tracemalloc.get_traced_memory()[0]
        async with crowd(many):
            gc.collect()
            return (tracemalloc.get_traced_memory()[0] - before) / many
    finally:
        tracemalloc.stop()
