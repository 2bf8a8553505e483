"""One reply inbox for a whole connection: one wildcard subscription and a dict from token to whoever waits.

A request costs a dict entry and a timer instead of a subscription and a task of its own, which is what makes thousands of
appends in flight affordable. Everything runs on the connection's event loop; nothing here waits except ``request``.

An answer that was under way when the connection broke never comes. nats-py connects again without a word, so the inbox looks
at its count of reconnections and tells whoever waits for an answer over an earlier connection that it is lost. A question that
the server refused these credentials has no answer either: the oldest request to that subject fails.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any, NamedTuple, Self, TypeVar

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from regrow.bus.client import BusClient, publish_nowait
from regrow.bus.errors import AccessDenied, BusError, NoResponder, RequestTimeout, Unreachable
from regrow.bus.headers import Headers

T = TypeVar("T")

OnReply = Callable[[Msg], None]
OnLost = Callable[[], None]
OnDenied = Callable[[AccessDenied], None]

STATUS = "Status"
DESCRIPTION = "Description"
NO_RESPONDERS = "503"
WATCH_S = 0.1
"""How often the inbox looks whether the connection is another one, and whose time is over."""
EXACT_S = 2.0
"""Shorter time limits have a timer of their own: setting one costs as much as the question, and a long limit need not be exact."""


class _Waiting(NamedTuple):
    on_reply: OnReply
    on_lost: OnLost | None
    connection: int
    on_denied: OnDenied | None
    subject: str
    due_s: float = math.inf
    """When its time is over, by the loop's clock."""


class _Asked(msgspec.Struct, frozen=True, gc=False):
    read: Callable[[bytes], Any]
    on_answer: Callable[[Any], None]
    """Called once, with what was read from the first reply or None, and then nobody waits any more."""
    connection: int
    subject: str
    due_s: float


