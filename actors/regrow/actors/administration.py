"""What operators do with the actors of an application: look at them, steer one, delete them, let go of those that are idle.

A deletion is an order in the actor's own mailbox, behind the mail that waits there: the node that serves the actor takes it,
and no turn is cut in two. While no node serves it the order waits. Everything here works on the bus alone.

What is left of a deleted actor: its kind and key, in its tombstone, in the marks and recorded sends of actors that dealt with
it, and whatever those have taken into their own states and events. Backups keep all of it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import uuid4

import msgspec

from regrow.actors.actor import Actor
from regrow.actors.asking import post
from regrow.actors.dead_letter import DeadLetters
from regrow.actors.errors import ActorError
from regrow.actors.fold import fold, state_json
from regrow.actors.insight import Seen
from regrow.actors.overview import Overview, image_of, overview_of
from regrow.actors.ref import ASK_TIMEOUT_S
from regrow.actors.retention import is_over
from regrow.actors.steering import LOOK_S, ORDER_S, look, steer, tracing
from regrow.actors.trace import Traced
from regrow.actors.wire import CANCEL, DELETE
from regrow.bus import Address, Bus, Request, check_address, decode, encode, headers
from regrow.bus.api import together

RUNTIME = "rg_"
"""How the kinds of the runtime's own actors begin."""
AT_ONCE = 32
"""Logs that are read, or orders that are given, together."""
REASON_CHARS_MAX = 1_000
LOOK_FIRST_S = 0.05
LOOK_LAST_S = 1.0
"""How soon it is looked for a tombstone, and how seldom in the end."""


class NoActor(ActorError, LookupError):
    """Nobody of this address has a log."""

    def __init__(self, address: Address) -> None:
        super().__init__(f"there is no actor {address}; list the actors to see who there is")
        self.address = address


class DeletionWaits(ActorError, TimeoutError):
    """The order to delete an actor lies in its mailbox and was not carried out in time; it will be."""

    def __init__(self, address: Address, wait_s: float) -> None:
        super().__init__(
            f"the order to delete {address} lies in its mailbox, but was not carried out within {wait_s:g} s; "
            "it will be once a node serves the actor and has taken the mail before it"
        )
        self.address = address


class CancellationWaits(ActorError, TimeoutError):
    """The order to end an actor's running turn lies in its mailbox and was not carried out in time; it will be."""

    def __init__(self, address: Address, wait_s: float) -> None:
        super().__init__(
            f"the order to cancel the running turn of {address} lies in its mailbox, but no node took it within {wait_s:g} s; "
            "a node that serves the actor will, and ends the turn that runs then"
        )
        self.address = address


class Purged(msgspec.Struct, frozen=True):
    """What became of many deletions."""

    deleted: int
    """Whose tombstones are there."""
    waiting: tuple[Address, ...]
    """Whose orders lie in their mailboxes and are carried out when a node has taken the mail before them."""
    dead_letters: int
    """That were dropped with them."""


