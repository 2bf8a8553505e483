"""The messages that a node has been handed and has not acknowledged, and what is done with one of them on the server.

Acknowledgements are held back and sent together: each makes the server delete a message, and between two appends that costs
whoever waits for the next one. So they leave when none has been added for a moment, after ``ACK_HOLD_S`` where it never is that
quiet, and at once when many are held or many of one mailbox, where they count against its limit. Dying with some in hand only
makes handled messages come again, and they are known.
Messages that the host still has are not handed over a second time; their acknowledgement goes to the latest consumer. A body that
was put aside is removed only when the server has confirmed that its message is out of the mailbox.
"""

import asyncio
import base64
from collections import Counter, defaultdict

import structlog
from nats.aio.msg import Msg

from regrow.bus.api import MESSAGE_NOT_FOUND, ApiError, JetStreamApi
from regrow.bus.bodies import Bodies
from regrow.bus.consumer import Consumer, parse_ack
from regrow.bus.delivery import JetStreamDelivery
from regrow.bus.errors import NoResponder, RequestTimeout, Unreachable
from regrow.bus.headers import BLOB
from regrow.bus.replies import ReplyInbox
from regrow.bus.subjects import Address, Box, Subjects, shard_of

_log = structlog.get_logger(__name__)

ACK_QUIET_S = 0.02
"""Nothing was acknowledged for so long: nobody is in the middle of a series of turns that an acknowledgement would hold up."""
ACK_HOLD_S = 0.25
"""An acknowledgement is held no longer than this; what a node that dies had in hand comes again."""
ACKS_HELD_MAX = 256
ACKS_HELD_OF_ONE_MAX = 32
"""Of one mailbox: an outside one refuses the message after its 1,000th, and those that are only held still count."""
ACK_TIMEOUT_S = 10.0
RETRY_S = 0.25
_TRANSIENT = (RequestTimeout, NoResponder, Unreachable, ApiError)


class MailDesk:
    """One node's messages in hand."""

    def __init__(self, replies: ReplyInbox, api: JetStreamApi, subjects: Subjects, bodies: Bodies) -> None:
        self._replies = replies
        self._api = api
        self._subjects = subjects
        self._bodies = bodies
        self._unacked: defaultdict[int, dict[tuple[Box, int], JetStreamDelivery]] = defaultdict(dict)
        self._held: list[str] = []
        self._held_of: Counter[tuple[Box, Address]] = Counter()
        self._any_held = asyncio.Event()
        self._many_held = asyncio.Event()

    async def keep(self) -> None:
        """Sends the acknowledgements that are held back, until cancelled."""
        while True:
            await self._any_held.wait()
            await self._hold()
            await self.flush()

    async def _hold(self) -> None:
        """Returns when nothing more was acknowledged for a moment, when it has lasted too long, or when it is too many."""
        loop = asyncio.get_running_loop()
        until_s, held = loop.time() + ACK_HOLD_S, 0
        while held < len(self._held) and loop.time() < until_s:
            held = len(self._held)
            try:
                async with asyncio.timeout(ACK_QUIET_S):
                    await self._many_held.wait()
                    return
            except TimeoutError:
                continue  # has it been quiet?

    async def flush(self) -> None:
        """Sends the acknowledgements that are held back. One that cannot be sent is as one that is lost: the message comes again."""
        held, self._held = self._held, []
        self._held_of.clear()
        self._any_held.clear()
        self._many_held.clear()
        try:
            for reply in held:
                await self._replies.send(reply, b"+ACK")
        except Unreachable as error:
            _log.warning("acknowledgements were not sent", count=len(held), error=str(error))

    def known(self, shard: int, box: Box, sequence: int) -> JetStreamDelivery | None:
        """The message when the host has it already."""
        return self._unacked[shard].get((box, sequence))

    def add(self, delivery: JetStreamDelivery) -> None:
        self._unacked[delivery.shard][delivery.box, delivery.sequence] = delivery

    def forget(self, shard: int | None = None) -> None:
        """Forgets what the host has of this shard, or of all: it will be handed over again."""
        if shard is None:
            self._unacked.clear()
        else:
            self._unacked.pop(shard, None)

    def acknowledged(self, consumer: Consumer) -> int:
        """The number of the delivery up to which all that this consumer delivered are acknowledged here."""
        mine = (each.reply for each in self._unacked[consumer.shard].values() if each.box == consumer.box)
        positions = map(parse_ack, (*mine, *self._held))
        waiting = (position.delivery for position in positions if position.consumer == consumer.name)
        return min(waiting, default=consumer.delivered + 1) - 1

    async def acknowledge(self, delivery: JetStreamDelivery) -> None:
        """Acknowledges soon; a message whose body was put aside at once, and its body goes when the server has confirmed it."""
        unacked = self._unacked[delivery.shard]
        key = (delivery.box, delivery.sequence)
        if unacked.get(key) is delivery:
            del unacked[key]
        try:
            if BLOB in delivery.headers:
                await self._replies.request(delivery.reply, b"+ACK", timeout_s=ACK_TIMEOUT_S)
                await self._bodies.remove(delivery.address, delivery.headers)
            else:
                self._hold_back(delivery)
        except (Unreachable, NoResponder, RequestTimeout) as error:
            _log.warning("an acknowledgement was not sent", actor=str(delivery.address), error=str(error))

    def _hold_back(self, delivery: JetStreamDelivery) -> None:
        mailbox = delivery.box, delivery.address
        self._held.append(delivery.reply)
        self._held_of[mailbox] += 1
        self._any_held.set()
        if len(self._held) >= ACKS_HELD_MAX or self._held_of[mailbox] >= ACKS_HELD_OF_ONE_MAX:
            self._many_held.set()

    async def fetch(self, delivery: JetStreamDelivery) -> bytes | None:
        """The body once more, None when the message is gone. Goes on through a restart of the server.

        Raises ``Unreachable`` when the connection is closed for good.
        """
        while True:
            try:
                body = await self._stored(delivery)
                if body is None or BLOB not in delivery.headers:
                    return body
                return await self._bodies.find(delivery.address, delivery.headers)
            except _TRANSIENT as error:
                if self._replies.closed:
                    raise
                _log.warning("a message was not read, trying again", actor=str(delivery.address), error=str(error))
            await asyncio.sleep(RETRY_S)

    async def bury(self, message: Msg) -> None:
        """Mail under a subject that names no actor goes to the dead letters: anybody may send it, nobody can take it."""
        try:
            await self._replies.send(self._subjects.nobody(message.subject), message.data)
            await self._replies.send(message.reply, b"+ACK")
        except Unreachable:
            return  # not acknowledged, so it comes again

    async def _stored(self, delivery: JetStreamDelivery) -> bytes | None:
        """What the leader of the mailbox has under the message's sequence, if it is that actor's: a follower may lag, and
        would say of a message that it is gone."""
        verb = f"STREAM.MSG.GET.{self._subjects.mail_stream(delivery.box)}"
        try:
            answer = await self._api.call(verb, {"seq": delivery.sequence})
        except ApiError as error:
            if error.refusal.err_code == MESSAGE_NOT_FOUND:
                return None
            raise
        message = answer["message"]
        if message["subject"] != stored_subject(self._subjects, delivery.box, delivery.address):
            return None
        return base64.b64decode(message.get("data") or "")


def stored_subject(subjects: Subjects, box: Box, address: Address) -> str:
    """The subject under which the server's partition transform stores an actor's mail."""
    tail = subjects.mail(box, address).split(".", 3)[3]
    return subjects.stored(box, shard_of(address)).removesuffix(">") + tail
