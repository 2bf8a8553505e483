"""Orders to end the running turn: they overtake all mail, and are acknowledged when the log says what became of them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from regrow.actors.image import Image
from regrow.actors.records import CancelAsked
from regrow.actors.turn import RunningTurn
from regrow.actors.wire import reason_of, reply_subject
from regrow.bus import Address, Bus, BusError, Delivery, encode
from regrow.bus.headers import REPLY

_log = structlog.get_logger(__name__)


class Ordered(Protocol):
    """The actor whose turn is to end."""

    address: Address
    bus: Bus

    @property
    def known(self) -> Image | None: ...
    def start(self, function: Callable[..., Awaitable[None]], *arguments: object) -> asyncio.Task[None]: ...


class Orders:
    """The orders that have not been answered."""

    __slots__ = ("_actor", "_orders")

    def __init__(self, actor: Ordered) -> None:
        self._actor = actor
        self._orders: dict[int, Delivery] = {}
        """By sequence."""

    def __len__(self) -> int:
        return len(self._orders)

    def put(self, order: Delivery, turn: RunningTurn | None) -> None:
        """Adds one; the turn that runs hears it at once."""
        self._orders[order.sequence] = order
        if turn is not None:
            self._actor.start(self._end, turn, order)

    def tell(self, turn: RunningTurn) -> None:
        """An attempt at the turn begins: it hears all of them."""
        for order in self._orders.values():
            self._actor.start(self._end, turn, order)

    def clear(self) -> None:
        """Forgets them; they come again where the actor is next."""
        self._orders.clear()

    async def settle(self, image: Image) -> None:
        """No turn runs: answers those that came for one which is over, and those that found none."""
        for order in tuple(self._orders.values()):
            await self._answer(order, done=order.sequence in image.ahead)

    async def _end(self, turn: RunningTurn, order: Delivery) -> None:
        """Ends the turn, unless the order came before and was recorded then."""
        image = self._actor.known
        if image is None:
            return  # it is heard again with the next attempt
        done = order.sequence <= image.act_seq or order.sequence in image.ahead
        try:
            done = done or await turn.end(CancelAsked(reason_of(order), order.sequence))
        except BusError as error:
            _log.info("an order to end a turn is not recorded yet", actor=str(self._actor.address), error=str(error))
            return
        await self._answer(order, done=done)

    async def _answer(self, order: Delivery, *, done: bool) -> None:
        """Says whether a turn was running, once."""
        if self._orders.pop(order.sequence, None) is None:
            return
        await order.ack()
        reply = reply_subject(order.headers.get(REPLY, ""))
        if reply:
            await self._actor.bus.publish(reply, encode(done))
