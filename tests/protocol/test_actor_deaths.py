# ruff: noqa: ASYNC110  (what a mailbox holds, or another process did, can only be looked at)
"""Hole C7, and with it C5, H1, H5: an actor's process dies before, in and after every append, snapshots may come after every
record, and what the actors have become, answered and given up is the same as without any death and any snapshot.

In memory every append is tried; on a real server some of them, for there a new host costs its time.
"""

import asyncio
from itertools import count, product
from typing import Any, Literal

import msgspec
import pytest

from regrow.actors import (
    Actor,
    Event,
    Kind,
    Message,
    Node,
    Policy,
    Refused,
    System,
    command,
    event,
    query,
    tool,
)
from regrow.actors.dead_letter import DeadLetters
from regrow.actors.wire import outcome_of
from regrow.bus import Address, Bus, MemoryBus, NatsBus, Request, encode, headers
from regrow.bus.subjects import BOXES
from regrow.supervisor import Backoff
from regrow.testing.appends import replace_append

pytestmark = pytest.mark.asyncio

AT_ONCE = Backoff(first_s=0.0)
PATIENCE_S = 10.0
STRIDE = 8
"""As many as there are ways to die: each begins at another append, and all of them together come to every one."""

Where = Literal["before", "stored"]
History = Literal["compact", "keep"]


class Work(Message[int]):
    number: int


class Talk(Message[str]):
    number: int


class No(Message[int]):
    pass


class Fail(Message[int]):
    pass


class Tick(Message[None]):
    number: int


class Worked(Event):
    number: int
    sum: int


class Ticked(Event):
    number: int


class State(Message[list[list[int]]]):
    pass


class Note(Message[int]):
    number: int


class Notes(Message[dict[str, int]]):
    pass


class Charge(Message[int]):
    number: int


class Charged(Event):
    number: int


class Charges(Message[list[int]]):
    pass


@tool
async def weigh(number: int) -> int:
    await asyncio.sleep(0)
    return number * 10


@tool
async def burst(number: int) -> int:
    raise ValueError("burst")


class Bank(Actor):
    """What is asked."""

    charges: list[int] = []

    @command
    async def charge(self, msg: Charge) -> int:
        if msg.number < 0:
            raise Refused("no credit")
        self.emit(Charged(number=msg.number))
        return len(self.charges)

    @query
    async def read(self, msg: Charges) -> list[int]:
        return self.charges

    @event
    def charged(self, fact: Charged) -> None:
        self.charges.append(fact.number)


class Board(Actor, persist="fields"):
    """What is sent to."""

    notes: dict[str, int] = {}

    @command
    async def note(self, msg: Note) -> int:
        self.notes[str(msg.number)] = self.notes.get(str(msg.number), 0) + 1
        return len(self.notes)

    @query
    async def read(self, msg: Notes) -> dict[str, int]:
        return self.notes


class Desk(Actor):
    """Does all that a turn can do."""

    worked: list[list[int]] = []
    ticked: list[int] = []

    @command
    async def work(self, msg: Work) -> int:
        one, two, charged = await asyncio.gather(
            weigh(msg.number), weigh(msg.number + 1), self.ref(Bank, self.key).ask(Charge(number=msg.number))
        )
        self.emit(Worked(number=msg.number, sum=one + two + charged))
        for number in range(3):
            self.send(self.ref(Board, "all"), Note(number=1000 * int(self.key) + 10 * msg.number + number))
        self.send(self.ref(Board, self.key), Note(number=msg.number))
        self.set_timer(f"t{msg.number}", Tick(number=msg.number), after_s=0.01)
        self.set_timer("never", Tick(number=-1), after_s=3600)
        return one + two

    @command
    async def talk(self, msg: Talk) -> str:
        try:
            await self.ref(Bank, self.key).ask(Charge(number=-1))
        except Refused as no:
            return f"{no.message} {await weigh(msg.number)}"
        return "?"

    @command
    async def no(self, msg: No) -> int:
        await weigh(0)
        raise Refused("no")

    @command
    async def fail(self, msg: Fail) -> int:
        self.send(self.ref(Board, "all"), Note(number=-1))
        return await burst(await weigh(1))

    @command
    async def tick(self, msg: Tick) -> None:
        self.emit(Ticked(number=msg.number))
        self.cancel_timer("never")

    @query
    async def read(self, msg: State) -> list[list[int]]:
        return [*self.worked, sorted(self.ticked)]

    @event
    def on_worked(self, fact: Worked) -> None:
        self.worked.append([fact.number, fact.sum])

    @event
    def on_ticked(self, fact: Ticked) -> None:
        self.ticked.append(fact.number)


