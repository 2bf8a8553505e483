"""The pull requests of one node: one open for every consumer, and never more asked for than one connection may hold.

The server keeps what a connection has not read yet up to its ``max_pending`` (64 MB by default), then cuts the connection; the
mail would come again over the next one, and be cut off again. So a request ends after ``PULL_BYTES``, which all consumers
together may ask for at once. A message that is larger is asked for alone and whatever its size, by one consumer at a time, in
the order in which they met one.
"""

import asyncio
from collections.abc import Iterable

import structlog

from regrow.bus.codec import encode
from regrow.bus.consumer import HEARTBEAT_S, Consumer
from regrow.bus.errors import Unreachable
from regrow.bus.replies import ReplyInbox
from regrow.bus.shards import Shards

_log = structlog.get_logger(__name__)


class Pulls:
    """The consumers that a node serves, by name, and their pull requests."""

    def __init__(self, replies: ReplyInbox, shards: Shards, inbox: str) -> None:
        self._replies = replies
        self._shards = shards
        self._inbox = inbox
        self._consumers: dict[str, Consumer] = {}
        self._large: dict[str, Consumer] = {}
        """Those whose next message is a large one, the first to ask first."""
        self._wanted = asyncio.Event()

    def get(self, name: str) -> Consumer | None:
        return self._consumers.get(name)

    def all(self) -> list[Consumer]:
        return list(self._consumers.values())

    def add(self, consumer: Consumer) -> None:
        self._consumers[consumer.name] = consumer
        self.wake()

    def drop(self, shard: int) -> None:
        """Serves a shard no more."""
        self._remove([name for name, consumer in self._consumers.items() if consumer.shard == shard])

    def clear(self) -> list[Consumer]:
        """Serves nothing any more; what was served."""
        served = self.all()
        self._remove(list(self._consumers))
        return served

    def wake(self) -> None:
        """Some consumer wants a request."""
        self._wanted.set()

    async def keep(self) -> None:
        """Keeps a pull request open for every consumer, for ever."""
        while True:
            self._wanted.clear()
            for consumer in self.all():
                if consumer.wants_pull(now_s()) and not self._waits(consumer):
                    await self._request(consumer)
            await self._request_large()
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._wanted.wait()
            except TimeoutError:
                continue  # time to look for silent consumers

    def _waits(self, consumer: Consumer) -> bool:
        """Whether the consumer wants a large message, for which it waits its turn."""
        if consumer.wants_large:
            self._large.setdefault(consumer.name, consumer)
        return consumer.wants_large

    async def _request_large(self) -> None:
        if self._large and not has_large(self._consumers.values(), now_s()):
            await self._request(self._large.pop(next(iter(self._large))))

    async def _request(self, consumer: Consumer) -> None:
        if consumer.is_silent(now_s()):
            _log.warning("a mailbox consumer is silent, pulling again", shard=consumer.shard, box=consumer.box)
        body = encode(consumer.next_pull(now_s()))
        reply = f"{self._inbox}.{consumer.name}.{consumer.pull}"
        try:
            await self._replies.send(self._shards.pull_subject(consumer), body, reply)
        except Unreachable:
            consumer.drop_pull()  # the connection's end, or its return, comes to whoever watches it

    def _remove(self, names: list[str]) -> None:
        for name in names:
            del self._consumers[name]
            self._large.pop(name, None)
        self.wake()  # another one's turn may have come


def has_large(consumers: Iterable[Consumer], at_s: float) -> bool:
    """Whether a large message is under way to one of these."""
    return any(each.has_large(at_s) for each in consumers)


def now_s() -> float:
    return asyncio.get_running_loop().time()
