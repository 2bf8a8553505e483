"""The least that a process on JetStream does before its work goes on. ``python -P floor_app.py URL STREAM SUBJECT``.

It imports nats-py, connects, and reads one log in batches of 1,000, decoding nothing. It prints when it has, nanoseconds of the
monotonic clock, and how many records there were.
"""

import asyncio
import sys
import time

import nats
from nats.aio.msg import Msg

BATCH = 1_000


async def count(url: str, stream: str, subject: str) -> int:
    """How many records the log has, all of them read."""
    client = await nats.connect(url)
    inbox = client.new_inbox()
    found, start = 0, 1
    ends: asyncio.Queue[dict[str, str]] = asyncio.Queue()

    async def receive(message: Msg) -> None:
        nonlocal found
        if message.data:
            found += 1
        else:
            ends.put_nowait(message.headers or {})

    await client.subscribe(inbox, cb=receive)
    while True:
        body = b'{"seq":%d,"next_by_subj":"%s","batch":%d}' % (start, subject.encode(), BATCH)
        await client.publish(f"$JS.API.DIRECT.GET.{stream}", body, reply=inbox)
        closing = await ends.get()
        if closing.get("Nats-Num-Pending", "0") == "0":
            return found
        start = int(closing["Nats-Last-Sequence"]) + 1


if __name__ == "__main__":
    records = asyncio.run(count(*sys.argv[1:4]))
    print(time.monotonic_ns(), records, flush=True)  # noqa: T201 # whoever started it reads this
