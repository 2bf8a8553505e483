"""Running benchmarks by name, each in an event loop of its own, so that none inherits anything from the one before."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from regrow.bench.durable import steps, turn
from regrow.bench.log import append, recover
from regrow.bench.memory import ask, tell
from regrow.bench.plan import Bench, Plan
from regrow.bench.result import Result

BENCHES: Mapping[str, Bench] = {
    "tell": tell,
    "ask": ask,
    "append": append,
    "turn": turn,
    "steps": steps,
    "recover": recover,
}


class UnknownBench(ValueError):
    """There is no benchmark of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no benchmark is called {name!r}; there are {', '.join(BENCHES)}")
        self.name = name


def bench_names() -> tuple[str, ...]:
    """The benchmarks there are, in the order in which all of them are run."""
    return tuple(BENCHES)


def run_benchmarks(
    names: Sequence[str], *, repeat: int = 5, scale: float = 1.0, on_result: Callable[[Result], None]
) -> None:
    """Runs the benchmarks and gives the results of each to the callback as soon as it is done.

    ``repeat`` measurements of each metric, after one to warm up; ``scale`` multiplies the work of each, where 1 takes about
    a second for all repeats of ``tell`` and at most six for any benchmark. Raises ``UnknownBench`` before any is run.
    """
    plan = Plan(repeat=repeat, scale=scale)
    for name in names:
        if name not in BENCHES:
            raise UnknownBench(name)
    for name in names:
        for result in asyncio.run(BENCHES[name](plan)):
            on_result(result)
