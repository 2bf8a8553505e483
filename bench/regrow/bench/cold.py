"""Cold actors come back from logs that lie interleaved in busy streams, while others append: what each costs the other.

``cool`` writes the logs, then recovers actors at a steady rate while another task appends, one record after the other, to logs of
its own all over the streams. By turns: nothing beside the appends, recoveries beside them, and the same two of the floor, where
raw batched reads of as many logs take the recoveries' place. Then it has the actors rolled up, and recovers them once more.
"""

import asyncio
import gc
import itertools
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from regrow.actors import Kind, Policy, System
from regrow.bench.actors import Add, Counter
from regrow.bench.log import record
from regrow.bench.plan import loop_name
from regrow.bench.sample import Compared, Sample, compared, sample
from regrow.bench.seeding import interleaved
from regrow.bench.stage import APP, Stage, stage
from regrow.bus import Address
from regrow.bus.server import Durability
from regrow.bus.subjects import LOG_STREAMS, log_number

APPENDERS = 64
"""Logs that the others append to, by turns, all over the streams."""
ASK_TIMEOUT_S = 60.0
IDLE_S = 0.5
POLL_S = 0.2
ROLL_UP_TIMEOUT_S = 300.0

Append = Callable[[int], Awaitable[object]]
"""Appends a record to the log of that number, among those of the others."""
Recover = Callable[[Address], Awaitable[object]]


class Beside(msgspec.Struct, frozen=True):
    """Appends of the others alone, and with recoveries beside them."""

    alone_us: Compared
    """The median of one append; the floor is a raw append."""
    recovering_us: Compared
    """The same while actors are recovered; the floor while as many logs are read raw."""
    times: float
    """The second over the first."""
    floor_times: float


class Cooled(msgspec.Struct, frozen=True, kw_only=True):
    """What was found."""

    v: int = 1
    actors: int
    records: int
    durability: Durability
    per_s: float
    written_per_s: int
    """Records a second while the logs were written, raw."""
    before: Beside
    """With logs as they were written."""
    rolled_up: Beside
    """With logs that are one snapshot each."""
    recovery_ms: Sample
    """From an ask to an actor that is not in memory until its reply, its record included."""
    raw_read_ms: Sample
    """Of the records of one such actor, at the same rate."""
    rolled_up_recovery_ms: Sample
    rolled_up_raw_read_ms: Sample
    bytes_before: int
    """Of all logs, as the server counts them."""
    bytes_rolled_up: int
    loop: str


class Times:
    """How long things took, in microseconds."""

    def __init__(self) -> None:
        self.appends: list[float] = []
        self.medians: list[float] = []
        self.recoveries: list[float] = []

    def end(self) -> None:
        """One measurement is over."""
        self.medians.append(statistics.median(self.appends))
        self.appends.clear()


class Others:
    """Appends one record after the other."""

    def __init__(self, append: Append) -> None:
        self._append = append

    async def run(self, times: Times, beside: Awaitable[None]) -> None:
        """Appends until the other work is done."""
        gc.collect()
        work = asyncio.ensure_future(beside)
        for number in itertools.cycle(range(APPENDERS)):
            if work.done():
                break
            begun = time.perf_counter()
            await self._append(number)
            times.appends.append((time.perf_counter() - begun) * 1e6)
        await work
        times.end()


async def at_rate(recover: Recover, actors: Sequence[Address], per_s: float, times: Times) -> None:
    """Begins a recovery every so often, whether those before have ended or not; returns when all have."""

    async def one(address: Address) -> None:
        begun = time.perf_counter()
        await recover(address)
        times.recoveries.append((time.perf_counter() - begun) * 1000)

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number, address in enumerate(actors):
            await asyncio.sleep(max(0.0, begun + number / per_s - time.perf_counter()))
            tasks.create_task(one(address))


