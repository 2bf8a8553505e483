"""The actors that keep schedules: one durable actor per schedule, whose one timer is its next due time.

Whatever it sends and the timer that comes next are one record, so a due time runs at most once, also through crashes, and no
process is held until it comes. What counts is the code of the node that serves the actor: it looks there whenever it is due, and
when a node has started.
"""

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
import structlog

from regrow.actors.actor import Actor
from regrow.actors.agenda import Agenda, Look, finish, fire, first
from regrow.actors.client import Client
from regrow.actors.errors import AskTimeout
from regrow.actors.handler import command, event, query
from regrow.actors.message import Event, Message
from regrow.actors.ref import Transport
from regrow.actors.schedule import RESERVED, Plan
from regrow.actors.step import step
from regrow.bus import Bus, BusError, MailboxFull
from regrow.supervisor import ChildSpec, Start

_log = structlog.get_logger(__name__)

PORT = "rg_schedules"
"""Under which name the actors find the plans of their node's code."""
RETRY_PAUSE_S = 1.0
_TIMER = "due"


class Review(Message[None]):
    """A node has started: is the schedule still what the code says?"""


class Due(Message[None]):
    """The timer's message."""

    due_ms: int


class Standing(msgspec.Struct, frozen=True):
    """How a schedule stands."""

    plan: Plan | None
    """None: the code does not have it any more."""
    agenda: Agenda
    runs: int
    """Since it was first planned."""
    dropped: int
    """Due times that did not run, because of a run under way or because nobody served."""
    trouble: str
    """Why the last run that was waited for failed; empty when it did not."""


class Stands(Message[Standing]):
    """How does the schedule stand?"""


class Planned(Event):
    plan: Plan
    agenda: Agenda


class Looked(Event):
    agenda: Agenda
    runs: int
    dropped: int


class RunEnded(Event):
    agenda: Agenda
    dropped: int
    trouble: str


class Stopped(Event):
    pass


class Seen(msgspec.Struct, frozen=True):
    """What a turn finds when it begins; recorded, for a turn that goes on after a crash must find the same."""

    now_ms: int
    plan: Plan | None


class Scheduler(Actor, kind=RESERVED):
    """One schedule; its key is the schedule's name."""

    plan: Plan | None = None
    agenda: Agenda = Agenda()
    runs: int = 0
    dropped: int = 0
    trouble: str = ""

    @command
    async def review(self, msg: Review) -> None:
        seen = await self._see()
        self._adopt(seen)
        self._set_timer(seen.now_ms)

    @command
    async def due(self, msg: Due) -> None:
        seen = await self._see()
        now_ms = seen.now_ms
        if self._adopt(seen) and msg.due_ms == self.agenda.due_ms:
            now_ms = await self._fire(seen.now_ms)
        self._set_timer(now_ms)

    @query
    async def stands(self, msg: Stands) -> Standing:
        return Standing(self.plan, self.agenda, self.runs, self.dropped, self.trouble)

    @event
    def planned(self, fact: Planned) -> None:
        self.plan, self.agenda = fact.plan, fact.agenda

    @event
    def looked(self, fact: Looked) -> None:
        self.agenda = fact.agenda
        self.runs += fact.runs
        self.dropped += fact.dropped

    @event
    def run_ended(self, fact: RunEnded) -> None:
        self.agenda, self.trouble = fact.agenda, fact.trouble
        self.dropped += fact.dropped

    @event
    def stopped(self, fact: Stopped) -> None:
        self.plan, self.agenda = None, Agenda()

    async def _see(self) -> Seen:
        plans: Mapping[str, Plan] = self.port(PORT)

        async def see() -> Seen:
            return Seen(now_ms(), plans.get(self.key))

        seen: Seen = await step("schedule", self.key, see, Seen)
        return seen

    def _adopt(self, seen: Seen) -> bool:
        """Becomes what the code says; whether the agenda is still that of before."""
        plan, held = seen.plan, self.plan
        if plan is None:
            if held is not None:
                self.emit(Stopped())
            return False
        same = held is not None and (held.timing.cron, held.timing.tz) == (plan.timing.cron, plan.timing.tz)
        if plan != held:
            self.emit(Planned(plan=plan, agenda=self.agenda if same else first(plan.timing, seen.now_ms)))
        return same

    async def _fire(self, began_ms: int) -> int:
        """Runs what is due, and returns the time by then."""
        plan = self.plan
        assert plan is not None
        look = fire(plan.timing, self.agenda, began_ms)
        self.emit(Looked(agenda=look.agenda, runs=len(look.run), dropped=look.dropped))
        if plan.timing.overlap != "allow" and look.run:
            return await self._run(plan, look, began_ms)
        for _ in look.run:
            self._running("send").send(plan.to, cast(Any, plan.body))
        return began_ms

    async def _run(self, plan: Plan, look: Look, began_ms: int) -> int:
        """One run, waited for: an ask survives restarts on either side."""
        turn = cast(Transport, self._running("ask"))
        try:
            any_command = self.__regrow__.commands[
                Due
            ]  # the receiver's may be of another build; that it is a command is enough
            outcome = await turn.ask(plan.to, any_command, plan.body, plan.timing.run_ms / 1000)
            trouble = outcome.failure.message if outcome.failure is not None else ""
        except AskTimeout as late:
            trouble = str(late)
        ended_ms: int = await step("clock", self.key, _clock, int)
        after = finish(plan.timing, look.agenda, max(began_ms, *look.run), ended_ms)
        self.emit(RunEnded(agenda=after.agenda, dropped=after.dropped, trouble=trouble))
        return ended_ms

    def _set_timer(self, now_ms: int) -> None:
        at_ms = self.agenda.timer_ms(now_ms)
        if at_ms:
            at = datetime.fromtimestamp(at_ms / 1000, UTC)
            self.set_timer(_TIMER, Due(due_ms=self.agenda.due_ms), at=at)
        else:
            self.cancel_timer(_TIMER)


def now_ms() -> int:
    """Milliseconds since 1970 by this node's clock."""
    return time.time_ns() // 1_000_000


async def _clock() -> int:
    return now_ms()


def starter(bus: Bus, client: Client, plans: Mapping[str, Plan]) -> ChildSpec:
    """A supervisor's child that tells every schedule, also those that the code has no more, that a node has started."""

    async def run(start: Start) -> None:
        start.ready()
        while True:
            try:
                known = {address.key for address in await bus.log.addresses(RESERVED)}
                for name in sorted(known | plans.keys()):
                    await _tell(client, name)
                return
            except BusError as error:
                _log.warning("the schedules have not been told yet", error=str(error))
                await asyncio.sleep(RETRY_PAUSE_S)

    return ChildSpec(id="schedules", run=run, restart="transient")


async def _tell(client: Client, name: str) -> None:
    try:
        await client.ref(Scheduler, name).tell(Review())
    except MailboxFull:
        _log.debug("the schedule has been told often enough", name=name)