def system(app: str, history: History, every: int) -> System:
    policy = Policy(backoff=AT_ONCE, history=history, snapshot_every=every, deaths_max=1_000)
    return System(app, [Kind(actor=each, policy=policy, idle_after_s=0.0) for each in (Desk, Board, Bank)]).checked()


class Dying:
    """A log whose process dies at its n-th append: nothing of that process happens any more. The next process has another."""

    def __init__(self, bus: Bus, where: Where, number: int) -> None:
        self.dead = asyncio.Event()
        self.appends = 0
        self._append = bus.log.append
        self._where = where
        self._number = number

    def revive(self) -> None:
        """The dead process is gone, and the next one starts."""
        self.dead.clear()

    async def append(self, address: Address, data: bytes, *, rid: str, after: int, rollup: bool = False) -> int:
        if self.dead.is_set():
            await asyncio.Event().wait()
        self.appends += 1
        here = self.appends == self._number
        if here and self._where == "before":
            await self._die()
        stored = await self._append(address, data, rid=rid, after=after, rollup=rollup)
        if here:
            await self._die()
        return stored

    async def _die(self) -> None:
        self.dead.set()
        await asyncio.Event().wait()


LETTERS: list[tuple[str, str, bytes]] = [
    ("w1", "1", encode(Work(number=1))),
    ("no", "1", encode(No())),
    ("t1", "1", encode(Talk(number=5))),
    ("f1", "1", encode(Fail())),
    ("w2", "1", encode(Work(number=2))),
    ("x1", "2", b'{"type":"Unheard"}'),
    ("w3", "2", encode(Work(number=3))),
]


class Outside:
    """Those who ask, with an id each; they ask again while they have no answer."""

    def __init__(self, bus: Bus) -> None:
        self.answers: dict[str, Any] = {}
        self._bus = bus

    async def ask(self, name: str, key: str, body: bytes) -> None:
        heard: asyncio.Future[Request] = asyncio.get_running_loop().create_future()
        async with self._bus.expect_reply(lambda reply: None if heard.done() else heard.set_result(reply)) as subject:
            while not heard.done():
                given = {headers.ID: name, headers.REPLY: subject}
                await self._bus.mail.post("in", Address("desk", key), body, given)
                await asyncio.wait((heard,), timeout=1.0)
        outcome = outcome_of(heard.result())
        failed = outcome.failure
        self.answers[name] = bytes(outcome.value) if failed is None else (failed.kind, failed.message)


async def settled(bus: Bus) -> None:
    """Waits until no mail waits."""
    while True:
        if isinstance(bus, MemoryBus):
            waiting = len(bus.mail.waiting("in")) + len(bus.mail.waiting("act"))
        else:
            streams = [bus.subjects.mail_stream(box) for box in BOXES]
            answers = [await bus.request(f"$JS.API.STREAM.INFO.{each}", b"", timeout_s=5.0) for each in streams]
            waiting = sum(msgspec.json.decode(each.body)["state"]["messages"] for each in answers)
        if not waiting:
            return
        await asyncio.sleep(0.01)


