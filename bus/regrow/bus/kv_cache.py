"""The cache on NATS: a key-value bucket whose keys have a time to live each.

Its stream is made when it is first used, for it holds nothing that could be lost: a store without it is whole. When it is full
the oldest go.
"""

from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg

from regrow.bus.api import FENCED, STREAM_NOT_FOUND, ApiError, JetStreamApi
from regrow.bus.cache import TTL_MIN_S, Held
from regrow.bus.errors import NoResponder
from regrow.bus.headers import fence
from regrow.bus.pages import SUBJECT, Pages, sequence_of, stored_ns
from regrow.bus.publishing import check_size, publish_acked, refused
from regrow.bus.replies import ReplyInbox
from regrow.bus.subjects import Subjects

BYTES_MAX = 256 * 1024 * 1024
PUT_TIMEOUT_S = 5.0
TTL = "Nats-TTL"
TAGS = "Rg-Tags"


class KvCache:
    """See ``Cache``."""

    def __init__(self, client: Client, replies: ReplyInbox, subjects: Subjects) -> None:
        self._client = client
        self._replies = replies
        self._api = JetStreamApi(replies)
        self._pages = Pages(replies)
        self._bucket = subjects.cache_bucket
        self._stream = f"KV_{subjects.cache_bucket}"
        self._root = f"$KV.{subjects.cache_bucket}."

    async def get(self, name: str) -> Held | None:
        """What is held under a name."""
        try:
            message = await self._pages.last(self._stream, self._root + name)
        except NoResponder:  # the stream was not made yet
            return None
        return self._held(message) if message is not None else None

    async def put(self, name: str, data: bytes, *, after: int, ttl_s: float, tags: tuple[str, ...] = ()) -> int | None:
        """Holds bytes for a while; see ``Cache.put``."""
        headers = fence(after) | {TTL: f"{max(TTL_MIN_S, ttl_s):.0f}s"} | ({TAGS: ",".join(tags)} if tags else {})
        subject = self._root + name
        check_size(self._client, data, headers)
        try:
            ack = await publish_acked(self._replies, subject, data, headers, timeout_s=PUT_TIMEOUT_S)
        except NoResponder:
            await self._make()
            ack = await publish_acked(self._replies, subject, data, headers, timeout_s=PUT_TIMEOUT_S)
        if ack.error is None:
            return ack.seq
        if ack.error.err_code in FENCED:
            return None
        raise refused(subject, ack.error)

    async def drop(self, name: str, revision: int) -> None:
        """Lets go of a revision, and of nothing that came later."""
        if await self._is_made():
            await self._api.call(f"STREAM.PURGE.{self._stream}", {"filter": self._root + name, "seq": revision + 1})

    async def entries(self, group: str | None = None) -> list[Held]:
        """All that is held."""
        found: list[Held] = []
        if not await self._is_made():
            return found
        pattern, start = f"{self._root}{group}.*" if group is not None else f"{self._root}>", 1
        while True:
            page = await self._pages.page(self._stream, pattern, start)
            found += map(self._held, page.messages)
            if not page.pending or not page.messages:
                return found
            start = sequence_of(page.messages[-1]) + 1

    async def _is_made(self) -> bool:
        try:
            await self._api.call(f"STREAM.INFO.{self._stream}")
        except ApiError as error:
            if error.refusal.err_code != STREAM_NOT_FOUND:
                raise
            return False
        return True

    async def _make(self) -> None:
        config: dict[str, Any] = {
            "name": self._stream,
            "subjects": [f"{self._root}>"],
            "storage": "file",
            "retention": "limits",
            "discard": "old",
            "max_msgs_per_subject": 1,
            "max_bytes": BYTES_MAX,
            "allow_msg_ttl": True,
            "allow_direct": True,
        }
        await self._api.call(f"STREAM.CREATE.{self._stream}", config)

    def _held(self, message: Msg) -> Held:
        headers = message.headers or {}
        tags = tuple(headers.get(TAGS, "").split(",")) if headers.get(TAGS) else ()
        name = headers[SUBJECT].removeprefix(self._root)
        return Held(name, sequence_of(message), message.data, tags, stored_ns(message))
