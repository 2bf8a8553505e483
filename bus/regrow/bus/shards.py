"""The calls by which a node claims shards and keeps their consumers on the server.

A claim is a record in the lease bucket; its revision is the epoch, so epochs only ever grow. Consumers of a lower epoch are
deleted by whoever claimed later; one of a higher epoch means that somebody else did. A node that lets go of a shard says so in
its claim; where a claim does not say it, the mail that waits may be what its node died of.
"""

import base64
import secrets
from typing import Any, NamedTuple

import msgspec

from regrow.bus.api import (
    CONSUMER_NOT_FOUND,
    CONSUMER_NOT_UNIQUE,
    MESSAGE_NOT_FOUND,
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
from regrow.bus.publishing import publish_acked, refused
from regrow.bus.replies import ReplyInbox
from regrow.bus.subjects import BOXES, Box, Subjects

CALL_TIMEOUT_S = 10.0
FRUITLESS_MAX = 5
"""A shard is given up as blocked after this many refusals in which no consumer was seen that could be deleted."""


class Claim(msgspec.Struct, frozen=True):
    """What stands in the lease bucket."""

    owner: str
    released: bool = False
    """Whether the owner has let go of the shard by itself."""


class LastClaim(NamedTuple):
    """The last claim of a shard."""

    epoch: int
    claim: Claim


class Shards:
    """One node's hold on the shards of an application."""

    def __init__(self, replies: ReplyInbox, api: JetStreamApi, subjects: Subjects) -> None:
        self._replies = replies
        self._api = api
        self.subjects = subjects
        self._in_memory = False
        self._owner = secrets.token_hex(8)
        self._unclean: set[int] = set()
        """Shards that were taken from a node which had not let go of them, while it is not known what waited there."""
        self._suspect_up_to: dict[tuple[Box, int], int] = {}

    async def claim(self, shard: int, after: int | None = None) -> int | None:
        """A new epoch for the shard; None when the claim of epoch ``after`` is not the last one any more.

        Without ``after`` the shard is claimed from whoever has it.
        """
        if after is None:
            return await self._seize(shard)
        epoch = await self._write(shard, Claim(self._owner), after)
        if epoch is not None:
            return epoch
        last = await self.look(shard)
        return last.epoch if last is not None and self.is_mine(last.claim) else None

    async def release(self, shard: int, epoch: int) -> None:
        """Says in the lease bucket that this node has let go of the shard, unless somebody else has claimed it meanwhile."""
        await self._write(shard, Claim(self._owner, released=True), epoch)

    async def look(self, shard: int) -> LastClaim | None:
        """The last claim of the shard as the leader of the lease bucket knows it; None when there never was one."""
        verb = f"STREAM.MSG.GET.{self.subjects.lease_stream}"
        try:
            answer = await self._api.call(verb, {"last_by_subj": self._subject(shard)})
        except ApiError as error:
            if error.refusal.err_code == MESSAGE_NOT_FOUND:
                return None
            raise
        last: dict[str, Any] = answer["message"]
        return LastClaim(int(last["seq"]), decode(base64.b64decode(last["data"]), Claim, "claim of a shard"))

    def is_mine(self, claim: Claim) -> bool:
        return claim.owner == self._owner and not claim.released

    async def settle_suspects(self) -> None:
        """Notes what waits in shards that were taken from a node which had not let go of them: all that is stored now."""
        if not self._unclean:
            return
        last = await together(self.last_sequence(box) for box in BOXES)
        for box, sequence in zip(BOXES, last, strict=True):
            self._suspect_up_to.update({(box, shard): sequence for shard in self._unclean})
        self._unclean.clear()

    def is_suspect(self, box: Box, shard: int, sequence: int) -> bool:
        """Whether the message waited when its shard was taken from a node that had not let go of it."""
        return sequence <= self._suspect_up_to.get((box, shard), 0)

    async def _seize(self, shard: int) -> int:
        """Claims the shard after whatever claim is the last, so that what is known of that one is true of the one before ours.

        What was found out stays through claims of our own: one whose acknowledgement was lost is followed by another.
        """
        while True:
            last = await self.look(shard)
            if last is None or last.claim.owner != self._owner:
                self._judge(shard, last)
            epoch = await self._write(shard, Claim(self._owner), last.epoch if last else 0)
            if epoch is not None:
                return epoch

    def _judge(self, shard: int, last: LastClaim | None) -> None:
        """What the claim before ours says of the mail that waits."""
        self._unclean.discard(shard)
        for box in BOXES:
            self._suspect_up_to.pop((box, shard), None)
        if last is not None and not last.claim.released:
            self._unclean.add(shard)

    async def _write(self, shard: int, claim: Claim, after: int) -> int | None:
        """The epoch of a new claim; None when ``after`` is not the last one's."""
        subject = self._subject(shard)
        ack = await publish_acked(self._replies, subject, encode(claim), fence(after), timeout_s=CALL_TIMEOUT_S)
        if ack.error is None:
            return ack.seq
        if ack.error.err_code in (WRONG_LAST_SEQUENCE, WRONG_LAST_SEQUENCE_UNKNOWN):
            return None
        raise refused(subject, ack.error)

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

    async def learn(self) -> None:
        """Finds out where consumers are kept: in memory, but on a cluster on disk, for two servers that restart one after the
        other would leave none who knows them."""
        info = await self._api.call(f"STREAM.INFO.{self.subjects.mail_stream('act')}")
        self._in_memory = info["config"]["num_replicas"] == 1

    async def create(self, consumer: Consumer) -> bool:
        """Makes the consumer in place of those of lower epochs; False when one of a higher epoch is there.

        Raises ``StoreUnavailable`` when a consumer that regrow did not make holds the shard's mail.
        """
        stream = self.subjects.mail_stream(consumer.box)
        subject = self.subjects.stored(consumer.box, consumer.shard)
        body = {
            "stream_name": stream,
            "config": consumer.config(subject, in_memory=self._in_memory),
            "action": "create",
        }
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

    async def last_sequence(self, box: Box) -> int:
        """The sequence of the last message that was ever put into a mailbox."""
        info = await self._api.call(f"STREAM.INFO.{self.subjects.mail_stream(box)}")
        return int(info["state"]["last_seq"])

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
