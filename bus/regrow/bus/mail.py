"""The two mailboxes on JetStream work queues, served by shard through raw pull requests.

Each shard has one consumer per mailbox. Its name carries the epoch of the claim, so that acknowledgements of an earlier owner
go nowhere; redelivery happens by takeover only, which is the one way that keeps a consumer's order. Nothing is ever nak'ed.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from regrow.bus.api import CONSUMER_NOT_FOUND, CONSUMER_NOT_UNIQUE, ApiError, JetStreamApi
from regrow.bus.codec import encode
from regrow.bus.errors import MailboxFull, NoResponder, RequestTimeout, StoreFull
from regrow.bus.headers import MESSAGE_ID, Headers
from regrow.bus.log import check_size, publish_acked, refused
from regrow.bus.port import Receive
from regrow.bus.replies import ReplyInbox, status
from regrow.bus.subjects import SHARDS, Address, Box, Subjects

_log = structlog.get_logger(__name__)

POST_TIMEOUT_S = 10.0
PULL_BATCH = 128
PULL_EXPIRES_S = 30.0
HEARTBEAT_S = 5.0
HEARTBEAT = "100"
"""The status by which an idle server says that it is there."""
TAKEOVERS_AT_ONCE = 8
_YEAR_NS = 365 * 24 * 3600 * 1_000_000_000
_SECOND_NS = 1_000_000_000
_BOXES: tuple[Box, Box] = ("in", "act")


class JetStreamDelivery:
    """A message out of a work queue."""

    __slots__ = ("_client", "_message", "address", "body", "box", "headers", "sequence")

    def __init__(self, client: Client, box: Box, sequence: int, message: Msg) -> None:
        self._client = client
        self._message = message
        self.box: Box = box
        self.address = Subjects.address(message.subject)
        self.sequence = sequence
        self.headers: Headers = message.headers or {}
        self.body: bytes = message.data

    async def ack(self) -> None:
        await self._client.publish(self._message.reply, b"+ACK")


class _Consumer:
    """One pull consumer and its open pull request."""

    def __init__(self, mail: "JetStreamMail", inbox: str, box: Box, shard: int, epoch: int, receive: Receive) -> None:
        self._mail = mail
        self.box: Box = box
        self.shard = shard
        self.epoch = epoch
        self.name = f"s{shard}_{epoch}_{secrets.token_hex(4)}"
        self.stream = mail.subjects.mail_stream(box)
        self._receive = receive
        self._reply = f"{inbox}.{self.name}"
        self._left = 0
        self.heard = asyncio.get_running_loop().time()
        self.pull_wanted = asyncio.Event()
        self.gone = asyncio.Event()

    async def create(self) -> None:
        config = {
            "name": self.name,
            "durable_name": self.name,
            "filter_subject": self._mail.subjects.stored(self.box, self.shard),
            "ack_policy": "explicit",
            "ack_wait": _YEAR_NS,
            "max_ack_pending": -1,
            "max_deliver": -1,
            "deliver_policy": "all",
        }
        body = {"stream_name": self.stream, "config": config, "action": "create"}
        await self._mail.api.call(f"CONSUMER.CREATE.{self.stream}.{self.name}.{config['filter_subject']}", body)

    async def run(self) -> None:
        """Keeps one pull request open until the consumer is gone."""
        while not self.gone.is_set():
            self.pull_wanted.clear()
            self._left = PULL_BATCH
            body = encode(
                {
                    "batch": PULL_BATCH,
                    "expires": int(PULL_EXPIRES_S * _SECOND_NS),
                    "idle_heartbeat": int(HEARTBEAT_S * _SECOND_NS),
                }
            )
            await self._mail.client.publish(
                f"$JS.API.CONSUMER.MSG.NEXT.{self.stream}.{self.name}", body, reply=self._reply
            )
            await self._wait_pull_wanted()

    def close(self) -> None:
        self.gone.set()
        self.pull_wanted.set()

    async def _wait_pull_wanted(self) -> None:
        """Returns when the request is used up or when the server has been silent for three heartbeats."""
        loop = asyncio.get_running_loop()
        self.heard = loop.time()
        while not self.pull_wanted.is_set():
            silence_s = loop.time() - self.heard
            if silence_s > 3 * HEARTBEAT_S:
                _log.warning("a mailbox consumer is silent, pulling again", shard=self.shard, box=self.box)
                return
            try:
                async with asyncio.timeout(3 * HEARTBEAT_S - silence_s + 0.1):
                    await self.pull_wanted.wait()
            except TimeoutError:
                continue

    def take(self, sequence: int, message: Msg) -> None:
        """Delivers a message of this consumer."""
        self.heard = asyncio.get_running_loop().time()
        self._receive(JetStreamDelivery(self._mail.client, self.box, sequence, message))
        self._left -= 1
        if self._left <= 0:
            self.pull_wanted.set()

    def told(self, code: str, description: str) -> None:
        """Acts on a status of the open pull request: a deleted consumer is lost, any other end wants a new request."""
        self.heard = asyncio.get_running_loop().time()
        if code == "409" and "Deleted" in description:
            self.close()
        elif code != HEARTBEAT:
            self.pull_wanted.set()


class JetStreamMail:
    """The mailboxes of one application on one connection."""

    def __init__(self, client: Client, replies: ReplyInbox, api: JetStreamApi, subjects: Subjects) -> None:
        self.client = client
        self.replies = replies
        self.api = api
        self.subjects = subjects

    async def post(
        self,
        box: Box,
        address: Address,
        body: bytes,
        headers: Headers | None = None,
        *,
        message_id: str | None = None,
    ) -> int:
        """The sequence of the stored message; see ``Mail.post``."""
        subject = self.subjects.mail(box, address)
        if message_id is not None:
            headers = {**(headers or {}), MESSAGE_ID: message_id}
        check_size(self.client, body, headers)
        ack = await publish_acked(self.replies, subject, body, headers, timeout_s=POST_TIMEOUT_S)
        if ack.error is not None:
            raise refused(subject, ack.error, MailboxFull if box == "in" else StoreFull)
        return ack.seq

    @asynccontextmanager
    async def serve(
        self, receive: Receive, lost: Callable[[int], None]
    ) -> AsyncGenerator[Callable[[], Awaitable[None]]]:
        """Delivers the mail of all shards; see ``Mail.serve``."""
        service = _Service(self, receive, lost)
        async with service.running():
            yield service.take_over

    async def claim(self, shard: int) -> int:
        """A new epoch for a shard: the revision of this claim in the lease bucket, which only ever grows."""
        subject = f"$KV.{self.subjects.lease_bucket}.{shard}"
        ack = await publish_acked(self.replies, subject, b"{}", None, timeout_s=POST_TIMEOUT_S)
        if ack.error is not None:
            raise refused(subject, ack.error)
        return ack.seq

    async def consumers(self, box: Box) -> list[str]:
        """The names of all consumers of a mailbox."""
        names: list[str] = []
        while True:
            verb = f"CONSUMER.NAMES.{self.subjects.mail_stream(box)}"
            page = await self.api.call(verb, {"offset": len(names)})
            names += page.get("consumers") or []
            if len(names) >= page["total"]:
                return names

    async def delete_consumer(self, box: Box, name: str) -> None:
        """Deletes a consumer; one that is already gone is fine."""
        try:
            await self.api.call(f"CONSUMER.DELETE.{self.subjects.mail_stream(box)}.{name}")
        except ApiError as error:
            if error.refusal.err_code != CONSUMER_NOT_FOUND:
                raise


class _Service:
    """The consumers of all shards that this node holds now."""

    def __init__(self, mail: JetStreamMail, receive: Receive, lost: Callable[[int], None]) -> None:
        self._mail = mail
        self._receive = receive
        self._lost = lost
        self._inbox: str = mail.client.new_inbox()
        self._tasks = asyncio.TaskGroup()
        self._held: dict[str, _Consumer] = {}

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Serves all shards while the block runs; at its end the consumers are removed, the mail stays."""
        pulls = await self._mail.client.subscribe(f"{self._inbox}.*", cb=self._dispatch)
        try:
            async with self._tasks:
                try:
                    await self.take_over()
                    yield
                finally:
                    held = self._release()
            await self._delete(held)
        finally:
            if self._mail.client.is_connected:
                await pulls.unsubscribe()

    async def take_over(self) -> None:
        """Claims every shard and serves it from its first message that is not acknowledged."""
        self._release()
        epochs = await asyncio.gather(*(self._mail.claim(shard) for shard in range(SHARDS)))
        await asyncio.gather(*(self._clear(box, dict(enumerate(epochs))) for box in _BOXES))
        limit = asyncio.Semaphore(TAKEOVERS_AT_ONCE)

        async def start(box: Box, shard: int, epoch: int) -> None:
            async with limit:
                await self._start(box, shard, epoch)

        await asyncio.gather(*(start(box, shard, epoch) for shard, epoch in enumerate(epochs) for box in _BOXES))

    async def _start(self, box: Box, shard: int, epoch: int) -> None:
        """Creates the consumer of one mailbox of a shard, unless a later claim has been there first."""
        consumer = _Consumer(self._mail, self._inbox, box, shard, epoch, self._receive)
        for _ in range(3):
            try:
                await consumer.create()
                break
            except ApiError as error:
                if error.refusal.err_code != CONSUMER_NOT_UNIQUE:
                    raise
                if not await self._clear(box, {shard: epoch}):
                    self._give_up(consumer)
                    return
        else:
            self._give_up(consumer)
            return
        self._held[consumer.name] = consumer
        self._tasks.create_task(self._run(consumer))

    async def _run(self, consumer: _Consumer) -> None:
        await consumer.run()
        if self._held.pop(consumer.name, None) is not None:
            self._give_up(consumer)

    async def _dispatch(self, message: Msg) -> None:
        """Mail comes under its own subject and names its consumer where it wants the acknowledgement; the rest is status."""
        code = status(message)
        if code is not None:
            consumer = self._held.get(message.subject.rpartition(".")[2])
            if consumer is not None:
                consumer.told(code, (message.headers or {}).get("Description", ""))
            return
        name, sequence = parse_ack(message.reply)
        consumer = self._held.get(name)
        if consumer is not None:
            consumer.take(sequence, message)

    async def _clear(self, box: Box, epochs: dict[int, int]) -> bool:
        """Deletes the consumers of lower epochs; False when one of a higher epoch serves a shard already."""
        doomed: list[str] = []
        highest = True
        for name in await self._mail.consumers(box):
            shard, epoch = parse_consumer(name)
            if shard in epochs and epoch < epochs[shard]:
                doomed.append(name)
            elif shard in epochs and epoch > epochs[shard]:
                highest = False
        await asyncio.gather(*(self._mail.delete_consumer(box, name) for name in doomed))
        return highest

    def _give_up(self, consumer: _Consumer) -> None:
        consumer.close()
        _log.debug("another node serves this shard now", shard=consumer.shard, box=consumer.box)
        self._lost(consumer.shard)

    def _release(self) -> list[_Consumer]:
        held, self._held = list(self._held.values()), {}
        for consumer in held:
            consumer.close()
        return held

    async def _delete(self, consumers: Iterable[_Consumer]) -> None:
        """On a clean end the consumers are removed; a server that is gone keeps them for the next takeover."""
        try:
            await asyncio.gather(*(self._mail.delete_consumer(each.box, each.name) for each in consumers))
        except (ApiError, RequestTimeout, NoResponder) as error:
            _log.warning("consumers were left for the next takeover", error=str(error))


def parse_consumer(name: str) -> tuple[int, int]:
    """Shard and epoch in a consumer's name; (-1, 0) for a consumer that is not a shard's."""
    parts = name.split("_")
    if len(parts) == 3 and parts[0].startswith("s") and parts[0][1:].isdigit() and parts[1].isdigit():
        return int(parts[0][1:]), int(parts[1])
    return -1, 0


def parse_ack(subject: str) -> tuple[str, int]:
    """Consumer and stream sequence in an acknowledgement subject, which has nine tokens, or more with a domain (ADR-15)."""
    tokens = subject.split(".")
    first = 2 if len(tokens) == 9 else 4
    return tokens[first + 1], int(tokens[first + 3])
