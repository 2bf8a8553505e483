"""Many durable timers that are due at once, with or without a kill of their server at that time."""

import gc
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from regrow.bench.plan import loop_name
from regrow.bench.raw import raw_log
from regrow.bench.sample import Compared, Sample, compared, quantile
from regrow.bench.stage import APP
from regrow.bench.timers import Clockwork, Firing, RawTimers
from regrow.bus import EmbeddedServer, open_bus
from regrow.bus.connection import ServerAddress, close, connect
from regrow.bus.server import Durability


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the timers, in each repeat; without a kill first."""

    v: int = 1
    timers: int
    owners: int
    durability: Durability
    late_p99_ms: Compared
    """From the due time until a timer reached its owner; the floor is as many message schedules and one consumer."""
    late_p99_each_ms: list[float]
    recorded_s: list[float]
    """From the due time until the turns of all were recorded."""
    set_s: list[float]
    """How long it took to set all of them."""
    last_late_ms: Sample
    """The last repeat without a kill."""
    killed_late_ms: Sample
    """With a kill of the server at the due time, its restart included."""
    killed_recorded_s: float
    twice: int
    """Timers whose turn was recorded more than once, in all repeats together."""
    lost: int
    loop: str


async def be_due(
    folder: Path, *, owners: int, names: int, lead_s: float, repeat: int, durability: Durability = "process"
) -> Due:
    """``names`` timers of each owner; ``repeat`` times without a kill, then once with one.

    ``lead_s``: from the first timer that is set until all are due; doubled where it is not enough to set them.
    """
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(EmbeddedServer(folder / "store", durability=durability))
        client = await connect(ServerAddress(url=server.url), name="timers")
        stack.push_async_callback(close, client)
        bus = await stack.enter_async_context(open_bus(client, APP, create=True))
        clockwork = Clockwork(bus)
        node = await stack.enter_async_context(clockwork.system.host(clockwork.bus))

        async def kill() -> None:
            os.kill(server.pid, signal.SIGKILL)
            await server.wait_exited()
            await server.__aexit__(None, None, None)
            await server.__aenter__()

        theirs = await connect(ServerAddress(url=server.url), name="floor")
        stack.push_async_callback(close, theirs)
        raw = RawTimers(theirs, await stack.enter_async_context(raw_log(theirs)))
        await raw.prepare()
        every, fired, floors = list[Firing](), list[Firing](), list[float]()

        async def fire(at_due: Callable[[], Awaitable[None]] | None = None) -> Firing:
            """Once more with twice the time when they were due before all had been set."""
            nonlocal lead_s
            while True:
                found = await clockwork.fire(node, owners, names, lead_s, at_due)
                every.append(found)
                if found.set_s < lead_s:
                    return found
                lead_s *= 2

        for turn in range(repeat):
            for ours in (True, False) if turn % 2 else (False, True):
                gc.collect()
                if ours:
                    fired.append(await fire())
                else:
                    floors.append(quantile(await raw.fire(owners * names, lead_s), 0.99))
        killed = await fire(kill)
    return _due(owners, names, durability, fired, floors, killed, every)


def _due(
    owners: int,
    names: int,
    durability: Durability,
    fired: list[Firing],
    floors: list[float],
    killed: Firing,
    every: list[Firing],
) -> Due:
    return Due(
        timers=owners * names,
        owners=owners,
        durability=durability,
        late_p99_ms=compared([each.late_ms.p99 for each in fired], floors),
        late_p99_each_ms=[each.late_ms.p99 for each in fired],
        recorded_s=[each.recorded_s for each in fired],
        set_s=[each.set_s for each in fired],
        last_late_ms=fired[-1].late_ms,
        killed_late_ms=killed.late_ms,
        killed_recorded_s=killed.recorded_s,
        twice=sum(each.twice for each in every),
        lost=sum(each.lost for each in every),
        loop=loop_name(),
    )
