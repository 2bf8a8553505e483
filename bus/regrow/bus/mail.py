"""The two mailboxes on JetStream work queues. How a node serves them is in ``service``, ``shards`` and ``consumer``."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from nats.aio.client import Client

from regrow.bus.api import JetStreamApi
from regrow.bus.errors import MailboxFull, StoreFull
from regrow.bus.headers import Headers, letter
from regrow.bus.log import check_size, publish_acked, refused
from regrow.bus.port import Receive
from regrow.bus.replies import ReplyInbox
from regrow.bus.service import MailService
from regrow.bus.shards import Shards
from regrow.bus.subjects import Address, Box, Subjects

POST_TIMEOUT_S = 10.0


class JetStreamMail:
    """The mailboxes of one application on one connection."""

    def __init__(self, client: Client, replies: ReplyInbox, api: JetStreamApi, subjects: Subjects) -> None:
        self._client = client
        self._replies = replies
        self._api = api
        self._subjects = subjects

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
        subject = self._subjects.mail(box, address)
        given = letter(box, headers, message_id)
        check_size(self._client, body, given)
        ack = await publish_acked(self._replies, subject, body, given, timeout_s=POST_TIMEOUT_S)
        if ack.error is not None:
            raise refused(subject, ack.error, MailboxFull if box == "in" else StoreFull)
        return ack.seq

    @asynccontextmanager
    async def serve(
        self, receive: Receive, lost: Callable[[int], None]
    ) -> AsyncGenerator[Callable[[], Awaitable[None]]]:
        """Delivers the mail of all shards; see ``Mail.serve``."""
        shards = Shards(self._replies, self._api, self._subjects)
        service = MailService(self._client, self._replies, shards, receive, lost)
        async with service.running():
            yield service.take_over
