"""Scaling curves: a metric beside its floor, as there are more actors, more askers, longer logs, larger records."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from regrow.actors.memory import collect_less
from regrow.bench.crowd import fan_out
from regrow.bench.log import append_size, recover_length
from regrow.bench.memory import asks_at_once
from regrow.bench.plan import Plan
from regrow.bench.result import Measured
from regrow.bench.run import Loop, loop_factory

REPEAT_MAX = 3
"""Measurements of each point: a curve has many."""


class Scaling(msgspec.Struct, frozen=True, kw_only=True):
    """What is varied, and how far."""

    name: str
    along: str
    """What the horizontal axis says."""
    sizes: tuple[int, ...]
    measure: Callable[[Plan, int], Awaitable[Measured]]


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """The points that were measured."""

    name: str
    along: str
    points: tuple[tuple[int, Measured], ...]

    @property
    def metric(self) -> str:
        return self.points[0][1].line.metric

    @property
    def unit(self) -> str:
        return self.points[0][1].line.unit


SCALINGS: Mapping[str, Scaling] = {
    "fanout": Scaling(name="actors", along="actors told", sizes=(1, 10, 100, 1_000, 10_000), measure=fan_out),
    "ask": Scaling(name="concurrency", along="askers at once", sizes=(1, 10, 100, 1_000), measure=asks_at_once),
    "append": Scaling(
        name="payload", along="bytes more in each record", sizes=(100, 1_000, 10_000, 100_000), measure=append_size
    ),
    "recover": Scaling(
        name="log-length", along="records in each log", sizes=(10, 100, 1_000, 10_000), measure=recover_length
    ),
}
"""By the benchmark whose metric is varied."""


def measure_curves(
    names: Sequence[str],
    *,
    repeat: int,
    scale: float = 1.0,
    loop: Loop = "asyncio",
    on_point: Callable[[str, int, Measured], None],
) -> list[Curve]:
    """The curves of those benchmarks that have one, each point told as soon as it is measured."""
    plan = Plan(repeat=min(repeat, REPEAT_MAX), scale=scale)
    new_loop = loop_factory(loop)
    collect_less()
    curves: list[Curve] = []
    for scaling in (SCALINGS[name] for name in names if name in SCALINGS):
        points: list[tuple[int, Measured]] = []
        for size in scaling.sizes:
            with asyncio.Runner(loop_factory=new_loop) as runner:
                point = runner.run(_point(scaling, plan, size))
            on_point(scaling.name, size, point)
            points.append((size, point))
        curves.append(Curve(name=scaling.name, along=scaling.along, points=tuple(points)))
    return curves


async def _point(scaling: Scaling, plan: Plan, size: int) -> Measured:
    return await scaling.measure(plan, size)
