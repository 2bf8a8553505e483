"""The benchmark of supervision: ``restart``. Its floor is a task that dies, whose done callback starts the next one."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from typing import Any

import structlog

from regrow.bench.plan import Plan, compare
from regrow.bench.result import Measured
from regrow.supervisor import Backoff, ChildSpec, Intensity, Start, Supervisor

RESTARTS = 20_000

_ENDLESS = Intensity(1_000_000_000, per_s=1.0)


class Boom(Exception):
    """What the child dies of."""


async def restart(plan: Plan) -> list[Measured]:
    """``restart_p50_us``: from one start of a child that dies at once to its next; ``restarts_per_s``: all of them.

    Without backoff, with crash reports, which are coalesced and go where a program that logs to nobody sends them.
    """
    count = plan.count(RESTARTS)
    before = structlog.get_config()
    structlog.configure(
        processors=[structlog.processors.KeyValueRenderer()],
        logger_factory=structlog.ReturnLoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=False,
    )
    try:
        alone = await compare(
            plan,
            "restart",
            "restart_p50_us",
            "us",
            lambda: _between_us(_supervised, count),
            lambda: _between_us(_bare, count),
            better="lower",
        )
        all_of_them = await compare(
            plan,
            "restart",
            "restarts_per_s",
            "1/s",
            lambda: _per_s(_supervised, count),
            lambda: _per_s(_bare, count),
            better="higher",
        )
    finally:
        structlog.configure(**before)
    return [alone, all_of_them]


Restarting = Callable[[int], Awaitable[Sequence[float]]]
"""Lets a child die so often, and gives the time of each of its starts."""


async def _between_us(restarting: Restarting, count: int) -> Sequence[float]:
    times = await restarting(count)
    return [(after - before) * 1e6 for before, after in pairwise(times)]


async def _per_s(restarting: Restarting, count: int) -> float:
    times = await restarting(count)
    return count / (times[-1] - times[0])


async def _supervised(count: int) -> Sequence[float]:
    times: list[float] = []
    done = asyncio.Event()

    async def die(start: Start) -> None:
        times.append(time.perf_counter())
        start.ready()
        if len(times) > count:
            done.set()
            await asyncio.Event().wait()
        raise Boom

    child = ChildSpec(id="dying", run=die, backoff=Backoff(first_s=0.0))
    async with Supervisor("bench", children=[child], intensity=_ENDLESS):
        await done.wait()
    return times


async def _bare(count: int) -> Sequence[float]:
    times: list[float] = []
    done = asyncio.Event()
    tasks: list[asyncio.Task[Any]] = []

    async def die() -> None:
        times.append(time.perf_counter())
        if len(times) > count:
            done.set()
            return
        raise Boom

    def again(task: asyncio.Task[Any]) -> None:
        if task.exception() is not None:
            start()

    def start() -> None:
        tasks[:] = [asyncio.create_task(die())]
        tasks[0].add_done_callback(again)

    start()
    await done.wait()
    await tasks[0]
    return times
