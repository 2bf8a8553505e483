"""A node on a disk that fills up and gets room again; run in a mount namespace of its own, with the disk as its argument.

Prints what its callers saw, as one JSON line.
"""

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import nats

from regrow.bus import Address, BusError, EmbeddedServer, NatsBus, encode, log, mail, open_bus
from regrow.bus.subjects import BOXES

ALICE = Address("counter", "alice")
PAD = "x" * 100_000


async def main(disk: Path) -> dict[str, object]:
    log.APPEND_TIMEOUT_S = mail.POST_TIMEOUT_S = 0.5
    server = EmbeddedServer(disk / "store", durability="process")
    async with AsyncExitStack() as lives, AsyncExitStack() as stack:
        await lives.enter_async_context(server)
        client = await nats.connect(server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.05)
        stack.push_async_callback(client.close)
        bus = await stack.enter_async_context(open_bus(client, "full", create=True))
        writer = asyncio.ensure_future(write(bus))
        while "no space left on device" not in (disk / "store" / "server.log").read_text():
            await bus.log.read(Address("counter", "bob"))
        posts = [await seen(bus, number) for number in range(2)]
        still_read = len(await bus.log.read(ALICE))
        undecided = not writer.done()
        remount = await asyncio.create_subprocess_exec("mount", "-o", "remount,size=100m", str(disk))
        assert await remount.wait() == 0
        server.settle()
        await lives.aclose()
        await lives.enter_async_context(server)
        accepted = await writer
        found = [each.sequence for each in await bus.log.read(ALICE)]
        return {
            "undecided": undecided,
            "still_read": still_read,
            "posts": posts,
            "accepted": accepted,
            "found": found,
            "posts_afterwards": [await seen(bus, number) for number in range(2)],
        }


async def write(bus: NatsBus) -> list[int]:
    """Appends until the disk is full, and no further than the first record that had to wait for room."""
    sequences = [0]
    for number in range(100):
        began = asyncio.get_running_loop().time()
        data = encode({"rid": str(number), "pad": PAD})
        sequences.append(await bus.log.append(ALICE, data, rid=str(number), after=sequences[-1]))
        if asyncio.get_running_loop().time() - began > log.APPEND_TIMEOUT_S:
            break
    return sequences[1:]


async def seen(bus: NatsBus, box: int) -> str:
    """What whoever posts sees: the error's name, or that it was stored."""
    try:
        await bus.mail.post(BOXES[box], ALICE, PAD.encode())
    except BusError as error:
        return type(error).__name__
    return "stored"


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(Path(sys.argv[1])))))  # noqa: T201 # a script prints