async def outcome(bus: Bus, made: System, dying: Dying) -> tuple[Any, ...]:
    """What all of it has come to, in one life or two."""
    outside = Outside(bus)

    async def direct(node: Node) -> None:
        """Asks of the node's own process, which does not outlive it; whoever asks does."""
        direct_reply: int = await node.ref(Desk, "3").ask(Work(number=7))
        outside.answers["direct"] = direct_reply
        plain_reply: int = await node.ref(Bank, "4").ask(Charge(number=9))
        outside.answers["plain"] = plain_reply

    async def finish(node: Node) -> tuple[Any, ...]:
        while len(outside.answers) < len(LETTERS) + 2:
            await asyncio.sleep(0.002)
        return await final(node, bus), outside.answers

    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as asking:
        for letter in LETTERS:
            asking.create_task(outside.ask(*letter))
        for life in range(2):
            async with made.host(bus) as node:
                if life == 0:
                    asking.create_task(direct(node))
                finishing = asyncio.create_task(finish(node))
                death = asyncio.create_task(dying.dead.wait())
                await asyncio.wait((finishing, death), return_when=asyncio.FIRST_COMPLETED)
                death.cancel()
                if finishing.done():
                    return finishing.result()
                finishing.cancel()
            dying.revive()
    raise AssertionError("it died twice")


async def final(node: Node, bus: Bus) -> tuple[Any, ...]:
    while True:
        ticked = [(await node.ref(Desk, key).ask(State()))[-1] for key in ("1", "2", "3")]
        if ticked == [[1, 2], [3], [7]]:
            break
        await asyncio.sleep(0.005)
    await settled(bus)
    desks = [await node.ref(Desk, key).ask(State()) for key in ("1", "2", "3")]
    boards = [await node.ref(Board, key).ask(Notes()) for key in ("all", "1", "2", "3")]
    banks = [await node.ref(Bank, key).ask(Charges()) for key in ("1", "2", "3", "4")]
    dead = [(each.kind, each.key, each.message.id, each.cause.kind) for each in await DeadLetters(bus).list()]
    return desks, boards, banks, sorted(dead)


EXPECTED_STATE: tuple[Any, ...] = (
    [[[1, 31], [2, 52], [1, 2]], [[3, 71], [3]], [[7, 151], [7]]],
    [
        {
            str(1000 * key + 10 * number + each): 1
            for key, number in ((1, 1), (1, 2), (2, 3), (3, 7))
            for each in range(3)
        },
        {"1": 1, "2": 1},
        {"3": 1},
        {"7": 1},
    ],
    [[1, 2], [3], [7], [9]],
    [("desk", "1", "f1", "defect"), ("desk", "2", "x1", "undecodable")],
)


def check(found: tuple[Any, ...]) -> None:
    state, answers = found
    desks, boards, banks, dead = state
    assert desks == EXPECTED_STATE[0]
    assert boards == EXPECTED_STATE[1]
    assert banks == EXPECTED_STATE[2]
    assert dead == EXPECTED_STATE[3]
    assert answers["w1"] == b"30" and answers["w2"] == b"50" and answers["w3"] == b"70"
    assert answers["direct"] == 150 and answers["plain"] == 1
    assert answers["t1"] == b'"no credit 50"' and answers["no"][0] == "refused"
    assert answers["f1"][0] == "defect"
    assert answers["x1"][0] in ("undecodable", "unknown_message"), answers["x1"]


@pytest.mark.parametrize("history", ["compact", "keep"])
@pytest.mark.parametrize("every", [500, 1])
async def test_without_a_death_all_comes_to_what_is_expected(
    nats_bus: NatsBus, app: str, history: History, every: int
) -> None:
    check(await outcome(nats_bus, system(app, history, every), Dying(nats_bus, "before", 0)))


@pytest.mark.parametrize(
    ("first", "history", "where", "every"),
    [(first, *way) for first, way in enumerate(product(("compact", "keep"), ("before", "stored"), (500, 1)), start=1)],
)
async def test_a_death_at_any_append_changes_nothing(
    app: str, first: int, history: History, where: Where, every: int
) -> None:
    for number in count(first, STRIDE):
        bus = MemoryBus(app)
        dying = Dying(bus, where, number)
        replace_append(bus.log, dying.append)
        try:
            check(await outcome(bus, system(app, history, every), dying))
        except BaseException as error:
            error.add_note(f"death at append {number}")
            raise
        if dying.appends < number:
            break
