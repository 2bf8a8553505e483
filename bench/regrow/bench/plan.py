"""How much is measured, and in which order: ours and the floor by turns, so that a noisy neighbour hits both."""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec

from regrow.bench.result import Better, Result, result

Measurement = Callable[[], Awaitable[float]]
"""Does the work once and says its value: a rate or a time."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """``repeat`` measurements of each side; ``scale`` multiplies the amount of work in each."""

    repeat: int = 5
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.repeat < 1 or self.scale <= 0:
            raise ValueError(f"repeat must be 1 or more and scale above 0, not {self.repeat} and {self.scale}")

    def count(self, full: int) -> int:
        """That many at scale 1, at least one."""
        return max(1, round(full * self.scale))


Bench = Callable[[Plan], Coroutine[Any, Any, list[Result]]]
"""A benchmark, and the metrics that it measures."""


async def compare(
    plan: Plan, bench: str, metric: str, unit: str, ours: Measurement, floor: Measurement, *, better: Better
) -> Result:
    """One metric: each side once to warm up, then both in each repeat, the order turned around every time."""
    values: list[float] = []
    floors: list[float] = []
    await ours()
    await floor()
    sides = [(ours, values), (floor, floors)]
    for _ in range(plan.repeat):
        for measure, found in sides:
            gc.collect()
            found.append(await measure())
        sides.reverse()
    return result(bench, metric, unit, values, floors, loop=loop_name(), better=better)


async def rate(work: Callable[[], Awaitable[object]], count: int) -> float:
    """How many of ``count`` a second, doing all of them once."""
    begun = time.perf_counter()
    await work()
    return count / (time.perf_counter() - begun)


def loop_name() -> str:
    """The package of the running event loop."""
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]
