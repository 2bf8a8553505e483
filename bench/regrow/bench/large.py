"""One actor with a very long log: how fast it comes back without a snapshot, and with one.

``grow`` writes the log, one event a record, and has the actor recovered by its first ask on a node that does not have it, beside
raw batched reads of the same records. Then it lets the actor be rolled up because it is idle, and asks it again each time it has
been dropped. ``settle`` is about disk: actors of the same live state after few turns and after many.
"""

import asyncio
import gc
import resource
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from regrow.actors import Kind, Node, Policy, System
from regrow.bench.actors import Add, Counter
from regrow.bench.plan import loop_name
from regrow.bench.sample import Compared, Sample, compared, sample
from regrow.bench.seeding import interleaved
from regrow.bench.stage import APP, Stage, stage
from regrow.bus import Address
from regrow.bus.subjects import LOG_STREAMS, log_number

TIMEOUT_S = 600.0
IDLE_S = 0.1
POLL_S = 0.05
TICK_S = 0.01
ASKERS = 100
LARGE = Address(Counter.__regrow__.kind, "large")


class Grown(msgspec.Struct, frozen=True, kw_only=True):
    """What was found for one actor."""

    v: int = 1
    events: int
    """One a record."""
    written_per_s: int
    recovered_per_s: Compared
    """Events a second from the first ask to a cold actor until its reply; the floor reads the same records raw."""
    longest_stall_ms: Sample
    """The longest time in each recovery for which nothing else in the process was done."""
    memory_mb: int
    """The most that this process ever took."""
    activation_ms: Sample
    """The same ask once the log is a snapshot."""
    activation_floor_ms: Sample
    """A raw read of that log and a raw append."""
    snapshot_bytes: int
    stream_bytes_before: int
    """Of the log, as the server counts it."""
    stream_bytes_after: int
    disk_bytes_before: int
    """Of the stream's files."""
    disk_bytes_after: int
    loop: str


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """What actors take on disk after so many turns each."""

    turns: int
    stream_bytes: int
    """As the server counts it."""
    disk_bytes_at_once: int
    """Right after the last turn."""
    disk_bytes: int
    """After the server had time to give back what is not needed."""
    live_bytes: int
    """With every log rolled up: what the actors' snapshots take."""


async def grow(*, events: int, repeat: int, activations: int) -> Grown:
    """``repeat`` recoveries without a snapshot, ``activations`` with one."""
    async with stage("process") as here:
        stream = here.bus.subjects.log_stream(log_number(LARGE))
        subject = here.bus.subjects.log(LARGE)
        begun = time.perf_counter()
        await here.raw.append_all(interleaved(here.bus.subjects, [LARGE], events))
        written_per_s = round(events / (time.perf_counter() - begun))
        before, disk_before = int((await here.raw.state(stream))["bytes"]), disk_bytes(here, stream)
        ours, floors, stalls = list[float](), list[float](), list[float]()
        for turn in range(repeat):
            for side in ("ours", "floor") if turn % 2 else ("floor", "ours"):
                gc.collect()
                if side == "ours":
                    async with stalling(stalls):
                        ours.append(await _recover(here, events + len(ours)))
                else:
                    floors.append(await _read(here, stream, subject, events + len(ours)))
        memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        activation, floor_ms = await _activate(here, stream, subject, activations)
        after, disk_after = int((await here.raw.state(stream))["bytes"]), disk_bytes(here, stream)
        snapshot_bytes = max(len(each) for each in await here.raw.read(stream, subject))
    return Grown(
        events=events,
        written_per_s=written_per_s,
        recovered_per_s=compared(ours, floors),
        longest_stall_ms=sample(stalls),
        memory_mb=memory_mb,
        activation_ms=sample(activation),
        activation_floor_ms=sample(floor_ms),
        snapshot_bytes=snapshot_bytes,
        stream_bytes_before=before,
        stream_bytes_after=after,
        disk_bytes_before=disk_before,
        disk_bytes_after=disk_after,
        loop=loop_name(),
    )


@asynccontextmanager
async def stalling(found: list[float]) -> AsyncGenerator[None]:
    """Adds the longest time, in milliseconds, for which the event loop did not come round while the block ran."""
    longest_s = 0.0

    async def tick() -> None:
        nonlocal longest_s
        while True:
            before = time.perf_counter()
            await asyncio.sleep(TICK_S)
            longest_s = max(longest_s, time.perf_counter() - before - TICK_S)

    ticking = asyncio.create_task(tick())
    try:
        yield
        await asyncio.sleep(2 * TICK_S)
    finally:
        ticking.cancel()
    found.append(longest_s * 1000)


