"""How much is measured, and in which order: ours and the floor by turns, so that a noisy neighbour hits both."""

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import msgspec

from regrow.bench.result import Better, Measured, result

Measurement = Callable[[], Awaitable[float | Sequence[float]]]
"""Does the work once and says its value, a rate or a time, or the times of its single calls, whose median is the value."""


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


Bench = Callable[[Plan], Coroutine[Any, Any, list[Measured]]]
"""A benchmark, and the metrics that it measures."""


class _Side:
    """What was measured of one of the two."""

    def __init__(self, measure: Measurement) -> None:
        self.measure = measure
        self.values: list[float] = []
        self.times: list[float] = []

    async def once(self) -> None:
        """Measures once more."""
        gc.collect()
        found = await self.measure()
        if isinstance(found, Sequence):
            self.times.extend(found)
            found = statistics.median(found)
        self.values.append(found)


async def compare(
    plan: Plan, bench: str, metric: str, unit: str, ours: Measurement, floor: Measurement, *, better: Better
) -> Measured:
    """One metric: each side once to warm up, then both in each repeat, the order turned around every time."""
    mine, least = _Side(ours), _Side(floor)
    await ours()
    await floor()
    sides = [mine, least]
    for _ in range(plan.repeat):
        for side in sides:
            await side.once()
        sides.reverse()
    return Measured(
        line=result(bench, metric, unit, mine.values, least.values, loop=loop_name(), better=better),
        ours=tuple(mine.values),
        floors=tuple(least.values),
        better=better,
        times=tuple(mine.times),
        floor_times=tuple(least.times),
    )


async def times_us(act: Callable[[], Awaitable[object]], count: int) -> list[float]:
    """How long it takes in microseconds, done so many times, one after the other."""
    times: list[float] = []
    for _ in range(count):
        begun = time.perf_counter()
        await act()
        times.append((time.perf_counter() - begun) * 1e6)
    return times


async def rate(work: Callable[[], Awaitable[object]], count: int) -> float:
    """How many of ``count`` a second, doing all of them once."""
    begun = time.perf_counter()
    await work()
    return count / (time.perf_counter() - begun)


def loop_name() -> str:
    """The package of the running event loop."""
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]
