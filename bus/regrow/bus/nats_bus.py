"""The bus on a real NATS server: one connection, one reply inbox, the log and the mailboxes of one application."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from nats.aio.client import Client
from nats.aio.msg import Msg

from regrow.bus.api import JetStreamApi, together
from regrow.bus.claims import Claims
from regrow.bus.dead_letters import JetStreamDeadLetters
from regrow.bus.fence import check_fence
from regrow.bus.headers import Headers
from regrow.bus.kv_cache import KvCache
from regrow.bus.log import JetStreamLog
from regrow.bus.mail import JetStreamMail
from regrow.bus.object_claims import ObjectClaims
from regrow.bus.port import Request
from regrow.bus.publishing import check_size
from regrow.bus.replies import ReplyInbox, subscribe, unsubscribe
from regrow.bus.streams import DEDUPLICATION_S, Finding, check_streams, create_streams, open_streams
from regrow.bus.subjects import LOG_STREAMS, Subjects, check_subject


class NatsBus:
    """One application's bus on a connected client. Made by ``open_bus``."""

    def __init__(self, client: Client, replies: ReplyInbox, subjects: Subjects, claims: Claims, epoch: str) -> None:
        self.subjects = subjects
        self.epoch = epoch
        self.claims = claims
        self.log = JetStreamLog(client, replies, subjects, claims)
        self._api = JetStreamApi(replies)
        self.mail = JetStreamMail(client, replies, self._api, subjects, claims)
        self.dead = JetStreamDeadLetters(client, replies, subjects, claims)
        self.cache = KvCache(client, replies, subjects)
        self._client = client
        self._replies = replies

    async def publish(self, subject: str, body: bytes, headers: Headers | None = None) -> None:
        """Sends to whoever listens now. Raises ``PayloadTooLarge`` before anything is sent."""
        check_size(self._client, body, headers)
        await self._replies.send(check_subject(subject), body, headers=headers)

    async def request(self, subject: str, body: bytes, headers: Headers | None = None, *, timeout_s: float) -> Request:
        """The first answer. Raises ``NoResponder``, ``RequestTimeout``, ``PayloadTooLarge``."""
        check_size(self._client, body, headers)
        return _request(await self._replies.request(check_subject(subject), body, headers, timeout_s=timeout_s))

    async def count_records(self) -> int:
        """How many records the application's logs hold now, those that a snapshot has replaced not counted."""
        streams = [f"STREAM.INFO.{self.subjects.log_stream(number)}" for number in range(LOG_STREAMS)]
        answers = await together(self._api.call(verb) for verb in streams)
        return sum(int(answer["state"]["messages"]) for answer in answers)

    @asynccontextmanager
    async def serve(self, subject: str, handler: Callable[[Request], None], *, queue: str = "") -> AsyncGenerator[None]:
        """Calls the handler with each message to the subject for as long as the block runs."""

        async def receive(message: Msg) -> None:
            handler(_request(message))

        subscription = await subscribe(self._client, subject, receive, queue)
        try:
            await self._replies.settle()
            yield
        finally:
            await unsubscribe(self._client, subscription)

    @asynccontextmanager
    async def expect_reply(self, on_reply: Callable[[Request], None]) -> AsyncGenerator[str]:
        """A fresh reply subject for as long as the block runs."""
        async with self._replies.listening(lambda message: on_reply(_request(message))) as subject:
            yield subject


@asynccontextmanager
async def open_bus(
    client: Client,
    app: str,
    *,
    create: bool = False,
    replicas: int = 1,
    duplicate_window_s: float = DEDUPLICATION_S,
) -> AsyncGenerator[NatsBus]:
    """The bus of an application whose streams are on this server, or, with ``create``, are made on it first.

    Raises ``StoreUnavailable`` when a stream is missing or differs from its definition, or when the server does not heed the
    fence of an append, and with ``create`` ``StoreFull`` when it has less storage than the streams reserve.
    """
    subjects = Subjects(app)
    async with ReplyInbox(client) as replies:
        api = JetStreamApi(replies)
        if create:
            await create_streams(api, subjects, replicas=replicas, duplicate_window_s=duplicate_window_s)
        epoch = await open_streams(api, subjects)
        await check_fence(replies, subjects)
        claims = ObjectClaims(client, replies, subjects)
        async with claims.watching():
            yield NatsBus(client, replies, subjects, claims, epoch)


async def make_store(client: Client, app: str, *, replicas: int = 1) -> list[Finding]:
    """Makes the streams of an application that are not there yet, and says what became of each.

    Only for whoever knows that the store is new or whole: a server that lost its key misses all streams, and making them
    removes the old ones from disk. Raises ``StoreFull`` when the server has too little storage, ``ApiError`` when the server refuses a stream.
    """
    async with ReplyInbox(client) as replies:
        return await create_streams(JetStreamApi(replies), Subjects(app), replicas=replicas)


async def check_store(client: Client, app: str) -> list[Finding]:
    """How each stream of an application is found on this server; changes nothing."""
    async with ReplyInbox(client) as replies:
        return await check_streams(JetStreamApi(replies), Subjects(app))


def _request(message: Msg) -> Request:
    return Request(message.subject, message.data, message.headers or {}, message.reply)
