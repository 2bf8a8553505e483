"""Runtimes with a planted bug: the kit finds each, and names a moment at which it shows."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from itertools import count
from types import ModuleType
from typing import Any

import pytest

from regrow.actors import Actor, Event, Message, System, command, event, outbox, query, tool
from regrow.actors.cell import Cell
from regrow.actors.journal import Journal
from regrow.actors.records import Letter, Steps, Turn
from regrow.actors.turns import Turns
from regrow.actors.wire import relay_id, reply_message
from regrow.bus import Address, Delivery, MemoryBus
from regrow.testing import CrashReport, Outside, crash_points

pytestmark = pytest.mark.asyncio


class Issue(Message[int]):
    pass


class Last(Message[int]):
    pass


class Issued(Event):
    number: int


class Tickets(Actor):
    """Issues what nobody can compute again, without a step: whoever has the reply must find it in the state."""

    last: int = 0

    @command
    async def issue(self, msg: Issue) -> int:
        self.emit(Issued(number=next(self.port("numbers"))))
        return self.last

    @query
    async def read(self, msg: Last) -> int:
        return self.last

    @event
    def issued(self, fact: Issued) -> None:
        self.last = fact.number


@tool
async def quote() -> int:
    return next(NUMBERS)


@tool
async def charge(amount: int) -> int:
    CHARGED[amount] += 1
    await asyncio.sleep(1)
    return amount


NUMBERS = count(1)
CHARGED: Counter[int] = Counter()


class Till(Actor):
    @command
    async def issue(self, msg: Issue) -> int:
        return await charge(await quote())


def tickets() -> System:
    return System("tickets", actors=[Tickets], ports={"numbers": count(1)})


async def issued(outside: Outside) -> bool:
    """Whether what was answered is what was kept; the numbers themselves may differ from run to run."""
    got = await outside.ref(Tickets, "a").ask(Issue())
    outside.replies.clear()
    return got == await outside.ref(Tickets, "a").ask(Last())


async def issue_tickets() -> CrashReport:
    return await crash_points(tickets, issued, view=lambda actor, state: None)


async def charge_once(bus: Callable[[str], MemoryBus] = MemoryBus) -> CrashReport:
    async def scenario(outside: Outside) -> list[int]:
        CHARGED.clear()
        paid = await outside.ref(Till, "a").ask(Issue())
        outside.replies.clear()
        return [each - paid for each in CHARGED]

    return await crash_points(
        System("till", actors=[Till]), scenario, witness=False, bus=bus, patience_s=60, settle_s=60
    )


async def test_a_right_runtime_keeps_what_it_answered() -> None:
    report = await issue_tickets()
    assert report.ok, report


async def test_a_reply_before_its_record_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    record: Any = Turns._record  # pyright: ignore[reportPrivateUsage]

    async def early(self: Turns, letter: Letter, entry: Turn) -> None:
        await self.bus.publish(letter.reply, *reply_message(entry.reply))
        await record(self, letter, entry)

    monkeypatch.setattr(Turns, "_record", early)
    report = await issue_tickets()
    assert not report.ok and report.first is not None
    assert report.first.point in ("publish 1 after", "append 1 before"), report
    assert "the scenario's result is false, undisturbed true" in report.first.sentences
    again = await crash_points(tickets, issued, view=lambda actor, state: None, only=report.first.point)
    assert again.first == report.first


async def test_a_right_runtime_shows_no_result_before_its_record() -> None:
    report = await charge_once()
    assert report.ok, report


async def test_a_result_that_is_shown_before_its_record_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    submit: Any = Turns.submit

    def hasty(self: Turns, *entries: Any, **options: Any) -> "asyncio.Future[None]":
        if not any(isinstance(entry, Steps) and entry.steps[0].tool == "quote" for entry in entries):
            stored: asyncio.Future[None] = submit(self, *entries, **options)
            return stored

        async def in_the_background() -> None:
            await asyncio.sleep(0.5)
            await submit(self, *entries, **options)

        self.start(in_the_background)
        shown: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        shown.set_result(None)
        return shown

    monkeypatch.setattr(Turns, "submit", hasty)
    report = await charge_once()
    assert not report.ok and report.first is not None
    assert "undisturbed [0]" in report.first.sentences[0], report


async def test_a_server_that_loses_what_it_acknowledged_is_found() -> None:
    """One that forgets, when its client dies, the last record of each log: it had not reached the disk."""

    class Losing(MemoryBus):
        def __init__(self, app: str) -> None:
            super().__init__(app)
            serve = self.mail.serve

            @asynccontextmanager
            async def losing(*arguments: Any) -> AsyncGenerator[Any]:
                for address in await self.log.addresses():
                    del self.log._records[address][-1:]  # pyright: ignore[reportPrivateUsage]
                async with serve(*arguments) as holding:
                    yield holding

            self.mail.serve = losing  # type: ignore[method-assign, assignment]

    report = await charge_once(Losing)
    assert not report.ok and report.first is not None
    assert "till/a ran quote {} again although its outcome is in the log" in report.first.sentences, report


async def test_an_acknowledgement_before_the_record_is_found(
    application: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Cell.put
    acknowledging: list[asyncio.Future[None]] = []

    def hasty(self: Cell, delivery: Delivery) -> None:
        acknowledging.append(asyncio.ensure_future(delivery.ack()))
        put(self, delivery)

    monkeypatch.setattr(Cell, "put", hasty)
    counter = application("counter")
    report = await crash_points(counter.app, counter.scenario)
    assert not report.ok and report.first is not None
    assert report.first.point.split()[0] in ("ack", "append", "post", "schedule"), report
    assert report.first.sentences


async def test_relays_that_nobody_can_tell_from_new_ones_are_found(
    application: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    relayed = count(1_000)

    def fresh(epoch: str, number: int, sequence: int, index: int) -> str:
        return relay_id(epoch, number, next(relayed), index)

    monkeypatch.setattr(outbox, "relay_id", fresh)
    counter = application("counter")
    report = await crash_points(counter.app, counter.scenario)
    assert not report.ok and report.first is not None
    assert report.first.point == "post 1 after", report
    assert report.first.about == "act board/all"
    assert any(each.startswith("the state of board/all is") for each in report.first.sentences)


async def test_a_recorded_step_that_runs_again_is_found_by_the_witness(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgotten(self: Journal, key: object, arguments: bytes = b"null") -> None:
        return None

    monkeypatch.setattr(Journal, "recorded", forgotten)
    report = await charge_once()
    assert not report.ok and report.first is not None
    assert "till/a ran quote {} again although its outcome is in the log" in report.first.sentences, report


async def test_a_runtime_that_goes_round_in_circles_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that never has what it has stored, so that nobody who reads the log may append to it."""

    class Forgetful(MemoryBus):
        def __init__(self, app: str) -> None:
            super().__init__(app)

            async def nothing(address: Address, after: int = 0) -> list[Any]:
                return []

            monkeypatch.setattr(self.log, "read", nothing)

    report = await crash_points(tickets, issued, bus=Forgetful, only="append 1 after")
    assert not report.ok and report.first is not None
    assert "goes round in circles" in report.first.sentences[0], report


class Effect(Message[int]):
    pass


class Careless(Actor):
    """Does outside what a tool should do."""

    @command
    async def do(self, msg: Effect) -> int:
        done: list[int] = self.port("done")
        done.append(1)
        return 1


async def test_an_effect_of_a_handler_that_is_no_step_is_found() -> None:
    done: list[int] = []

    def careless() -> System:
        done.clear()
        return System("careless", actors=[Careless], ports={"done": done})

    async def scenario(outside: Outside) -> int:
        await outside.ref(Careless, "a").ask(Effect())
        return len(done)

    report = await crash_points(careless, scenario)
    assert report.first is not None
    assert report.first.point == "append 1 before"
    assert report.first.sentences == ("the scenario's result is 2, undisturbed 1",)
    assert "only='append 1 before'" in str(report)
