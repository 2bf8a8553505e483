"""Looking at a running application from anywhere, and steering one of its actors: what operators ask of the nodes.

Core requests all of it: nothing is stored, and a node that does not listen misses it. What a node was told lives as long as its
copy of the actor.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from uuid import uuid4

import structlog

from regrow.actors.errors import ActorError
from regrow.actors.insight import NodeSeen, Seen, Steered, Verb, order_subject, trace_subject, tree_subject
from regrow.actors.trace import TRACE_S, Traced
from regrow.actors.waits_for import cycles
from regrow.bus import (
    Address,
    Bus,
    NoResponder,
    Request,
    RequestTimeout,
    Undecodable,
    Unreachable,
    check_address,
    decode,
)
from regrow.bus.api import alone
from regrow.bus.headers import ID, REPLY
from regrow.bus.subjects import SHARDS

_log = structlog.get_logger(__name__)

LOOK_S = 2.0
"""How long the answers of nodes are collected at most."""
LAST_S = 0.25
"""How long it is waited for further nodes once all shards are accounted for: those that stand by serve none."""
ORDER_S = 5.0
"""How long an order waits for the node that serves its actor."""
UNREAD_MAX = 10_000
"""Happenings of a trace that wait for their reader; while there are more, they are counted instead."""


class NoNode(ActorError, LookupError):
    """No node of an application has answered."""

    def __init__(self, app: str, wait_s: float) -> None:
        super().__init__(f"no node of {app} answered within {wait_s:g} s; start one with regrow run, or wait longer")
        self.app = app


class Unserved(ActorError, TimeoutError):
    """No node has said that it serves the actor."""

    def __init__(self, address: Address, wait_s: float) -> None:
        super().__init__(
            f"no node said within {wait_s:g} s that it serves {address}; start one, or try again once a node has taken it over"
        )
        self.address = address


class NotSteered(ActorError):
    """The node that serves the actor did not do what it was told, and says why."""

    def __init__(self, address: Address, verb: Verb, why: str) -> None:
        super().__init__(f"{address} was not told to {verb}: {why}")
        self.address = address


async def look(bus: Bus, wait_s: float = LOOK_S) -> Seen:
    """How an application's nodes stand, and who waits for whom over all of them. Raises ``NoNode``.

    Returns soon after all shards are accounted for, and after ``wait_s`` seconds with those that have answered.
    """
    app, nodes, news = bus.subjects.app, dict[str, NodeSeen](), asyncio.Event()

    def receive(reply: Request) -> None:
        try:
            node = decode(reply.body, NodeSeen, "answer of a node")
        except Undecodable as error:
            _log.warning("a node's answer cannot be read", error=str(error))
            return
        nodes[node.id] = node
        news.set()

    until_s = _now_s() + wait_s
    async with bus.expect_reply(receive) as subject:
        await bus.publish(tree_subject(app), b"", {ID: uuid4().hex, REPLY: subject})
        while (left_s := until_s - _now_s()) > 0:
            if not _silent(nodes.values()):
                left_s = min(left_s, LAST_S)
            try:
                async with asyncio.timeout(left_s):
                    await news.wait()
            except TimeoutError:
                break
            news.clear()
    if not nodes:
        raise NoNode(app, wait_s)
    return merged(app, tuple(sorted(nodes.values(), key=lambda each: each.id)))


def merged(app: str, nodes: tuple[NodeSeen, ...]) -> Seen:
    """What the nodes say, as one."""
    waits = tuple(sorted((each for node in nodes for each in node.waits), key=lambda each: each.since_ms))
    found = {*cycles((each.waiter, each.on) for each in waits), *(path for node in nodes for path in node.cycles)}
    return Seen(app, nodes, _silent(nodes), waits, tuple(sorted(found)))


async def steer(bus: Bus, verb: Verb, address: Address, wait_s: float = ORDER_S) -> bool:
    """Gives an order for one actor; whether it changed anything. Raises ``Unserved``, ``NotSteered``."""
    subject = order_subject(bus.subjects.app, verb, check_address(address))
    try:
        reply = await bus.request(subject, b"", timeout_s=wait_s)
    except (NoResponder, RequestTimeout, Unreachable) as error:
        raise Unserved(address, wait_s) from error
    steered = decode(reply.body, Steered, "answer of a node")
    if steered.refused:
        raise NotSteered(address, verb, steered.refused)
    return steered.done


@asynccontextmanager
async def tracing(bus: Bus, address: Address, wait_s: float = ORDER_S) -> AsyncGenerator[AsyncIterator[Traced]]:
    """What an actor does while the block runs, as it comes. Raises ``Unserved``, ``NotSteered``."""
    unread: asyncio.Queue[Traced] = asyncio.Queue(UNREAD_MAX)
    lost = 0

    def receive(request: Request) -> None:
        nonlocal lost
        try:
            told = decode(request.body, Traced, "trace")
        except Undecodable as error:
            _log.debug("what an actor does cannot be read", error=str(error))
            return
        if unread.full():
            lost += 1
        else:
            unread.put_nowait(told)

    async def read() -> AsyncIterator[Traced]:
        nonlocal lost
        while True:
            told = await unread.get()
            yield told
            if lost:
                lost, count = 0, lost
                yield Traced(told.at_ms, "lost", lost=count)

    async with bus.serve(trace_subject(bus.subjects.app, address), receive):
        await steer(bus, "trace", address, wait_s)
        with alone():
            async with asyncio.TaskGroup() as tasks:
                renewing = tasks.create_task(_renew(bus, address))
                try:
                    yield read()
                finally:
                    renewing.cancel()


async def _renew(bus: Bus, address: Address) -> None:
    """Goes on asking for the trace: whoever serves the actor next begins then."""
    while True:
        await asyncio.sleep(TRACE_S / 4)
        try:
            await steer(bus, "trace", address)
        except (Unserved, NotSteered) as error:
            _log.warning("an actor is not traced for now", actor=str(address), error=str(error))


def _silent(nodes: Iterable[NodeSeen]) -> tuple[int, ...]:
    """The shards that none of these serves."""
    return tuple(sorted(set(range(SHARDS)).difference(*(each.shards for each in nodes))))


def _now_s() -> float:
    return asyncio.get_running_loop().time()
