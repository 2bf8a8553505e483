"""A node that serves mailboxes: it holds the shards, pulls their mail, and notices by itself when something may be lost.

Three tasks run, owned by ``running``. One keeps a pull request open for every consumer (``Pulls``). Another renews what is in
doubt: all shards after the connection broke, one shard when a delivery is missing, its consumer is gone, the server ended a
request for a reason of its own, or the third task (``Audit``) found that an acknowledgement was lost. To renew is to claim the shard again, by compare-and-set on the claim held so far: refused means that
another node has the shard, which is then lost; granted means new consumers, and what was not acknowledged comes again in order.
Who asks whether a shard is held (``holds``) has its claim looked at, which also finds out that it was lost.

At the end of a block that did not fail the claims are released: what then waits is nothing that this node died of.

Two things end the service, by raising in the task that entered ``running``: a connection that is closed for good
(``Unreachable``), and an error of the host's own callbacks.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial

import anyio
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from regrow.bus.api import ApiError, JetStreamApi, alone, together
from regrow.bus.audit import Audit
from regrow.bus.consumer import Consumer, Position, Verdict, parse_ack
from regrow.bus.delivery import JetStreamDelivery
from regrow.bus.desk import MailDesk
from regrow.bus.errors import BusError, NoResponder, RequestTimeout, Unreachable
from regrow.bus.leases import LEASE_S, Leases
from regrow.bus.port import Receive
from regrow.bus.pulls import Pulls, now_s
from regrow.bus.replies import DESCRIPTION, ReplyInbox, status, subscribe, unsubscribe
from regrow.bus.shards import Shards
from regrow.bus.subjects import BOXES, SHARDS

_log = structlog.get_logger(__name__)

TAKEOVERS_AT_ONCE = 8
RETRY_S = 0.25
START_S = 30.0
"""A server that does not answer at the start of a service is asked again for so long: a cluster may be choosing a leader."""
RELEASE_TIMEOUT_S = 1.0
"""Longer than this the end of a service does not wait for its claims to be released."""
_TRANSIENT = (RequestTimeout, NoResponder, Unreachable, ApiError)


class MailService:
    """The shards that this node holds, and their consumers."""

    def __init__(
        self,
        client: Client,
        replies: ReplyInbox,
        api: JetStreamApi,
        shards: Shards,
        desk: MailDesk,
        receive: Receive,
        lost: Callable[[int], None],
    ) -> None:
        self._client = client
        self._replies = replies
        self._shards = shards
        self._desk = desk
        self._receive = receive
        self._lost = lost
        self._inbox: str = client.new_inbox()
        self._pulls = Pulls(replies, shards, self._inbox)
        self._audit = Audit(api, shards.subjects, self._pulls, desk, self._doubt)
        self._claiming = asyncio.Lock()
        self._epochs: dict[int, int] = {}
        self._leases = Leases()
        self._doubtful: set[int] = set()
        self._attention = asyncio.Event()
        self._failure: Exception | None = None

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Serves all shards while the block runs; at its end the consumers are removed, the mail stays.

        Raises ``RequestTimeout`` or ``NoResponder`` when the server did not answer at the start for ``START_S``.
        """
        mail = await subscribe(self._client, f"{self._inbox}.>", self._dispatch)
        left = False
        try:
            with self._replies.interruptions(self._doubt_all):
                await self._begin()
                try:
                    async with self._going_on():
                        yield
                    left = True
                except asyncio.CancelledError:
                    left = True
                    raise
        finally:
            held, epochs = self._stop()
            if left:
                await self._let_go(epochs)
            await unsubscribe(self._client, mail)
        await self._delete(held)

    @asynccontextmanager
    async def _going_on(self) -> AsyncGenerator[None]:
        with alone():
            async with asyncio.TaskGroup() as tasks:
                keeping = (self._pulls.keep(), self._watch(), self._audit.keep(), self._desk.keep())
                loops = [tasks.create_task(each) for each in keeping]
                try:
                    yield
                finally:
                    for each in loops:
                        each.cancel()

    async def holds(self, shard: int) -> bool:
        """Whether the shard is known to be held by this node; see ``Holding.holds``."""
        return shard in self._epochs and await self._leases.holds(shard, partial(self._look, shard))

    async def take_over(self) -> None:
        """Claims every shard and serves it from its first message that is not acknowledged, whatever the host has of it.

        Goes on through a restart of the server. Raises ``Unreachable`` when the connection is closed for good.
        """
        while True:
            try:
                return await self._take_over()
            except _TRANSIENT as error:
                if self._replies.closed:
                    raise
                _log.warning("mailboxes could not be taken over, trying again", error=str(error))
            await asyncio.sleep(RETRY_S)

    async def _begin(self) -> None:
        """Takes over for the first time, once more while the server does not answer, but not for ever."""
        end_s = now_s() + START_S
        while True:
            try:
                return await self._take_over()
            except (RequestTimeout, NoResponder) as error:
                if self._replies.closed or now_s() >= end_s:
                    raise
                _log.warning("mailboxes could not be taken over yet, trying again", error=str(error))
            await asyncio.sleep(RETRY_S)

    async def _take_over(self) -> None:
        async with self._claiming:
            await self._desk.flush()
            self._stop()
            self._desk.forget()
            self._doubtful.clear()
            await self._shards.learn()
            await self._claim(dict.fromkeys(range(SHARDS)))

    async def _renew(self) -> None:
        """Claims the shards in doubt again, unless somebody else has claimed them meanwhile."""
        async with self._claiming:
            doubtful = {shard: self._epochs[shard] for shard in self._doubtful if shard in self._epochs}
            self._doubtful.clear()
            for shard in doubtful:
                self._pulls.drop(shard)
            try:
                await self._claim(doubtful)
            except BaseException:
                self._doubtful |= doubtful.keys()
                raise

    async def _claim(self, epochs: dict[int, int] | dict[int, None]) -> None:
        """Claims shards after the given epochs, and makes their consumers."""

        async def claim(shard: int, after: int | None) -> None:
            since_s = self._leases.now_s()
            epoch = await self._shards.claim(shard, after)
            if epoch is None:
                self._lose(shard)
            else:
                self._epochs[shard] = epoch
                self._leases.prove(shard, since_s)

        await together(claim(shard, after) for shard, after in epochs.items())
        held = {shard: self._epochs[shard] for shard in epochs if shard in self._epochs}
        await self._shards.settle_suspects()
        await together(self._shards.clear(box, held) for box in BOXES)
        limit = asyncio.Semaphore(TAKEOVERS_AT_ONCE)

        async def create(consumer: Consumer) -> None:
            async with limit:
                await self._create(consumer)

        await together(create(Consumer(box, *claimed)) for claimed in held.items() for box in BOXES)

    async def _create(self, consumer: Consumer) -> None:
        created = await self._shards.create(consumer)
        if not created:
            self._lose(consumer.shard)
        elif self._epochs.get(consumer.shard) == consumer.epoch:
            self._pulls.add(consumer)

    async def _watch(self) -> None:
        """Renews what is in doubt, and ends the service when it cannot go on."""
        while True:
            await self._attention.wait()
            self._attention.clear()
            if self._failure is not None:
                raise self._failure
            if self._replies.closed:
                raise Unreachable("a connection that was closed under a mail service")
            try:
                await self._renew()
            except _TRANSIENT as error:
                _log.warning("shards could not be renewed, trying again", error=str(error))
                await asyncio.sleep(RETRY_S)
                self._attention.set()

    async def _dispatch(self, message: Msg) -> None:
        """Mail comes under its own subject and names its consumer where it wants the acknowledgement; statuses do not.

        Never the headers decide which it is: whoever writes a mail may give it any.
        """
        if message.subject.startswith(self._inbox):
            name, pull = message.subject.rsplit(".", 2)[1:]
            consumer = self._pulls.get(name)
            if consumer is not None:
                why = (message.headers or {}).get(DESCRIPTION, "")
                self._act(consumer, consumer.told(int(pull), status(message) or "", why, now_s()))
            return
        position = parse_ack(message.reply)
        consumer = self._pulls.get(position.consumer)
        if consumer is None:
            return
        verdict = consumer.take(position.delivery, now_s())
        self._act(consumer, verdict)
        if verdict != "doubt":
            await self._deliver(consumer, position, message)

    def _act(self, consumer: Consumer, verdict: Verdict) -> None:
        if verdict == "pull":
            self._pulls.wake()
        elif verdict == "doubt":
            self._doubt(consumer.shard)

    async def _deliver(self, consumer: Consumer, position: Position, message: Msg) -> None:
        known = self._desk.known(consumer.shard, consumer.box, position.sequence)
        if known is not None:
            known.reply = message.reply
            return
        suspect = self._shards.is_suspect(consumer.box, consumer.shard, position.sequence)
        try:
            delivery = JetStreamDelivery(consumer.box, position.sequence, message, self._desk, suspect=suspect)
        except ValueError as error:
            _log.warning(
                "mail for no actor goes to the dead letters",
                box=consumer.box,
                sequence=position.sequence,
                size_bytes=len(message.data),
                error=str(error),
            )
            await self._desk.bury(message)
            return
        self._desk.add(delivery)
        try:
            self._receive(delivery)
        except Exception as error:
            self._fail(error)

    async def _look(self, shard: int) -> bool:
        """Whether the last claim of the shard is ours; when it is another's, the shard is lost."""
        epoch = self._epochs.get(shard)
        since_s = self._leases.now_s()
        try:
            async with asyncio.timeout(LEASE_S):
                last = await self._shards.look(shard)
        except (TimeoutError, BusError) as error:
            _log.warning("the claim of a shard could not be looked at", shard=shard, error=str(error))
            return False
        if epoch is None or self._epochs.get(shard) != epoch:
            return False  # it was lost or claimed anew meanwhile
        if last is None or not self._shards.is_mine(last.claim):
            self._lose(shard)
            return False
        self._leases.prove(shard, since_s)
        return True

    def _doubt_all(self) -> None:
        for shard in self._epochs:
            self._doubt(shard)
        self._attention.set()

    def _doubt(self, shard: int) -> None:
        """Stops serving the shard until it has been claimed again."""
        self._pulls.drop(shard)
        self._doubtful.add(shard)
        self._attention.set()

    def _lose(self, shard: int) -> None:
        """Another node has the shard."""
        self._pulls.drop(shard)
        self._desk.forget(shard)
        self._leases.end(shard)
        if self._epochs.pop(shard, None) is None:
            return
        _log.info("another node serves this shard now", shard=shard)
        try:
            self._lost(shard)
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._failure = error
        self._attention.set()

    def _stop(self) -> tuple[list[Consumer], dict[int, int]]:
        """Serves nothing any more; what was served."""
        held, epochs = self._pulls.clear(), dict(self._epochs)
        self._epochs.clear()
        self._leases.end()
        return held, epochs

    async def _let_go(self, epochs: dict[int, int]) -> None:
        """Says that the shards are let go of, also while the service is being cancelled."""
        with anyio.move_on_after(RELEASE_TIMEOUT_S, shield=True):
            await self._desk.flush()
            try:
                await together(self._shards.release(shard, epoch) for shard, epoch in epochs.items())
            except BusError as error:
                _log.warning("shards were not released, their mail will be suspect", error=str(error))

    async def _delete(self, consumers: list[Consumer]) -> None:
        """On a clean end the consumers are removed; a server that is gone keeps them for the next takeover."""
        try:
            await together(self._shards.delete(each.box, each.name) for each in consumers)
        except _TRANSIENT as error:
            _log.warning("consumers were left for the next takeover", error=str(error))