class Administration:
    """The actors of an application, for whoever operates it."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.dead_letters = DeadLetters(bus)

    async def actors(self, kind: str | None = None, prefix: str = "") -> Sequence[Address]:
        """Every actor that has a log and whose key begins so, sorted; one that was deleted still has its tombstone.

        The runtime's own, such as those that keep schedules, are named only where their kind is asked for.
        """
        found = await self._bus.log.addresses(kind)
        return sorted(
            each for each in found if each.key.startswith(prefix) and (kind or not each.kind.startswith(RUNTIME))
        )

    async def show(self, kind: str, key: str) -> Overview:
        """How an actor stands. Raises ``NoActor``, and what stands in the way of reading its log."""
        overview = await self._overview(check_address(Address(kind, key)))
        if overview is None:
            raise NoActor(Address(kind, key))
        return overview

    async def get_state(self, actor: type[Actor], key: str) -> dict[str, Any]:
        """The committed state of an actor, as JSON has it, folded from its log; what a running turn has emitted is not in it.

        Raises ``NoActor``, and what stands in the way of reading the log.
        """
        address = check_address(Address(actor.__regrow__.kind, key))
        records = await self._bus.log.read(address)
        if not records:
            raise NoActor(address)
        return decode(state_json(fold(actor, key, records).actor), dict[str, Any], "state")

    async def tree(self, *, wait_s: float = LOOK_S) -> Seen:
        """How the nodes that run now stand: supervisors and children, actors by what they do, who waits for whom.

        Nodes that have not answered within ``wait_s`` seconds are missing; ``silent`` has the shards that they may serve. Raises
        ``NoNode``.
        """
        return await look(self._bus, wait_s)

    async def suspend(self, kind: str, key: str, *, wait_s: float = ORDER_S) -> bool:
        """Lets an actor take no more mail, as OTP's ``sys:suspend`` does; False when it was suspended before.

        The turn that runs goes on to its end. Mail waits in the mailbox and orders with it, queries are answered, nothing is
        lost. It lasts until ``resume``, and no longer than this copy of the actor: with its node, or the node's hold on its
        shard, or a restart of its kind, it is gone and the mail is taken. Raises ``Unserved``.
        """
        return await steer(self._bus, "suspend", Address(kind, key), wait_s)

    async def resume(self, kind: str, key: str, *, wait_s: float = ORDER_S) -> bool:
        """Lets an actor take its mail again; False when it was not suspended. Raises ``Unserved``."""
        return await steer(self._bus, "resume", Address(kind, key), wait_s)

    def trace(
        self, kind: str, key: str, *, wait_s: float = ORDER_S
    ) -> AbstractAsyncContextManager[AsyncIterator[Traced]]:
        """What an actor does while the block runs, as it comes: messages taken, steps, turns recorded; nothing that was said.

        Goes on where another node takes the actor over, with a gap of some seconds. Raises ``Unserved`` and ``NotSteered``.
        """
        return tracing(self._bus, Address(kind, key), wait_s)

    async def delete(self, kind: str, key: str, *, wait_s: float = ASK_TIMEOUT_S) -> int:
        """Deletes an actor: its state, its timers, the mail that waits for it, its dead letters; how many of these there were.

        Returns once the tombstone is in its log; with ``wait_s=0`` once the order is in its mailbox. What comes later begins
        a new actor. Deleting it again has no effect.

        Raises ``NoActor``, and ``DeletionWaits`` when no node has carried the order out within ``wait_s`` seconds: it stands
        behind the mail that waits, and one node that serves the kind has to run. Its dead letters are dropped all the same.
        """
        address = check_address(Address(kind, key))
        overview = await self.show(kind, key)
        done = overview.deleted or await self._wait_taken(address, await self._order(address), wait_s)
        dropped = await self.dead_letters.drop_all(address)
        if not done and wait_s > 0:
            raise DeletionWaits(address, wait_s)
        return dropped

    async def cancel(self, kind: str, key: str, reason: str = "", *, wait_s: float = ASK_TIMEOUT_S) -> bool:
        """Ends the running turn of an actor: whether there was one, once that is in its log.

        Its handler, the tasks that it waits for and their tools are cancelled at once. It may clean up, with steps if need be,
        for its policy's ``cleanup_timeout_s``; whoever asked gets a failure of kind ``cancelled``, unless the handler catches
        the cancellation and returns. A message that waits is not touched. The order overtakes the mail that waits.

        Raises ``CancellationWaits`` when no node has taken the order within ``wait_s`` seconds, and ValueError for a reason of
        more than 1,000 characters.
        """
        address = check_address(Address(kind, key))
        if len(reason) > REASON_CHARS_MAX:
            raise ValueError(f"a reason has at most {REASON_CHARS_MAX:,} characters, not {len(reason):,}")
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def receive(reply: Request) -> None:
            if not answer.done():
                answer.set_result(decode(reply.body, bool, "answer"))

        order = f"cancel-{uuid4().hex}"
        async with self._bus.expect_reply(receive) as subject:
            given = {headers.ID: order, headers.TYPE: CANCEL, headers.REPLY: subject}
            await self._bus.mail.post("act", address, encode(reason), given, message_id=order)
            await asyncio.wait((answer,), timeout=wait_s)
        if not answer.done():
            raise CancellationWaits(address, wait_s)
        return answer.result()

    async def purge(self, prefix: str, kind: str | None = None, *, wait_s: float = ASK_TIMEOUT_S) -> Purged:
        """Deletes every actor, or every one of a kind, whose key begins with the prefix, as ``delete`` does.

        End the prefix as the keys do, ``user-7.``: ``user-7`` is the beginning of ``user-77`` as well. Raises ValueError for
        an empty prefix, which all keys begin with.
        """
        if not prefix:
            raise ValueError("a purge needs the beginning of the keys to delete: all keys begin with the empty one")
        return await self.delete_all(await self.actors(kind, prefix), wait_s=wait_s)

    async def idle(self, kind: str, idle_s: float, prefix: str = "") -> Sequence[Address]:
        """The actors of a kind that have been idle longer than ``idle_s`` seconds; see ``is_over``.

        That mail waits for one of them is not known here.
        """
        over: list[Address] = []

        async def look(address: Address) -> None:
            overview = await self._overview(address)
            if overview is not None and is_over(overview, idle_s, time.time_ns()):
                over.append(address)

        await _each(look, await self.actors(kind, prefix))
        return sorted(over)

    async def sweep(self, kind: str, idle_s: float, *, wait_s: float = ASK_TIMEOUT_S) -> Purged:
        """Deletes the actors of a kind that have been idle longer than ``idle_s`` seconds.

        An actor that takes up work between the look at its log and the order is deleted all the same: sweep with a time far
        above what happens between two messages to the same actor.
        """
        return await self.delete_all(await self.idle(kind, idle_s), wait_s=wait_s)

    async def delete_all(self, addresses: Iterable[Address], *, wait_s: float = ASK_TIMEOUT_S) -> Purged:
        """Deletes these actors, as ``delete`` does, and waits for all together at most ``wait_s`` seconds."""
        orders: dict[Address, int] = {}
        waiting: list[Address] = []
        dropped = 0

        async def order(address: Address) -> None:
            overview = await self._overview(address)
            orders[address] = 0 if overview is None or overview.deleted else await self._order(address)

        async def finish(address: Address) -> None:
            nonlocal dropped
            sequence = orders[address]
            if sequence and not await self._wait_taken(address, sequence, deadline_s - _now_s()):
                waiting.append(address)
            dropped += await self.dead_letters.drop_all(address)

        await _each(order, addresses)
        deadline_s = _now_s() + wait_s
        await _each(finish, list(orders))
        return Purged(len(orders) - len(waiting), tuple(sorted(waiting)), dropped)

    async def _overview(self, address: Address) -> Overview | None:
        return overview_of(address, await self._bus.log.read(address))

    async def _order(self, address: Address) -> int:
        """Puts the order to delete into the actor's mailbox; its sequence there."""
        given = {headers.ID: f"delete-{uuid4().hex}", headers.TYPE: DELETE}
        return await post(self._bus, "act", address, b"null", given, ASK_TIMEOUT_S)

    async def _wait_taken(self, address: Address, sequence: int, wait_s: float) -> bool:
        """Whether the log says within that time that the actor has taken its mailbox up to the order."""
        deadline_s, pause_s = _now_s() + wait_s, LOOK_FIRST_S
        while True:
            if image_of(await self._bus.log.read(address)).act_seq >= sequence:
                return True
            left_s = deadline_s - _now_s()
            if left_s <= 0:
                return False
            await asyncio.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, LOOK_LAST_S)


async def _each(act: Callable[[Address], Awaitable[None]], addresses: Iterable[Address]) -> None:
    """Does it for all of them, ``AT_ONCE`` at a time."""
    left = iter(addresses)

    async def some() -> None:
        for address in left:
            await act(address)

    await together(some() for _ in range(AT_ONCE))


def _now_s() -> float:
    return asyncio.get_running_loop().time()