async def cool(
    *, actors: int, rounds: int, per_s: float, seconds: float, repeat: int, durability: Durability = "process"
) -> Cooled:
    """``rounds`` records of each actor; ``repeat`` times ``seconds`` of each measurement, each with actors of its own."""
    addresses = [Address(Counter.__regrow__.kind, str(number)) for number in range(actors)]
    each = max(1, round(per_s * seconds))
    if actors < 2 * each * repeat:
        raise ValueError(f"{actors} actors are too few to recover {2 * each * repeat} that are cold")
    async with stage(durability) as here:
        begun = time.perf_counter()
        await here.raw.append_all(interleaved(here.bus.subjects, addresses, rounds))
        written_per_s = round(actors * rounds / (time.perf_counter() - begun))
        bytes_before = await stored_bytes(here)
        others = [Others(_ours(here)), Others(_raw(here))]
        before, recovered, read = await _measure(here, others, addresses, each, per_s, seconds, repeat)
        used = addresses[: 2 * each * repeat]
        await _roll_up(here, used)
        bytes_after = await stored_bytes(here)
        after, again, read_again = await _measure(here, others, used, each, per_s, seconds, repeat)
    return Cooled(
        actors=actors,
        records=actors * rounds,
        durability=durability,
        per_s=per_s,
        written_per_s=written_per_s,
        before=before,
        rolled_up=after,
        recovery_ms=recovered,
        raw_read_ms=read,
        rolled_up_recovery_ms=again,
        rolled_up_raw_read_ms=read_again,
        bytes_before=bytes_before,
        bytes_rolled_up=bytes_after,
        loop=loop_name(),
    )


async def _measure(
    here: Stage,
    others: Sequence[Others],
    actors: Sequence[Address],
    each: int,
    per_s: float,
    seconds: float,
    repeat: int,
) -> tuple[Beside, Sample, Sample]:
    """Ours and the floor by turns, alone and recovering, on a node that has none of these actors in memory."""
    cold = iter(actors)
    alone, busy = (Times(), Times()), (Times(), Times())
    async with System(APP, [Kind(actor=Counter, policy=_never())]).host(here.bus) as node:

        async def ask(address: Address) -> None:
            await node.ref(Counter, address.key).ask(Add(amount=1), timeout_s=ASK_TIMEOUT_S)

        async def read(address: Address) -> None:
            number = log_number(address)
            await here.raw.count(here.bus.subjects.log_stream(number), here.bus.subjects.log(address))

        for turn in range(repeat + 1):
            for side, recover in list(enumerate((ask, read)))[:: 1 if turn % 2 else -1]:
                if turn == 0:  # to warm up
                    await others[side].run(Times(), asyncio.sleep(min(1.0, seconds)))
                    continue
                await others[side].run(alone[side], asyncio.sleep(seconds))
                some = list(itertools.islice(cold, each))
                await others[side].run(busy[side], at_rate(recover, some, per_s, busy[side]))
    return _beside(alone, busy), sample(busy[0].recoveries), sample(busy[1].recoveries)


def _beside(alone: tuple[Times, Times], busy: tuple[Times, Times]) -> Beside:
    """Ratios of times are ours over the floor's here."""
    quiet = compared(alone[0].medians, alone[1].medians)
    loud = compared(busy[0].medians, busy[1].medians)
    return Beside(quiet, loud, round(loud.ours / quiet.ours, 2), round(loud.floor / quiet.floor, 2))


async def _roll_up(here: Stage, actors: Sequence[Address]) -> None:
    """Has every actor wake once, and be made short and dropped because it is idle."""
    system = System(APP, [Kind(actor=Counter, policy=_never(), idle_after_s=IDLE_S)])
    free = asyncio.Semaphore(32)
    async with system.host(here.bus) as node:

        async def wake(address: Address) -> None:
            async with free:
                await node.ref(Counter, address.key).ask(Add(amount=1), timeout_s=ASK_TIMEOUT_S)

        async with asyncio.TaskGroup() as tasks:
            for address in actors:
                tasks.create_task(wake(address))
        async with asyncio.timeout(ROLL_UP_TIMEOUT_S):
            while node.host.statistics["passivations"] < len(actors):  # noqa: ASYNC110 # it is only counted
                await asyncio.sleep(POLL_S)


async def stored_bytes(here: Stage) -> int:
    """What all logs take, as the server counts it."""
    subjects = here.bus.subjects
    states = [await here.raw.state(subjects.log_stream(number)) for number in range(LOG_STREAMS)]
    return sum(int(state["bytes"]) for state in states)


def _never() -> Policy:
    """No snapshot but at passivation."""
    return Policy(snapshot_every=10**9, snapshot_distance=10**9)


def _ours(here: Stage) -> Append:
    last = [0] * APPENDERS
    numbers = itertools.count()

    async def append(number: int) -> None:
        rid, data = record(next(numbers))
        address = Address("bench_others", str(number))
        last[number] = await here.bus.log.append(address, data, rid=rid, after=last[number])

    return append


def _raw(here: Stage) -> Append:
    last = [0] * APPENDERS
    numbers = itertools.count()

    async def append(number: int) -> None:
        subject = here.bus.subjects.log(Address("bench_raw", str(number)))
        last[number] = await here.raw.append(subject, record(next(numbers))[1], last[number])

    return append
