"""The audit of acknowledgements: one that the server never got is found, and its shard is served anew.

An acknowledgement is not answered, so it may be lost unseen: a server of a cluster that is killed loses those that it had not
yet passed on. The mail would stay until the next takeover and count against its mailbox. So every ``AUDIT_S`` a consumer is
asked up to which of its deliveries all are acknowledged. When the server is behind what this node had acknowledged at the look
before, one was lost: the shard is renewed, what is still stored comes again, and the runtime, which knows it, acknowledges it.
"""

import asyncio
from collections.abc import Callable

import structlog

from regrow.bus.api import JetStreamApi
from regrow.bus.consumer import Consumer
from regrow.bus.desk import MailDesk
from regrow.bus.errors import BusError
from regrow.bus.pulls import Pulls
from regrow.bus.subjects import Subjects

_log = structlog.get_logger(__name__)

AUDIT_S = 30.0
"""Longer than any acknowledgement is under way."""


class Audit:
    """What this node has acknowledged, against what the server knows of. A consumer that nothing was taken from costs nothing."""

    def __init__(
        self, api: JetStreamApi, subjects: Subjects, pulls: Pulls, desk: MailDesk, doubt: Callable[[int], None]
    ) -> None:
        self._api = api
        self._subjects = subjects
        self._pulls = pulls
        self._desk = desk
        self._doubt = doubt
        self._noted: dict[str, int] = {}
        """By consumer: the delivery up to which all were acknowledged at the last look."""
        self._confirmed: dict[str, int] = {}

    async def keep(self) -> None:
        """Looks at all consumers from time to time, for ever."""
        while True:
            await asyncio.sleep(AUDIT_S)
            for consumer in self._pulls.all():
                try:
                    await self._look(consumer)
                except BusError as error:
                    _log.warning("a consumer could not be looked at", shard=consumer.shard, error=str(error))
            served = {consumer.name for consumer in self._pulls.all()}
            self._noted = {name: noted for name, noted in self._noted.items() if name in served}
            self._confirmed = {name: noted for name, noted in self._confirmed.items() if name in served}

    async def _look(self, consumer: Consumer) -> None:
        noted = self._noted.get(consumer.name, 0)
        if noted > self._confirmed.get(consumer.name, 0):
            stream = self._subjects.mail_stream(consumer.box)
            info = await self._api.call(f"CONSUMER.INFO.{stream}.{consumer.name}")
            confirmed = self._confirmed[consumer.name] = int(info["ack_floor"]["consumer_seq"])
            if confirmed < noted and self._pulls.get(consumer.name) is consumer:
                _log.warning("an acknowledgement was lost, the shard is served anew", shard=consumer.shard)
                self._doubt(consumer.shard)
        self._noted[consumer.name] = self._desk.acknowledged(consumer)
