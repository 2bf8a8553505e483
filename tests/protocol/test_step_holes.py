"""Holes C8, C9 and C10: equal steps that would swap their answers, a cancelled step whose record is there, a deploy in mid-turn.

A kill is the host's end while the turn waits in its last step. ``RAN`` is outside of the runtime: which bodies ran.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from regrow.actors import Actor, Event, Kind, Message, Policy, System, Tool, command, event, tool
from regrow.actors.records import Cancelled, Record, Steps
from regrow.bus import Address, Bus, decode
from regrow.supervisor import Backoff

pytestmark = pytest.mark.asyncio

OpenBus = Callable[[], Awaitable[Bus]]
AT_ONCE = Policy(backoff=Backoff(first_s=0.0))
SMALL, LARGE = "pay 5 EUR", "pay 5000 EUR"

RAN: list[str] = []
HELD: list[asyncio.Event] = []
"""Set by the last step of a turn, which then waits for ever; empty in the next life."""


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    RAN.clear()
    yield
    HELD.clear()


@tool
async def last() -> str:
    RAN.append("last")
    for held in HELD:
        held.set()
        await asyncio.Event().wait()
    return "end"


@asynccontextmanager
async def killed_in_its_last_step(
    bus: Bus, app: System, actor: type[Actor], message: Message[list[str]]
) -> AsyncGenerator["asyncio.Task[list[str]]"]:
    """The ask of a turn whose host has ended in its last step."""
    HELD.append(asyncio.Event())
    async with app.host(bus) as node:
        asking = asyncio.create_task(node.ref(actor, "a").ask(message))
        await HELD[0].wait()
    HELD.clear()
    yield asking
    asking.cancel()


# C8


class Local:
    """Work of two branches that nobody records: which of them is done with it first."""

    def __init__(self, late: str, until: str) -> None:
        self._late = late
        self._until = until
        self._reached = asyncio.Event()

    async def work(self, branch: str) -> None:
        """Takes the late one until the other has reached its question, or its answer."""
        if branch == self._late:
            await self._reached.wait()
        elif self._until == "question":
            self._reached.set()

    def answered(self) -> None:
        self._reached.set()


class Approve(Message[list[str]]):
    keyed: bool


@tool
async def ask_human(question: str) -> str:
    RAN.append(question)
    return f"answer {len(RAN)}"


class Buyer(Actor):
    @command
    async def approve(self, msg: Approve) -> list[str]:
        local: Local = self.port("local")

        async def branch(what: str) -> str:
            await local.work(what)
            ask = ask_human.using(key=what) if msg.keyed else ask_human
            answer = await ask("Approve?")
            local.answered()
            return f"{what}: {answer}"

        return [*await asyncio.gather(branch(SMALL), branch(LARGE)), await last()]


@pytest.mark.parametrize(("keyed", "until"), [(True, "question"), (False, "answer")])
async def test_equal_steps_keep_their_answers_whichever_branch_comes_first_on_replay(
    open_another: OpenBus, app: str, keyed: bool, until: str
) -> None:
    """At once they need keys; one after the other, each is known by its task."""

    def buyers(local: Local) -> System:
        return System(app, actors=[Kind(actor=Buyer, policy=AT_ONCE)], ports={"local": local})

    first = buyers(Local(late=LARGE, until=until))
    async with (
        killed_in_its_last_step(await open_another(), first, Buyer, Approve(keyed=keyed)) as asking,
        buyers(Local(late=SMALL, until="question")).host(await open_another()),
    ):
        assert await asking == [f"{SMALL}: answer 1", f"{LARGE}: answer 2", "end"]
    assert RAN == ["Approve?", "Approve?", "last", "last"]


# C9


class Travel(Message[list[str]]):
    pass


@tool
async def primary() -> str:
    RAN.append("primary")
    return "primary"


@tool
async def fallback() -> str:
    RAN.append("fallback")
    return "fallback"


class Traveller(Actor):
    @command
    async def travel(self, msg: Travel) -> list[str]:
        stored: asyncio.Event = self.port("stored")
        given_up: asyncio.Event = self.port("given up")
        booking = asyncio.create_task(primary())
        await asyncio.sleep(0)  # it has begun, also where the event is set already
        await stored.wait()
        booking.cancel()
        given_up.set()
        await asyncio.wait([booking])
        booked = await fallback() if booking.cancelled() else booking.result()
        return [booked, await last()]


async def test_a_step_that_was_given_up_while_its_record_was_acknowledged_late_stays_given_up(
    open_another: OpenBus, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus, stored, given_up = await open_another(), asyncio.Event(), asyncio.Event()
    travellers = System(
        app, actors=[Kind(actor=Traveller, policy=AT_ONCE)], ports={"stored": stored, "given up": given_up}
    )
    attempt: Callable[..., None] = bus.log.attempt
    late: list[asyncio.Task[None]] = []

    def acknowledged_late(address: Address, data: bytes, *, done: Callable[[int | None], None], **more: Any) -> None:
        async def tell(sequence: int | None) -> None:
            stored.set()
            await given_up.wait()
            done(sequence)

        def told(sequence: int | None) -> None:
            late.append(asyncio.create_task(tell(sequence)))

        is_meant = b'"primary"' in data and not stored.is_set()
        attempt(address, data, done=told if is_meant else done, **more)

    monkeypatch.setattr(bus.log, "attempt", acknowledged_late)
    async with killed_in_its_last_step(bus, travellers, Traveller, Travel()) as asking:
        assert len(late) == 1
        records = [decode(each.data, Record, "record") for each in await bus.log.read(Address("traveller", "a"))]
        entries = [entry for record in records for entry in record.entries]
        assert [each.step.tool for each in entries if isinstance(each, Cancelled)] == ["primary"]
        assert [step.tool for each in entries if isinstance(each, Steps) for step in each.steps] == [
            "primary",
            "fallback",
        ]
        async with travellers.host(await open_another()):
            assert await asking == ["fallback", "end"]
    assert RAN == ["primary", "fallback", "last", "last"]


# C10


class Pay(Message[list[str]]):
    pass


class Paid(Event):
    pass


async def paying_in(build: str) -> str:
    RAN.append(f"paid by {build}")
    return build


def build(name: str, version: int) -> type[Actor]:
    """A build of the application: its own version of the actor, and its own body of the tool."""

    async def pay(cents: int) -> str:
        return await paying_in(name)

    pay.__qualname__ = "pay"
    paying: Tool[[int], str] = tool(pay)

    class Payer(Actor, kind="payer", version=version):
        paid: int = 0

        @command
        async def pay(self, msg: Pay) -> list[str]:
            by = await paying(500)
            self.emit(Paid())
            return [by, await last()]

        @event
        def on_paid(self, fact: Paid) -> None:
            self.paid += 1

    return Payer


async def test_another_build_in_the_middle_of_a_turn_pays_nothing_twice(open_another: OpenBus, app: str) -> None:
    old, new = build("the old build", 1), build("the new build", 2)
    first, then = (System(app, actors=[Kind(actor=each, policy=AT_ONCE)]) for each in (old, new))
    async with (
        killed_in_its_last_step(await open_another(), first, old, Pay()) as asking,
        then.host(await open_another()),
    ):
        assert await asking == ["the old build", "end"]
    assert RAN == ["paid by the old build", "last", "last"]
