"""The two mailboxes on JetStream work queues. How a node serves them is in ``service``, ``shards`` and ``consumer``."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from nats.aio.client import Client

from regrow.bus.api import MESSAGE_NOT_FOUND, ApiError, JetStreamApi
from regrow.bus.bodies import Bodies
from regrow.bus.claims import Claims
from regrow.bus.desk import MailDesk, stored_subject
from regrow.bus.errors import MailboxFull, StoreFull
from regrow.bus.headers import BLOB, Headers, letter
from regrow.bus.port import Holding, Receive
from regrow.bus.publishing import publish_acked, refused
from regrow.bus.replies import ReplyInbox
from regrow.bus.service import MailService
from regrow.bus.shards import Shards
from regrow.bus.subjects import BOXES, Address, Box, Subjects
from regrow.bus.timers import EVERY, check_timer, schedule

POST_TIMEOUT_S = 10.0


class JetStreamMail:
    """The mailboxes of one application on one connection."""

    def __init__(
        self, client: Client, replies: ReplyInbox, api: JetStreamApi, subjects: Subjects, claims: Claims
    ) -> None:
        self._client = client
        self._replies = replies
        self._api = api
        self._subjects = subjects
        self._bodies = Bodies(claims, lambda: client.max_payload)

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
        data, given = await self._bodies.pack(address, body, letter(box, headers, message_id), message_id)
        ack = await publish_acked(self._replies, subject, data, given, timeout_s=POST_TIMEOUT_S)
        if ack.error is not None:
            if message_id is None:
                await self._bodies.remove(address, given)
            raise refused(subject, ack.error, MailboxFull if box == "in" else StoreFull)
        if ack.duplicate and BLOB in given and not await self._is_stored(box, ack.seq):
            await self._bodies.remove(address, given)  # taken already, and nobody else will
        return ack.seq

    async def schedule(
        self, address: Address, timer: str, body: bytes, headers: Headers | None = None, *, at_ns: int
    ) -> None:
        """Puts a message into the actor's mailbox later; see ``Mail.schedule``.

        The server sends it up to a quarter of a second late when it is due soon or others are due around that time. A body that
        was put aside for a timer that was replaced or removed stays until the actor's mail is purged.
        """
        subject = self._subjects.timer(address, check_timer(timer))
        given = {**letter("act", headers, None), **schedule(at_ns, self._subjects.mail("act", address))}
        data, given = await self._bodies.pack(address, body, given, f"timer {timer} {at_ns}")
        ack = await publish_acked(self._replies, subject, data, given, timeout_s=POST_TIMEOUT_S)
        if ack.error is not None:
            raise refused(subject, ack.error)

    async def unschedule(self, address: Address, timer: str) -> None:
        """Removes a scheduled message; see ``Mail.unschedule``."""
        subject = self._subjects.timer(address, timer if timer == EVERY else check_timer(timer))
        await self._api.purge(self._subjects.mail_stream("act"), subject)

    async def purge(self, address: Address) -> None:
        """Removes all mail of an actor; see ``Mail.purge``. Its timers go first, for they become mail."""
        await self._api.purge(self._subjects.mail_stream("act"), self._subjects.timer(address, "*"))
        for box in BOXES:
            await self._api.purge(self._subjects.mail_stream(box), stored_subject(self._subjects, box, address))
        await self._bodies.drop(address)

    @asynccontextmanager
    async def serve(self, receive: Receive, lost: Callable[[int], None]) -> AsyncGenerator[Holding]:
        """Delivers the mail of all shards; see ``Mail.serve``."""
        shards = Shards(self._replies, self._api, self._subjects)
        desk = MailDesk(self._replies, self._api, self._subjects, self._bodies)
        service = MailService(self._client, self._replies, self._api, shards, desk, receive, lost)
        async with service.running():
            yield service

    async def _is_stored(self, box: Box, sequence: int) -> bool:
        try:
            await self._api.call(f"STREAM.MSG.GET.{self._subjects.mail_stream(box)}", {"seq": sequence})
        except ApiError as error:
            if error.refusal.err_code == MESSAGE_NOT_FOUND:
                return False
            raise
        return True
