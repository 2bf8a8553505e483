"""A flooded local actor and its neighbours: the p99 of their asks beside it, and without it.

One sender tells one actor as much as its mailbox takes, again and again, while others ask their own actors. Asked are actors
whose handler never awaits and actors whose handler does, by one asker, whose ask is all that goes on, and by a hundred at once.
The floor is the same without the flood, by turns. A ratio is the p99 with the flood over the one without. Exits 1 when a ratio is
above 3 where the neighbours are at work themselves (a hundred at once); a lone ask is printed beside it, for there a slice of the
flooded actor's time (0.1 ms) is many times the ask.

    python bench/fair_neighbours.py
    python bench/fair_neighbours.py --asks 2000 --json

It takes about ten seconds.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from regrow.actors import LocalActor, LocalSystem, command
from regrow.actors.logs import log_to_stderr
from regrow.bench.actors import Add, LocalCounter
from regrow.bench.document import options, printed
from regrow.bench.run import loop_factory
from regrow.bench.sample import Compared, compared, quantile

RATIO_MAX = 3.0
ASKERS = 100
MAILBOX_MAX = 1_000

_ONE = Add(amount=1)


class Waiting(LocalActor):
    """Counts, and gives the loop its turn each time: its handler cannot be served by whoever asks."""

    total: int = 0

    @command
    async def add(self, msg: Add) -> int:
        await asyncio.sleep(0)
        self.total += msg.amount
        return self.total


class Fairness(msgspec.Struct, frozen=True, kw_only=True):
    """The p99 of an ask in microseconds, beside a flooded actor and without it."""

    v: int = 1
    loop: str
    flood_per_s: float
    """Messages that the flooded actor handled a second, the median."""
    plain_alone_us: Compared
    awaiting_alone_us: Compared
    plain_many_us: Compared
    """A hundred askers at once."""
    awaiting_many_us: Compared

    @property
    def is_fair(self) -> bool:
        return max(self.plain_many_us.ratio, self.awaiting_many_us.ratio) <= RATIO_MAX


Ask = Callable[[Add], Awaitable[int]]


async def p99_us(asks: Sequence[Ask], each: int) -> float:
    """Of that many asks of each, every asker one after the other, all askers at once."""
    times: list[float] = []

    async def keep_asking(ask: Ask) -> None:
        for _ in range(each):
            begun = time.perf_counter()
            await ask(_ONE)
            times.append(time.perf_counter() - begun)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as askers:
        for ask in asks:
            askers.create_task(keep_asking(ask))
    return quantile(times, 0.99) * 1e6


async def measure(asks: int, repeat: int, loop: str) -> Fairness:
    """All four, each with and without the flood by turns."""
    floods = list[float]()
    async with LocalSystem("fair") as system:
        flooded = system.spawn(LocalCounter, "flooded", mailbox_max=MAILBOX_MAX, overflow="wait")

        async def flood() -> None:
            while True:
                await flooded.tell_wait(_ONE)

        async def beside(neighbours: Sequence[Ask], each: int) -> float:
            before, begun = await flooded.ask(Add(amount=0)), time.perf_counter()
            flooding = asyncio.create_task(flood())
            await asyncio.sleep(0.01)
            found = await p99_us(neighbours, each)
            flooding.cancel()
            await asyncio.wait((flooding,))
            handled = await flooded.ask(Add(amount=0)) - before
            floods.append(handled / (time.perf_counter() - begun))
            return found

        async def both(kind: type[LocalActor], many: int) -> Compared:
            neighbours = [system.spawn(kind, f"{many}-{number}").ask for number in range(many)]
            each = max(1, asks // many)
            await p99_us(neighbours, each)
            with_it, without = list[float](), list[float]()
            for _ in range(repeat):
                without.append(await p99_us(neighbours, each))
                with_it.append(await beside(neighbours, each))
            return compared(with_it, without)

        return Fairness(
            loop=loop,
            plain_alone_us=await both(LocalCounter, 1),
            awaiting_alone_us=await both(Waiting, 1),
            plain_many_us=await both(LocalCounter, ASKERS),
            awaiting_many_us=await both(Waiting, ASKERS),
            flood_per_s=round(quantile(floods, 0.5)),
        )


def main() -> int:
    """Measures and prints."""
    parser = options(__doc__)
    parser.add_argument("--asks", type=int, default=20_000, help="in each measurement")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    chosen = parser.parse_args()
    log_to_stderr()
    with asyncio.Runner(loop_factory=loop_factory(chosen.loop)) as runner:
        found = runner.run(measure(chosen.asks, chosen.repeat, chosen.loop))
    print(printed(found, as_json=chosen.json))  # noqa: T201 # a script prints
    return 0 if found.is_fair else 1


if __name__ == "__main__":
    sys.exit(main())
