"""Running benchmarks by name, each in an event loop of its own, so that none inherits anything from the one before."""

import asyncio
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from regrow.actors.memory import collect_less
from regrow.bench.crowd import fanout, ring, spawn
from regrow.bench.durable import turn
from regrow.bench.log import append, recover
from regrow.bench.memory import ask, tell
from regrow.bench.plan import Bench, Plan
from regrow.bench.restart import restart
from regrow.bench.result import Measured
from regrow.bench.steps import steps
from regrow.bench.timers import timers

Loop = Literal["asyncio", "uvloop"]

BENCHES: Mapping[str, Bench] = {
    "tell": tell,
    "ask": ask,
    "fanout": fanout,
    "ring": ring,
    "spawn": spawn,
    "restart": restart,
    "append": append,
    "turn": turn,
    "steps": steps,
    "recover": recover,
    "timers": timers,
}


class UnknownBench(ValueError):
    """There is no benchmark of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no benchmark is called {name!r}; there are {', '.join(BENCHES)}")
        self.name = name


class LoopMissing(RuntimeError):
    """The event loop that was asked for is not installed."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} is not installed; get it with: pip install 'regrow[fast]', or measure on asyncio's loop"
        )
        self.name = name


def bench_names() -> tuple[str, ...]:
    """The benchmarks there are, in the order in which all of them are run."""
    return tuple(BENCHES)


def run_benchmarks(
    names: Sequence[str],
    *,
    repeat: int = 5,
    scale: float = 1.0,
    loop: Loop = "asyncio",
    own: Mapping[str, Bench] | None = None,
    on_result: Callable[[Measured], None],
) -> None:
    """Runs the benchmarks and gives the results of each to the callback as soon as it is done.

    ``repeat`` measurements of each metric, after one to warm up; ``scale`` multiplies the work of each, where 1 takes about
    a second for all repeats of ``tell`` and at most half a minute for any benchmark. ``own``: benchmarks beside those of regrow.
    Raises ``UnknownBench`` and ``LoopMissing`` before any is run.
    """
    plan, known = Plan(repeat=repeat, scale=scale), {**BENCHES, **(own or {})}
    for name in names:
        if name not in known:
            raise UnknownBench(name)
    new_loop = loop_factory(loop)
    collect_less()
    for name in names:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            for measured in runner.run(known[name](plan)):
                on_result(measured)


def loop_factory(loop: Loop) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes such an event loop, None for asyncio's own choice. Raises ``LoopMissing``."""
    if loop == "asyncio":
        return None
    try:
        factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module(loop).new_event_loop
    except ModuleNotFoundError:
        raise LoopMissing(loop) from None
    return factory
