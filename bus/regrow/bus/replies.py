"""One reply inbox for a whole connection: one wildcard subscription and a dict from token to whoever waits.

A request costs a dict entry and a timer instead of a subscription and a task of its own, which is what makes thousands of
appends in flight affordable. Everything runs on the connection's event loop; nothing here waits except ``request``.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Self

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from regrow.bus.errors import NoResponder, RequestTimeout
from regrow.bus.headers import Headers

OnReply = Callable[[Msg], None]

STATUS = "Status"
NO_RESPONDERS = "503"


class ReplyInbox:
    """Reply subjects of one connection. Use as an async context manager around everything that asks."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._prefix: str = client.new_inbox()
        self._waiting: dict[str, OnReply] = {}
        self._next = 0
        self._subscription: Subscription | None = None

    async def __aenter__(self) -> Self:
        self._subscription = await self._client.subscribe(f"{self._prefix}.*", cb=self._dispatch)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._waiting.clear()
        if self._subscription is not None and self._client.is_connected:
            await self._subscription.unsubscribe()

    def open(self, on_reply: OnReply) -> str:
        """A fresh reply subject; every message to it goes to the callback until ``close``."""
        self._next += 1
        subject = f"{self._prefix}.{self._next}"
        self._waiting[subject] = on_reply
        return subject

    def close(self, subject: str) -> None:
        """Forgets a reply subject; what still arrives there is dropped."""
        self._waiting.pop(subject, None)

    @asynccontextmanager
    async def listening(self, on_reply: OnReply) -> AsyncGenerator[str]:
        """A fresh reply subject for as long as the block runs."""
        subject = self.open(on_reply)
        try:
            yield subject
        finally:
            self.close(subject)

    async def request(self, subject: str, body: bytes, headers: Headers | None = None, *, timeout_s: float) -> Msg:
        """The first reply. Raises ``NoResponder`` when nobody serves the subject, ``RequestTimeout`` after the time."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Msg] = loop.create_future()

        def settle(message: Msg) -> None:
            if not answer.done():
                answer.set_result(message)

        def give_up() -> None:
            if not answer.done():
                answer.set_exception(RequestTimeout(subject, timeout_s))

        reply = self.open(settle)
        timer = loop.call_later(timeout_s, give_up)
        try:
            await self._client.publish(subject, body, reply=reply, headers=dict(headers) if headers else None)
            message = await answer
        finally:
            timer.cancel()
            self.close(reply)
        if status(message) == NO_RESPONDERS:
            raise NoResponder(subject)
        return message

    async def _dispatch(self, message: Msg) -> None:
        on_reply = self._waiting.get(message.subject)
        if on_reply is not None:
            on_reply(message)


def status(message: Msg) -> str | None:
    """The status of a message that the server made itself (``204``, ``404``, ``409``, ``503``), None for all others."""
    headers = message.headers
    if not headers or message.data:
        return None
    return headers.get(STATUS)
