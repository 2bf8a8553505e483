"""A node's answer to whoever looks at it, and its obedience to whoever steers one of its actors. A supervisor's child.

Answers run beside the actors, a few at a time. Nothing here is on the path of a message, and nothing that goes wrong here ends more
than the answer that it was for.
"""

import asyncio
import os
import platform
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import AsyncExitStack
from functools import partial
from heapq import nlargest
from itertools import chain
from typing import Protocol, get_args

import structlog

from regrow.actors.cycle_watch import CycleWatch
from regrow.actors.insight import NodeSeen, OpenAsk, Steered, Verb, branch_of, order_subject, tree_subject, wait_of
from regrow.actors.roster import BUSIEST, Roster
from regrow.actors.wire import reply_subject
from regrow.bus import Address, Bus, Request, encode, shard_of
from regrow.bus.headers import REPLY
from regrow.bus.subjects import SHARDS, Subjects
from regrow.supervisor import Start, TreeInfo

_log = structlog.get_logger(__name__)

ANSWERS_MAX = 16
"""Answers that are made at once; who asks meanwhile gets none."""
WAITS_SHOWN = 300
"""Open asks that a node names, so that its answer fits into a message."""


class Watched(Protocol):
    """The host of this node's actors."""

    @property
    def rosters(self) -> Mapping[str, Roster]: ...
    @property
    def held(self) -> AbstractSet[int]: ...


class Introspection:
    """Answers ``rg.<app>.sys.tree``, and orders for actors whose shard this node serves."""

    def __init__(self, bus: Bus, host: Watched, tree: Callable[[], TreeInfo]) -> None:
        self.id = secrets.token_hex(6)
        self.watch = CycleWatch(bus, self.id, self.open_asks, self._is_here)
        self._bus = bus
        self._host = host
        self._tree = tree
        self._answering = 0

    async def run(self, start: Start) -> None:
        """Answers until cancelled."""
        app = self._bus.subjects.app
        async with AsyncExitStack() as serving, asyncio.TaskGroup() as tasks:
            serve = partial(self._serve, serving, tasks)
            await serve(tree_subject(app), self._seen)
            for verb in get_args(Verb):
                await serve(order_subject(app, verb), partial(self._steered, verb))
            start.ready()
            await self.watch.run()

    def open_asks(self) -> Iterator[OpenAsk]:
        """Of this node's actors; see ``Roster.open_asks``."""
        return chain.from_iterable(each.open_asks() for each in self._host.rosters.values())

    async def seen(self) -> NodeSeen:
        """This node now."""
        kinds = [await each.seen() for each in self._host.rosters.values()]
        waits = sorted(self.open_asks(), key=lambda each: each.asked.at_ms)
        return NodeSeen(
            self.id,
            platform.node(),
            os.getpid(),
            tuple(sorted(self._host.held)),
            branch_of(self._tree(), asyncio.get_running_loop().time()),
            tuple(kind for kind, _ in kinds),
            tuple(nlargest(BUSIEST, chain.from_iterable(busy for _, busy in kinds), key=lambda each: each.mail)),
            tuple(map(wait_of, waits[:WAITS_SHOWN])),
            len(waits[WAITS_SHOWN:]),
            self.watch.named,
        )

    async def _serve(
        self,
        serving: AsyncExitStack,
        tasks: asyncio.TaskGroup,
        subject: str,
        answer: Callable[[Request], Awaitable[object | None]],
    ) -> None:
        def receive(request: Request) -> None:
            reply = reply_subject(request.reply or request.headers.get(REPLY, ""))
            if reply and self._answering < ANSWERS_MAX:
                self._answering += 1
                tasks.create_task(self._reply(reply, answer(request)))

        await serving.enter_async_context(self._bus.serve(subject, receive))

    async def _reply(self, reply: str, answer: Awaitable[object | None]) -> None:
        try:
            said = await answer
            if said is not None:
                await self._bus.publish(reply, encode(said))
        except Exception as error:  # the edge to the outside: whoever looks at a node must not end it
            _log.warning("a question about this node was not answered", error=f"{type(error).__name__}: {error}")
        finally:
            self._answering -= 1

    async def _seen(self, _: Request) -> NodeSeen:
        return await self.seen()

    async def _steered(self, verb: Verb, request: Request) -> Steered | None:
        """What became of an order; None where another node serves the actor."""
        address = Subjects.address(request.subject)
        roster = self._host.rosters.get(address.kind)
        if roster is None or shard_of(address) not in self._host.held:
            return None
        steered = roster.steer(verb, address)
        if steered.done:
            _log.info("an actor is steered", actor=str(address), order=verb)
        return steered

    def _is_here(self, actor: Address) -> bool:
        held = self._host.held
        return len(held) == SHARDS or shard_of(actor) in held
