"""The calls by which a node claims shards and keeps their consumers on the server.

A claim is a record in the lease bucket; its revision is the epoch, so epochs only ever grow. Consumers of a lower epoch are
deleted by whoever claimed later; one of a higher epoch means that somebody else did.
"""

import base64
import secrets
from typing import Any

import msgspec

from regrow.bus.api import (
    CONSUMER_NOT_FOUND,
    CONSUMER_NOT_UNIQUE,
    WRONG_LAST_SEQUENCE,
    WRONG_LAST_SEQUENCE_UNKNOWN,
    ApiError,
    JetStreamApi,
    together,
)
from regrow.bus.codec import decode, encode
from regrow.bus.consumer import Consumer, parse_name
from regrow.bus.errors import StoreUnavailable
from regrow.bus.headers import fence
from regrow.bus.log import publish_acked, refused
from regrow.bus.replies import ReplyInbox
from regrow.bus.subjects import Box, Subjects

CALL_TIMEOUT_S = 10.0
FRUITLESS_MAX = 5
"""A shard is given up as blocked after this many refusals in which no consumer was seen that could be deleted."""


class Claim(msgspec.Struct, frozen=True):
    """What stands in the lease bucket."""

    owner: str


class Shards:
    """One node's hold on the shards of an application."""

    def __init__(self, replies: ReplyInbox, api: JetStreamApi, subjects: Subjects) -> None:
        self._replies = replies
        self._api = api
        self.subjects = subjects
        self._owner = secrets.token_hex(8)

    async def claim(self, shard: int, after: int | None = None) -> int | None:
        """A new epoch for the shard; None when the claim of epoch ``after`` is not the last one any more.

        Without ``after`` the shard is claimed from whoever has it.
        """
        subject = self._subject(shard)
        given = None if after is None else fence(after)
        ack = await publish_acked(self._replies, subject, encode(Claim(self._owner)), given, timeout_s=CALL_TIMEOUT_S)
        if ack.error is None:
            return ack.seq
        if ack.error.err_code not in (WRONG_LAST_SEQUENCE, WRONG_LAST_SEQUENCE_UNKNOWN):
            raise refused(subject, ack.error)
        return await self._own_claim(shard)

    async def clear(self, box: Box, epochs: dict[int, int]) -> tuple[int, set[int]]:
        """Deletes the consumers of lower epochs; how many there were, and the shards that have one of a higher epoch."""
        lower: list[str] = []
        higher: set[int] = set()
        for name in await self._names(box):
            shard, epoch = parse_name(name)
            if shard not in epochs:
                continue
            if epoch < epochs[shard]:
                lower.append(name)
            elif epoch > epochs[shard]:
                higher.add(shard)
        await together(self.delete(box, name) for name in lower)
        return len(lower), higher

    async def create(self, consumer: Consumer) -> bool:
        """Makes the consumer in place of those of lower epochs; False when one of a higher epoch is there.

        Raises ``StoreUnavailable`` when a consumer that regrow did not make holds the shard's mail.
        """
        stream = self.subjects.mail_stream(consumer.box)
        subject = self.subjects.stored(consumer.box, consumer.shard)
        body = {"stream_name": stream, "config": consumer.config(subject), "action": "create"}
        fruitless = 0
        while fruitless < FRUITLESS_MAX:
            try:
                await self._api.call(f"CONSUMER.CREATE.{stream}.{consumer.name}.{subject}", body)
                return True
            except ApiError as error:
                if error.refusal.err_code != CONSUMER_NOT_UNIQUE:
                    raise
            deleted, higher = await self.clear(consumer.box, {consumer.shard: consumer.epoch})
            if higher:
                return False
            fruitless += not deleted
        raise StoreUnavailable(
            f"stream {stream} has a consumer on {subject} that regrow did not make; find it with "
            f"'nats consumer ls {stream}' and delete it"
        )

    async def delete(self, box: Box, name: str) -> None:
        """Deletes a consumer; one that is already gone is fine."""
        try:
            await self._api.call(f"CONSUMER.DELETE.{self.subjects.mail_stream(box)}.{name}")
        except ApiError as error:
            if error.refusal.err_code != CONSUMER_NOT_FOUND:
                raise

    def pull_subject(self, consumer: Consumer) -> str:
        return f"$JS.API.CONSUMER.MSG.NEXT.{self.subjects.mail_stream(consumer.box)}.{consumer.name}"

    async def _own_claim(self, shard: int) -> int | None:
        """The epoch of the last claim when it is this node's after all: its acknowledgement was lost."""
        answer = await self._api.call(
            f"STREAM.MSG.GET.{self.subjects.lease_stream}", {"last_by_subj": self._subject(shard)}
        )
        last: dict[str, Any] = answer["message"]
        claim = decode(base64.b64decode(last["data"]), Claim, "claim of a shard")
        return int(last["seq"]) if claim.owner == self._owner else None

    async def _names(self, box: Box) -> list[str]:
        """The names of all consumers of a mailbox."""
        names: list[str] = []
        while True:
            verb = f"CONSUMER.NAMES.{self.subjects.mail_stream(box)}"
            page = await self._api.call(verb, {"offset": len(names)})
            found: list[str] = page.get("consumers") or []
            names += found
            if not found or len(names) >= page["total"]:
                return names

    def _subject(self, shard: int) -> str:
        return f"$KV.{self.subjects.lease_bucket}.{shard}"
