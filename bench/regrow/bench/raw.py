"""The floor on NATS: fenced publishes and batched reads with nats-py and one shared reply inbox, nothing around them.

No time limit, no second attempt, no check of sizes or gaps, no record decoded: what regrow adds is the distance to it. A
refused publish ends the benchmark.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg

_FENCE = "Nats-Expected-Last-Subject-Sequence"


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

    async def read(self, stream: str, subject: str) -> list[bytes]:
        """The bodies of all messages of a subject, in one batch of at most 1,000."""
        found: list[bytes] = []
        end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def receive(message: Msg) -> None:
            if message.data:
                found.append(message.data)
            else:
                end.set_result(None)

        reply = self._expect(receive)
        body = b'{"seq":1,"next_by_subj":"%s","batch":1000}' % subject.encode()
        await self._client.publish(f"$JS.API.DIRECT.GET.{stream}", body, reply=reply)
        await end
        del self._waiting[reply]
        return found

    async def receive(self, message: Msg) -> None:
        """Gives an answer to whoever waits for it."""
        self._waiting[message.subject](message)

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