class ReplyInbox:
    """Reply subjects of one connection. Use as an async context manager around everything that asks."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._prefix: str = client.new_inbox()
        self._waiting: dict[str, _Waiting] = {}
        self._asked: dict[str, _Asked] = {}
        self._next = 0
        self._subscription: Subscription | None = None
        self._connection = 0
        self._listeners: dict[int, OnLost] = {}
        self._watch: asyncio.TimerHandle | None = None
        self._left = False
        self._hearing = ExitStack()

    async def __aenter__(self) -> Self:
        self._subscription = await subscribe(self._client, f"{self._prefix}.*", self._receive)
        self._connection = self._client.stats["reconnects"]
        self._look()
        if isinstance(self._client, BusClient):
            self._hearing.enter_context(self._client.denials(self._deny))
            self._hearing.enter_context(self._client.hearing_at_once(self._subscription, self._dispatch))
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._left = True
        self._hearing.close()
        if self._watch is not None:
            self._watch.cancel()
        self._lose_all()
        if self._subscription is not None:
            await unsubscribe(self._client, self._subscription)

    @property
    def closed(self) -> bool:
        """Whether no answer can come any more: the inbox was left, or its connection is closed for good."""
        return self._left or self._client.is_closed or self._client.is_draining

    def open(
        self,
        on_reply: OnReply,
        on_lost: OnLost | None = None,
        on_denied: OnDenied | None = None,
        *,
        subject: str = "",
        due_s: float = math.inf,
    ) -> str:
        """A fresh reply subject; every message to it goes to the callback until ``close``.

        ``on_lost`` is called when the connection, over which the question must go out before the next ``await``, broke, and at
        the first look after ``due_s``; ``on_denied`` when the server refused these credentials the publish of the question to
        ``subject``.
        """
        self._next += 1
        reply = f"{self._prefix}.{self._next}"
        # What is published while nats-py reconnects waits in its buffer and goes out over the next connection.
        connection = self._client.stats["reconnects"] + (not self._client.is_connected)
        self._waiting[reply] = _Waiting(on_reply, on_lost, connection, on_denied, subject, due_s)
        return reply

    def close(self, subject: str) -> None:
        """Forgets a reply subject; what still arrives there is dropped."""
        self._waiting.pop(subject, None)

    @asynccontextmanager
    async def listening(self, on_reply: OnReply, on_lost: OnLost | None = None) -> AsyncGenerator[str]:
        """A fresh reply subject for as long as the block runs."""
        subject = self.open(on_reply, on_lost)
        try:
            yield subject
        finally:
            self.close(subject)

    @contextmanager
    def interruptions(self, listener: OnLost) -> Generator[None]:
        """Calls the listener whenever the connection has been replaced by another one, or is closed for good."""
        self._next += 1
        key = self._next
        self._listeners[key] = listener
        try:
            yield
        finally:
            del self._listeners[key]

    async def send(self, subject: str, body: bytes, reply: str = "", headers: Headers | None = None) -> None:
        """Publishes. Raises ``Unreachable`` when the connection is closed, or broken with its buffer full."""
        if self.closed:
            raise Unreachable(self._server())
        try:
            await self._client.publish(subject, body, reply=reply, headers=dict(headers) if headers else None)
        except NatsError as error:
            raise Unreachable(self._server()) from error

    def ask(
        self,
        subject: str,
        body: bytes,
        head: bytes,
        read: Callable[[bytes], T | None],
        on_answer: Callable[[T | None], None],
        *,
        timeout_s: float,
    ) -> None:
        """Publishes a question here and now; the callback gets what is read from the first reply, or None when none is known to
        come.

        For many small questions: no task, no future, and a time limit that is looked at every ``WATCH_S``. ``head``: the
        headers as they are on the wire.
        """
        self._next += 1
        reply = f"{self._prefix}.{self._next}"
        loop, client = asyncio.get_running_loop(), self._client
        if self._left or not publish_nowait(client, subject, body, reply, head, at_once=not self._asked):
            loop.call_soon(on_answer, None)
            return
        self._asked[reply] = _Asked(read, on_answer, client.stats["reconnects"], subject, loop.time() + timeout_s)

    async def request(self, subject: str, body: bytes, headers: Headers | None = None, *, timeout_s: float) -> Msg:
        """The first reply. Raises ``NoResponder`` when nobody serves the subject, ``AccessDenied`` when these
        credentials may not ask there, ``Unreachable`` when nothing was sent, ``RequestTimeout`` after the time or when the
        connection broke meanwhile."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Msg] = loop.create_future()

        def settle(message: Msg) -> None:
            if not answer.done():
                answer.set_result(message)

        def fail(error: BusError) -> None:
            if not answer.done():
                answer.set_exception(error)

        due_s = loop.time() + timeout_s

        def give_up() -> None:
            fail(RequestTimeout(subject, timeout_s if loop.time() >= due_s else None))

        reply = self.open(settle, give_up, fail, subject=subject, due_s=due_s)
        timer = loop.call_at(due_s, give_up) if timeout_s < EXACT_S else None
        try:
            await self.send(subject, body, reply, headers)
            message = await answer
        finally:
            self.close(reply)
            if timer is not None:
                timer.cancel()
            answer.cancel()
        if status(message) == NO_RESPONDERS:
            raise NoResponder(subject)
        return message

    async def settle(self) -> None:
        """Returns once the server has done what was asked of it so far, such as a subscription.

        A message to oneself shows it. nats-py's ``flush`` does not: its PING overtakes the commands that wait in its buffer.
        """
        arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def settle(_: Msg | None = None) -> None:
            if not arrived.done():
                arrived.set_result(None)

        async with self.listening(settle, settle) as subject:
            await self.send(subject, b"")
            await arrived

    async def _receive(self, message: Msg) -> None:
        self._dispatch(message.subject, message.reply, message.data, message.headers)

    def _dispatch(self, subject: str, reply: str, data: bytes, headers: dict[str, str] | None) -> None:
        asked = self._asked.pop(subject, None)
        if asked is not None:
            asked.on_answer(asked.read(data))
        elif (waiting := self._waiting.get(subject)) is not None:
            waiting.on_reply(Msg(self._client, subject, reply, data, headers))

    def _look(self) -> None:
        """Runs every ``WATCH_S`` until the connection is closed."""
        if self._client.is_closed:
            self._lose_all()
            self._tell()
            return
        loop = asyncio.get_running_loop()
        self._watch = loop.call_later(WATCH_S, self._look)
        now_s = loop.time()
        self._lose(lambda each: each.due_s <= now_s)
        connection: int = self._client.stats["reconnects"]
        if connection != self._connection:
            self._connection = connection
            self._lose(lambda each: each.connection < connection)
            self._tell()

    def _lose_all(self) -> None:
        self._lose(lambda _: True)

    def _lose(self, lost: Callable[[_Waiting | _Asked], bool]) -> None:
        """No answer comes to these any more."""
        for reply, asked in [each for each in self._asked.items() if lost(each[1])]:
            del self._asked[reply]
            asked.on_answer(None)
        for waiting in [each for each in self._waiting.values() if lost(each)]:
            if waiting.on_lost is not None:
                waiting.on_lost()

    def _deny(self, subject: str) -> bool:
        """Whether somebody asks there. One refusal is that of one question, and they come in order; only where subjects that
        differ in case alone are asked at once nobody can say whose it was, and the time decides."""
        subjects = {reply: each.subject for reply, each in self._waiting.items()}
        subjects.update((reply, each.subject) for reply, each in self._asked.items())
        asking = {reply: each for reply, each in subjects.items() if each.lower() == subject}
        if len(set(asking.values())) == 1:
            self._refuse(min(asking, key=_number))
        return bool(asking)

    def _refuse(self, reply: str) -> None:
        """The server took no question with this reply subject."""
        asked, waiting = self._asked.pop(reply, None), self._waiting.pop(reply, None)
        if asked is not None:
            asked.on_answer(None)
        elif waiting is not None and waiting.on_denied is not None:
            waiting.on_denied(AccessDenied(waiting.subject))

    def _tell(self) -> None:
        for listener in list(self._listeners.values()):
            listener()

    def _server(self) -> str:
        """Host and port of the server, without the credentials that its address may hold."""
        url = self._client.connected_url
        return f"{url.hostname}:{url.port}" if url is not None else "the address of this connection"


async def subscribe(
    client: Client, subject: str, on_message: Callable[[Msg], Awaitable[None]], queue: str = ""
) -> Subscription:
    """A subscription that drops nothing: what it may hold is bounded by what was asked for, not by nats-py's limits."""
    try:
        return await client.subscribe(subject, queue, on_message, pending_msgs_limit=0, pending_bytes_limit=0)
    except NatsError as error:
        raise Unreachable(subject) from error


async def unsubscribe(client: Client, subscription: Subscription) -> None:
    """Ends a subscription, also while nats-py reconnects, lest it comes back with the connection."""
    if client.is_closed or client.is_draining:
        return
    await subscription.unsubscribe()


def status(message: Msg) -> str | None:
    """The status of a message that the server made itself (``204``, ``404``, ``409``, ``503``), None for all others."""
    headers = message.headers
    if not headers or message.data:
        return None
    return headers.get(STATUS)


def _number(reply: str) -> int:
    """Of a reply subject: they are given out in rising order."""
    return int(reply.rpartition(".")[2])
