"""The benchmarks of the event log alone: ``append`` and ``recover``. Their floor is ``RawLog`` on the same server."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from itertools import count
from typing import Any

import msgspec

from regrow.actors.fold import fold
from regrow.actors.records import VERSION, Cause, Outcome, Record, Turn
from regrow.bench.actors import Added, Counter
from regrow.bench.plan import Plan, compare, rate
from regrow.bench.result import Measured
from regrow.bench.stage import Stage, stage
from regrow.bus import Address, encode
from regrow.bus.log import READERS_PER_STREAM
from regrow.bus.server import Durability
from regrow.bus.subjects import log_number

WRITERS = 300
APPENDS = {"process": 10, "disk": 5}
"""Appends of each writer in one measurement."""
METRICS: dict[Durability, str] = {"process": "append_per_s", "disk": "append_fsync_per_s"}

RECOVERED = 60
RECORDS = 100
"""Records in the log of each actor that is recovered."""

_numbers = count(1)

Append = Callable[[Address, str, bytes, int], Awaitable[int]]


def record(number: int, more_bytes: int = 0) -> tuple[str, bytes]:
    """The id and the bytes of a record as a turn of ``Counter`` writes it; ``more_bytes`` longer in its reply."""
    reply = encode("x" * more_bytes) if more_bytes else encode(number)
    fact = msgspec.Raw(encode(Added(amount=1)))
    turn = Turn(Cause("in", f"{number:032x}"), number, 0, Outcome(value=msgspec.Raw(reply)), (fact,))
    rid = f"bench-{next(_numbers)}"
    return rid, encode(Record(VERSION, rid, (turn,)))


async def append(plan: Plan) -> list[Measured]:
    """``append_per_s``, and ``append_fsync_per_s`` on a server that flushes before it acknowledges: many writers at once,
    each with a log of its own, the next record after the acknowledgement of the one before."""
    found: list[Measured] = []
    for durability, metric in METRICS.items():
        each = plan.count(APPENDS[durability])
        async with stage(durability) as here:
            ours = _writing("bench_ours", each, _ours(here))
            floor = _writing("bench_raw", each, _raw(here))
            found.append(await compare(plan, "append", metric, "1/s", ours, floor, better="higher"))
    return found


async def append_size(plan: Plan, size: int) -> Measured:
    """``append_per_s`` of records that are about ``size`` bytes larger."""
    each = plan.count(APPENDS["process"])
    async with stage("process") as here:
        ours = _writing("bench_ours", each, _ours(here), more_bytes=size)
        floor = _writing("bench_raw", each, _raw(here), more_bytes=size)
        return await compare(plan, "append", METRICS["process"], "1/s", ours, floor, better="higher")


async def recover(plan: Plan) -> list[Measured]:
    """``recover_per_s``: actors with a hundred records each, read and folded; the floor reads the same and folds nothing."""
    return [await recover_length(plan, RECORDS)]


async def recover_length(plan: Plan, length: int) -> Measured:
    """``recover_per_s`` of actors with so many records each; the fewer of them, the longer their logs."""
    many = plan.count(max(1, min(RECOVERED, RECOVERED * RECORDS // length)))
    actors = [Address(Counter.__regrow__.kind, str(number)) for number in range(many)]
    async with stage("process") as here:
        await _write_all(actors, defaultdict(int), _ours(here), length)

        async def ours(address: Address) -> None:
            recovered = fold(Counter, address.key, await here.bus.log.read(address))
            assert recovered.image.records == length

        reading = defaultdict[int, asyncio.Semaphore](lambda: asyncio.Semaphore(READERS_PER_STREAM))

        async def floor(address: Address) -> None:
            number = log_number(address)
            async with reading[number]:
                found = await here.raw.count(here.bus.subjects.log_stream(number), here.bus.subjects.log(address))
            assert found == length

        return await compare(
            plan,
            "recover",
            "recover_per_s",
            "1/s",
            lambda: rate(lambda: _each(ours, actors), len(actors)),
            lambda: rate(lambda: _each(floor, actors), len(actors)),
            better="higher",
        )


def _ours(here: Stage) -> Append:
    async def append(address: Address, rid: str, data: bytes, after: int) -> int:
        return await here.bus.log.append(address, data, rid=rid, after=after)

    return append


def _raw(here: Stage) -> Append:
    async def append(address: Address, rid: str, data: bytes, after: int) -> int:
        return await here.raw.append(here.bus.subjects.log(address), data, after)

    return append


def _writing(kind: str, each: int, append: Append, *, more_bytes: int = 0) -> Callable[[], Awaitable[float]]:
    actors = [Address(kind, str(number)) for number in range(WRITERS)]
    last: defaultdict[Address, int] = defaultdict(int)
    return lambda: rate(lambda: _write_all(actors, last, append, each, more_bytes), WRITERS * each)


async def _write_all(
    actors: list[Address], last: defaultdict[Address, int], append: Append, each: int, more_bytes: int = 0
) -> None:
    async def write(address: Address) -> None:
        for number in range(each):
            rid, data = record(number, more_bytes)
            last[address] = await append(address, rid, data, last[address])

    await _each(write, actors)


async def _each(work: Callable[[Address], Coroutine[Any, Any, None]], actors: list[Address]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for address in actors:
            tasks.create_task(work(address))