async def _recover(here: Stage, events: int) -> float:
    """Events a second: the first ask to the actor on a node that does not have it."""
    async with _system(idle_after_s=TIMEOUT_S).host(here.bus) as node:
        begun = time.perf_counter()
        total = await _ask(node)
        took_s = time.perf_counter() - begun
    assert total == events + 1, (total, events)
    return events / took_s


async def _read(here: Stage, stream: str, subject: str, events: int) -> float:
    begun = time.perf_counter()
    found = await here.raw.count(stream, subject)
    assert found == events
    return events / (time.perf_counter() - begun)


async def _activate(here: Stage, stream: str, subject: str, activations: int) -> tuple[list[float], list[float]]:
    """Milliseconds of an ask to an actor that was rolled up and dropped, and of the floor, by turns."""
    ours, floors = list[float](), list[float]()
    raw_subject, last = here.bus.subjects.log(Address("bench_raw", "large")), 0
    async with _system(idle_after_s=IDLE_S).host(here.bus) as node:
        await _ask(node)
        data = (await here.raw.read(stream, subject))[-1]
        for dropped in range(1, activations + 1):
            await _wait_dropped(node, dropped)
            begun = time.perf_counter()
            await _ask(node)
            ours.append((time.perf_counter() - begun) * 1000)
            begun = time.perf_counter()
            await here.raw.count(stream, subject)
            last = await here.raw.append(raw_subject, data, last)
            floors.append((time.perf_counter() - begun) * 1000)
        await _wait_dropped(node, activations + 1)
    return ours, floors


async def settle(*, actors: int, turns: Sequence[int], wait_s: float) -> list[Settled]:
    """Actors with so many turns each, on a server of its own for each number of turns; snapshots as they come by themselves.

    ``wait_s`` is how long the servers are given afterwards; they clean up every two minutes.
    """
    async with AsyncExitStack() as stack:
        places: list[tuple[Stage, int, int, int]] = []
        for number in turns:
            here = await stack.enter_async_context(stage("process"))
            await _work(here, actors, number)
            places.append((here, number, await _stream_bytes(here), _all_disk_bytes(here)))
        await asyncio.sleep(wait_s)
        found: list[Settled] = []
        for here, number, stream_bytes, at_once in places:
            disk = _all_disk_bytes(here)
            await _roll_up(here, actors)
            found.append(
                Settled(
                    turns=number,
                    stream_bytes=stream_bytes,
                    disk_bytes_at_once=at_once,
                    disk_bytes=disk,
                    live_bytes=await _stream_bytes(here),
                )
            )
    return found


async def _work(here: Stage, actors: int, turns: int) -> None:
    keys = iter(str(number) for number in range(actors))
    async with System(APP, [Kind(actor=Counter)]).host(here.bus) as node:

        async def some() -> None:
            for key in keys:
                for _ in range(turns):
                    await node.ref(Counter, key).ask(Add(amount=1))

        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(ASKERS, actors)):
                tasks.create_task(some())


async def _roll_up(here: Stage, actors: int) -> None:
    """Wakes every actor, and has it made short because it is idle."""
    async with _system(idle_after_s=IDLE_S).host(here.bus) as node:
        for number in range(actors):
            await node.ref(Counter, str(number)).ask(Add(amount=1))
        await _wait_dropped(node, actors)


async def _ask(node: Node) -> int:
    return await node.ref(Counter, LARGE.key).ask(Add(amount=1), timeout_s=TIMEOUT_S)


async def _wait_dropped(node: Node, count: int) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while node.host.statistics["passivations"] < count:  # noqa: ASYNC110 # it is only counted
            await asyncio.sleep(POLL_S)


def _system(*, idle_after_s: float) -> System:
    policy = Policy(snapshot_every=10**9, snapshot_distance=10**9, recovery_timeout_s=TIMEOUT_S)
    return System(APP, [Kind(actor=Counter, policy=policy, idle_after_s=idle_after_s)])


async def _stream_bytes(here: Stage) -> int:
    states = [await here.raw.state(here.bus.subjects.log_stream(number)) for number in range(LOG_STREAMS)]
    return sum(int(state["bytes"]) for state in states)


def _all_disk_bytes(here: Stage) -> int:
    return sum(disk_bytes(here, here.bus.subjects.log_stream(number)) for number in range(LOG_STREAMS))


def disk_bytes(here: Stage, stream: str) -> int:
    """What the files of a stream's messages take."""
    folders: list[Path] = list(here.store.glob(f"jetstream/*/streams/{stream}/msgs"))
    return sum(_size(file) for folder in folders for file in folder.iterdir())


def _size(file: Path) -> int:
    try:
        return file.stat().st_blocks * 512
    except FileNotFoundError:  # the server has removed it meanwhile
        return 0
