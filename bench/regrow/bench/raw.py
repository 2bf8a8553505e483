"""The floor on NATS: fenced publishes and batched reads with nats-py and one shared reply inbox, nothing around them.

No time limit, no second attempt, no check of sizes or gaps, no record decoded: what regrow adds is the distance to it. A
refused publish ends the benchmark.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg

_FENCE = "Nats-Expected-Last-Subject-Sequence"
_PENDING = "Nats-Num-Pending"
_LAST = "Nats-Last-Sequence"

BATCH = 1_000
"""Records in one batch of a read."""
UNDER_WAY = 1_000
"""Appends that ``append_all`` sends before it waits for answers."""

Append = tuple[str, bytes, int]
"""Subject, record and fence."""


class Refused(RuntimeError):
    """The server did not store a record."""


class _Ack(msgspec.Struct):
    seq: int


class RawLog:
    """Appends and reads on one connection. Made by ``raw_log``."""

    def __init__(self, client: Client, prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self._waiting: dict[str, Callable[[Msg], None]] = {}
        self._next = 0
        self._ack = msgspec.json.Decoder(_Ack)

    async def append(self, subject: str, data: bytes, after: int) -> int:
        """The sequence under which it was stored."""
        answer: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        reply = self._expect(answer.set_result)
        await self._client.publish(subject, data, reply=reply, headers={_FENCE: str(after)})
        message = await answer
        del self._waiting[reply]
        return self._ack.decode(message.data).seq

    async def append_all(self, records: Iterable[Append]) -> None:
        """Appends many, not waiting for one before the next: each fence has to be known beforehand. Raises ``Refused``."""
        free = asyncio.Semaphore(UNDER_WAY)
        refused: list[bytes] = []

        def receive(message: Msg) -> None:
            if b'"error"' in message.data:
                refused.append(message.data)
            free.release()

        reply = self._expect(receive)
        for subject, data, after in records:
            await free.acquire()
            if refused:
                raise Refused(refused[0].decode())
            await self._client.publish(subject, data, reply=reply, headers={_FENCE: str(after)})
        for _ in range(UNDER_WAY):
            await free.acquire()
        del self._waiting[reply]
        if refused:
            raise Refused(refused[0].decode())

    async def publish(self, subject: str, data: bytes, headers: dict[str, str]) -> None:
        """Publishes, and returns once the server has stored it. Raises ``Refused``."""
        answer = await self.request(subject, data, headers)
        if b'"error"' in answer:
            raise Refused(answer.decode())

    async def request(self, subject: str, data: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
        """The body of the answer."""
        answer: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        reply = self._expect(answer.set_result)
        await self._client.publish(subject, data, reply=reply, headers=headers)
        message = await answer
        del self._waiting[reply]
        return message.data

    async def ask(
        self, subject: str, data: bytes, take: Callable[[Msg], None], headers: dict[str, str] | None = None
    ) -> None:
        """Publishes, and gives every answer that ever comes to the callback."""
        await self._client.publish(subject, data, reply=self._expect(take), headers=headers)

    async def state(self, stream: str) -> dict[str, Any]:
        """What a stream holds, as the server says it."""
        info = msgspec.json.decode(await self.request(f"$JS.API.STREAM.INFO.{stream}"), type=dict[str, Any])
        found: dict[str, Any] = info["state"]
        return found

    async def read(self, stream: str, subject: str) -> list[bytes]:
        """The bodies of all messages of a subject, in one batch of at most 1,000."""
        found: list[bytes] = []
        await self._batch(stream, subject, 1, lambda message: found.append(message.data))
        return found

    async def count(self, stream: str, subject: str) -> int:
        """How many messages of a subject there are, by reading all of them, one batch after the other."""
        found, start = 0, 1

        def receive(_: Msg) -> None:
            nonlocal found
            found += 1

        while True:
            closing = (await self._batch(stream, subject, start, receive)).headers or {}
            if closing.get(_PENDING, "0") == "0":
                return found
            start = int(closing[_LAST]) + 1

    async def receive(self, message: Msg) -> None:
        """Gives an answer to whoever waits for it."""
        self._waiting[message.subject](message)

    async def _batch(self, stream: str, subject: str, start: int, take: Callable[[Msg], None]) -> Msg:
        """Gives one batch to the callback; the message that closes it."""
        end: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()

        def receive(message: Msg) -> None:
            if message.data:
                take(message)
            else:
                end.set_result(message)

        reply = self._expect(receive)
        body = b'{"seq":%d,"next_by_subj":"%s","batch":%d}' % (start, subject.encode(), BATCH)
        await self._client.publish(f"$JS.API.DIRECT.GET.{stream}", body, reply=reply)
        closing = await end
        del self._waiting[reply]
        return closing

    def _expect(self, receive: Callable[[Msg], None]) -> str:
        self._next += 1
        reply = f"{self._prefix}.{self._next}"
        self._waiting[reply] = receive
        return reply


@asynccontextmanager
async def raw_log(client: Client) -> AsyncGenerator[RawLog]:
    """A raw log on this connection for as long as the block runs."""
    prefix: str = client.new_inbox()
    log = RawLog(client, prefix)
    subscription = await client.subscribe(f"{prefix}.*", cb=log.receive, pending_msgs_limit=0, pending_bytes_limit=0)
    try:
        yield log
    finally:
        await subscription.unsubscribe()
