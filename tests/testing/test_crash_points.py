"""The kit on runtimes that are right: every death comes to the same, and nothing of a dead process runs on."""

import asyncio
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from regrow.actors import Actor, Event, Message, System, command, event, tool
from regrow.testing import CrashReport, Outside, crash_points
from regrow.testing.points import point

pytestmark = pytest.mark.asyncio

Record = Callable[[str, object], None]


def note(record_property: Record, report: CrashReport) -> None:
    record_property("points", report.points)
    record_property("seconds", round(report.seconds, 1))


async def test_a_counter_with_sends_and_timers_comes_to_the_same_after_any_death(
    application: Callable[[str], ModuleType], record_property: Record
) -> None:
    counter = application("counter")
    report = await crash_points(counter.app, counter.scenario)
    note(record_property, report)
    assert report.ok, report
    assert report.points == report.possible
    assert report.tried.keys() == {"append", "publish", "ack", "post", "schedule"}


async def test_an_agent_of_twenty_steps_comes_to_the_same_after_any_death(
    application: Callable[[str], ModuleType], record_property: Record
) -> None:
    agent = application("agent")
    report = await crash_points(agent.app, agent.scenario)
    note(record_property, report)
    assert report.ok, report
    assert report.points + len(report.unreached) == report.possible  # how two threads end is nobody's to say
    assert report.tried.keys() >= {"append", "publish", "ack", "post", "schedule", "step", "await"}
    assert report.tried["step"] >= 2 * 15 and report.tried["await"] > 15


async def test_policies_of_tools_and_checkpoints_come_to_the_same_after_any_death(
    application: Callable[[str], ModuleType], record_property: Record
) -> None:
    """What runs once is paid once: by the bank, which is outside of every process."""
    policies = application("policies")
    report = await crash_points(policies.app, policies.scenario)
    note(record_property, report)
    assert report.ok, report
    assert report.points == report.possible
    assert report.tried["step"] >= 2 * 13


class Go(Message[int]):
    pass


class Gone(Event):
    pass


@tool
async def walk(far: int) -> int:
    await asyncio.sleep(far)
    return far


@tool
def think() -> int:
    return 2


class Careful(Actor):
    """Tells the outside of every exception that passes it."""

    gone: int = 0

    @command
    async def go(self, msg: Go) -> int:
        seen: list[str] = self.port("seen")
        try:
            await asyncio.gather(walk(1), walk(2))
            await think()
        except BaseException as error:
            seen.append(repr(error))
            raise
        finally:
            if not self.gone:
                seen.append("done")
        self.emit(Gone())
        return self.gone

    @event
    def on_gone(self, fact: Gone) -> None:
        self.gone += 1


async def test_neither_finally_nor_except_of_a_dead_process_does_anything_that_could_be_seen() -> None:
    seen: list[str] = []
    told: list[list[str]] = []

    def careful() -> System:
        seen.clear()
        return System("careful", actors=[Careful], ports={"seen": seen})

    async def scenario(outside: Outside) -> int:
        reply = await outside.ref(Careful, "a").ask(Go())
        told.append(list(seen))
        return reply

    report = await crash_points(careful, scenario)
    assert report.ok, report
    assert report.tried["await"] > 3 and report.tried["step"] == 6
    assert {each for run in told for each in run} == {"done"}


@pytest.mark.parametrize("name", ["counter", "agent"])
async def test_a_second_death_soon_after_the_first_changes_nothing_either(
    name: str, application: Callable[[str], ModuleType], record_property: Record
) -> None:
    made = application(name)
    report = await crash_points(made.app, made.scenario, twice=True)
    note(record_property, report)
    record_property("seed", report.seed)
    assert report.ok, report
    assert report.points + len(report.unreached) == report.possible


async def test_a_second_death_is_part_of_a_points_name(application: Callable[[str], ModuleType]) -> None:
    assert str(point("append 17 after + 5")) == "append 17 after + 5"
    assert str(point("await 3 + 1")) == "await 3 + 1"
    counter = application("counter")
    report = await crash_points(counter.app, counter.scenario, only="append 2 after + 3")
    assert report.ok and report.points == 1


async def test_a_single_point_is_tried_again_by_its_name(application: Callable[[str], ModuleType]) -> None:
    counter = application("counter")
    report = await crash_points(counter.app, counter.scenario, only="append 2 after")
    assert report.ok and report.tried == {"append": 1}


async def test_a_point_that_is_not_passed_is_said_not_to_be_reached(application: Callable[[str], ModuleType]) -> None:
    counter = application("counter")
    report = await crash_points(counter.app, counter.scenario, only="append 200 after")
    assert report.unreached == ("append 200 after",) and report.points == 0


@pytest.mark.parametrize("name", ["append", "append 3", "await 3 after", "appendix 1 before", "append x before"])
async def test_a_name_that_is_none_is_refused(application: Callable[[str], ModuleType], name: str) -> None:
    counter = application("counter")
    with pytest.raises(ValueError, match="is no crash point: write it as a report does"):
        await crash_points(counter.app, counter.scenario, only=name)


async def test_a_sample_is_drawn_again_by_its_seed(application: Callable[[str], ModuleType]) -> None:
    counter = application("counter")
    first = await crash_points(counter.app, counter.scenario, points=5)
    again = await crash_points(counter.app, counter.scenario, points=5, seed=first.seed)
    assert first.ok and first.points == 5
    assert (first.tried, first.seed) == (again.tried, again.seed)
    assert f"(seed {first.seed})" in str(first)


class Roll(Message[float]):
    pass


RUNS: list[None] = []


class Dice(Actor):
    @command
    async def roll(self, msg: Roll) -> float:
        RUNS.append(None)
        return len(RUNS)


async def test_a_scenario_that_differs_from_itself_is_told_apart_from_a_death() -> None:
    async def scenario(outside: Outside) -> float:
        return await outside.ref(Dice, "a").ask(Roll())

    report = await crash_points(System("dice", actors=[Dice]), scenario)
    assert not report.ok and report.points == 0
    assert "Already without any death, from one run to the next" in str(report)


async def test_a_scenario_that_never_ends_is_said_to_wait() -> None:
    async def scenario(outside: Outside) -> Any:
        await asyncio.Event().wait()

    report = await crash_points(System("dice", actors=[Dice]), scenario, patience_s=60, settle_s=0)
    assert not report.ok
    assert "not over after 60 s of virtual time; no mail waits" in str(report)


async def test_a_state_is_compared_as_far_as_the_view_of_it_says() -> None:
    RUNS.clear()

    async def scenario(outside: Outside) -> None:
        await outside.ref(Keeping, "a").ask(Roll())

    app = System("keeping", actors=[Keeping])
    assert not (await crash_points(app, scenario)).ok
    report = await crash_points(app, scenario, view=lambda actor, state: "some" if state["rolled"] else "none")
    assert report.ok, report


class Keeping(Actor, persist="fields"):
    rolled: list[int] = []

    @command
    async def roll(self, msg: Roll) -> float:
        RUNS.append(None)
        self.rolled.append(len(RUNS))
        return 0.0
