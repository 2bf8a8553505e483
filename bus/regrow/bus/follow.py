"""Many logs read as one: the records of all actors of a kind, stream by stream, and then whatever comes.

Nothing is kept on the server. The streams are read in turn, one page each, and a record that is announced live only makes its
stream be looked at sooner: what counts is the look, which is repeated every second, so that a broken connection hides nothing.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from regrow.bus.aside import Aside, fetch, stored
from regrow.bus.claims import Claims
from regrow.bus.errors import ClaimMissing, NoResponder, ReadBroken, RequestTimeout, Unreachable
from regrow.bus.pages import SUBJECT, Pages, sequence_of
from regrow.bus.port import Followed, Stored
from regrow.bus.replies import ReplyInbox, subscribe, unsubscribe
from regrow.bus.subjects import LOG_STREAMS, Address, Subjects, check_name, log_number

_log = structlog.get_logger(__name__)

LOOK_S = 1.0
"""At the latest so long after the last look all streams are looked at again."""
FOLLOW_BATCH = 256
"""Records of a page, which is what is held in memory."""


class Follower:
    """The records of one kind, read over one connection. Made anew for each reader."""

    def __init__(self, client: Client, replies: ReplyInbox, subjects: Subjects, claims: Claims, kind: str) -> None:
        self._client = client
        self._replies = replies
        self._subjects = subjects
        self._claims = claims
        self._kind = check_name("the kind", kind)
        self._pages = Pages(replies)
        self._wanted = set(range(LOG_STREAMS))
        self._woken = asyncio.Event()
        self._all_at = 0.0

    async def records(self, after: Mapping[int, int]) -> AsyncGenerator[Followed]:
        """Every record behind the given sequences; see ``EventLog.follow``.

        Raises ``ClaimMissing`` when what a record had put aside is lost, and ``Unreachable`` when the connection is closed.
        """
        seen = [after.get(number, 0) for number in range(LOG_STREAMS)]
        live = f"rg.{self._subjects.app}.live.{self._kind}.*"
        subscription = await subscribe(self._client, live, self._hear)
        try:
            while True:
                looked = sorted(self._wanted)
                self._wanted.clear()
                for number in looked:
                    for message in await self._page(number, seen[number]):
                        seen[number] = sequence_of(message)
                        followed = await self._followed(number, message)
                        if followed is not None:
                            yield followed
                await self._wait()
        finally:
            await unsubscribe(self._client, subscription)

    async def _page(self, number: int, after: int) -> list[Msg]:
        """The next records of one stream; the stream stays wanted while it has more, or does not answer."""
        stream = self._subjects.log_stream(number)
        pattern = f"rg.{self._subjects.app}.evt.{number}.{self._kind}.*"
        try:
            page = await self._pages.page(stream, pattern, after + 1, batch=FOLLOW_BATCH)
        except (ReadBroken, RequestTimeout, NoResponder, Unreachable) as error:
            if self._replies.closed:
                raise
            _log.warning("a stream is not read, trying again", stream=stream, error=str(error))
            return []
        if page.pending:
            self._wanted.add(number)
        return page.messages

    async def _followed(self, number: int, message: Msg) -> Followed | None:
        """The record with its bytes; None when it is no actor's, or a roll-up has replaced it before they were fetched."""
        address = actor_of(self._subjects, (message.headers or {})[SUBJECT])
        if address is None:
            return None
        record = stored(message)
        if isinstance(record, Aside):
            whole = await self._whole(number, address, record)
            return None if whole is None else Followed(number, address, whole)
        return Followed(number, address, record)

    async def _whole(self, number: int, address: Address, record: Aside) -> Stored | None:
        try:
            return await fetch(self._claims, address, record)
        except ClaimMissing:
            if await self._pages.at(self._subjects.log_stream(number), record.sequence) is not None:
                raise
            return None

    async def _wait(self) -> None:
        """Returns at once while a stream is wanted, else when a record is announced; with all wanted after a second."""
        loop = asyncio.get_running_loop()
        self._woken.clear()
        if not self._wanted:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._all_at):
                    await self._woken.wait()
        if loop.time() >= self._all_at:
            self._all_at = loop.time() + LOOK_S
            self._wanted.update(range(LOG_STREAMS))

    async def _hear(self, message: Msg) -> None:
        address = actor_of(self._subjects, message.subject)
        if address is not None:
            self._wanted.add(log_number(address))
            self._woken.set()


def actor_of(subjects: Subjects, subject: str) -> Address | None:
    """The actor whose log a subject is; None for one that only a stranger to the runtime can have written to."""
    try:
        return subjects.address(subject)
    except ValueError as error:
        _log.warning("a log belongs to no actor", subject=subject, error=str(error))
        return None
