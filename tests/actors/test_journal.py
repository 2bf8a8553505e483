"""The journal alone: outcomes pass in the order of the log, one at a time, and drift is told from delay."""

import asyncio

import msgspec
import pytest

from regrow.actors import AmbiguousStep, Drift, journal
from regrow.actors.journal import Journal, digest
from regrow.actors.lineage import Lineage, StepKey
from regrow.actors.records import Outcome, Step

pytestmark = pytest.mark.asyncio


def key(path: str, tool: str = "work") -> StepKey:
    return StepKey.of(path, tool, "d", 0)


def step(path: str, tool: str = "work", *, cancelled: bool = False) -> Step:
    return Step(key(path, tool).text, tool, msgspec.Raw(b"{}"), Outcome(msgspec.Raw(b"1")), cancelled=cancelled)


def among_tasks() -> Lineage:
    """The lineage of a handler that has more tasks than its own."""
    task = asyncio.current_task()
    assert task is not None
    return Lineage(family={task: None})


async def ask(made: Journal, path: str, seen: list[str], tool: str = "work") -> None:
    recorded = made.recorded(key(path, tool))
    assert recorded is not None
    await made.replay(recorded)
    seen.append(path + tool)


async def test_outcomes_pass_in_the_order_of_the_log_whoever_asks_first() -> None:
    made, seen = Journal("k/a", [step(".0"), step(".1"), step(".2")]), list[str]()
    async with asyncio.TaskGroup() as group:
        for path in (".2", ".0", ".1"):
            group.create_task(ask(made, path, seen))
    assert seen == [".0work", ".1work", ".2work"]


async def test_between_two_outcomes_the_first_reaches_whoever_waits_for_it() -> None:
    made = Journal("k/a", [step(".0"), step(".1")], among_tasks())
    racers = [asyncio.create_task(ask(made, path, [])) for path in (".1", ".0")]
    done, _ = await asyncio.wait(racers, return_when=asyncio.FIRST_COMPLETED)
    assert done == {racers[1]}
    await asyncio.wait(racers)


async def test_a_recorded_outcome_never_comes_without_a_pause() -> None:
    made, seen = Journal("k/a", [step("")]), list[str]()
    asking = asyncio.create_task(ask(made, "", seen))
    await asyncio.sleep(0)
    assert seen == []
    await asking


async def test_a_step_that_is_not_recorded_has_to_run_and_passes_last() -> None:
    made, seen = Journal("k/a", [step(".0")]), list[str]()
    assert made.recorded(key(".1")) is None

    async def live() -> None:
        await made.arrive(made.place())
        seen.append("live")

    running = asyncio.create_task(live())
    await asyncio.sleep(0)
    await ask(made, ".0", seen)
    await running
    assert seen == [".0work", "live"]


async def test_a_live_step_waits_for_nobody_when_it_is_next() -> None:
    made = Journal("k/a", [])
    assert made.passes(made.place())
    assert made.passes(made.place())


async def test_one_that_is_given_up_lets_the_next_one_pass() -> None:
    made, seen = Journal("k/a", []), list[str]()
    first, second = made.place(), made.place()

    async def live() -> None:
        await made.arrive(second)
        seen.append("second")

    running = asyncio.create_task(live())
    await asyncio.sleep(0)
    made.give_up(first)
    await running
    assert seen == ["second"]


async def test_who_is_cancelled_while_he_waits_lets_the_next_one_pass() -> None:
    made = Journal("k/a", [])
    _, second, third = made.place(), made.place(), made.place()
    waiting = [asyncio.create_task(made.arrive(second)), asyncio.create_task(made.arrive(third))]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.wait(waiting[:1])
    made.give_up(0)
    await waiting[1]


async def test_a_cancelled_step_waits_to_be_cancelled_and_holds_up_what_came_after() -> None:
    made, seen = Journal("k/a", [step(".0", cancelled=True), step(".1")]), list[str]()
    cancelled = asyncio.create_task(ask(made, ".0", seen))
    after = asyncio.create_task(ask(made, ".1", seen))
    for _ in range(3 * journal.SETTLE_TICKS):
        await asyncio.sleep(0)
    assert seen == []
    cancelled.cancel()
    await after
    assert cancelled.cancelled()
    assert seen == [".1work"]


async def test_of_two_records_of_one_step_the_later_counts() -> None:
    made = Journal("k/a", [step(".0"), step(".1"), step(".0", cancelled=True)])
    recorded = made.recorded(key(".0"))
    assert recorded is not None
    assert recorded.cancelled
    await ask(made, ".1", [])


async def test_another_step_than_the_recorded_one_is_drift() -> None:
    made = Journal("k/a", [step("", "first"), step("", "second")])
    with pytest.raises(Drift, match=r"k/a has drifted .*: first was recorded, other is wanted") as drift:
        made.recorded(key("", "other"))
    assert (drift.value.actor, drift.value.wanted, drift.value.recorded) == ("k/a", "/other/d/0", "/first/d/0")
    with pytest.raises(Drift, match="first was recorded, other is wanted"):
        made.recorded(key("", "second"))


async def test_a_handler_that_ends_before_its_steps_were_asked_for_is_drift() -> None:
    made = Journal("k/a", [step("")])
    with pytest.raises(Drift, match="work was recorded, nothing is wanted"):
        made.check_done()
    made = Journal("k/a", [step("")])
    await ask(made, "", [])
    made.check_done()
    Journal("k/a", [step(".0")]).check_done()


async def test_a_step_whose_task_is_over_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "STALL_S", 0.001)
    lineage, gate = Lineage(), asyncio.Event()
    made = Journal("k/a", [step(".0"), step(".1")], lineage)
    task = asyncio.create_task(gate.wait())
    lineage.child().follow(task)
    asking = asyncio.create_task(ask(made, ".1", []))
    done, _ = await asyncio.wait((asking,), timeout=0.05)
    assert not done, "the task may still ask for it"
    gate.set()
    with pytest.raises(Drift, match=r"work was recorded, nothing is wanted \(in its task 0\)"):
        await asking


async def test_a_live_step_waits_in_patience_for_live_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "STALL_S", 0.001)
    made = Journal("k/a", [])
    first, second = made.place(), made.place()
    waiting = asyncio.create_task(made.arrive(second))
    done, _ = await asyncio.wait((waiting,), timeout=0.02)
    assert not done
    await made.arrive(first)
    await waiting


async def test_a_step_of_an_earlier_attempt_has_an_outcome_already_and_is_not_missed() -> None:
    made = Journal("k/a", [step("", "second")], kept=[step("", "b"), step(".4")])
    await ask(made, "", [], "second")
    assert made.recorded(key("", "b")) is None, "it runs, as far as its place is concerned"
    assert made.kept(key("", "b").text) == Outcome(msgspec.Raw(b"1"))
    assert made.kept(key("", "c").text) is None
    made.check_done()


async def test_a_cancellation_passes_in_the_order_of_the_log() -> None:
    made, seen = Journal("k/a", [step(".0"), step(".1", cancelled=True)], among_tasks()), list[str]()

    async def cancelled() -> None:
        try:
            await ask(made, ".1", seen)
        except asyncio.CancelledError:
            seen.append("cancelled")

    task = asyncio.create_task(cancelled())
    await asyncio.sleep(0)
    task.cancel()
    for _ in range(3 * journal.SETTLE_TICKS):
        await asyncio.sleep(0)
    assert seen == []
    await ask(made, ".0", seen)
    await task
    assert seen == [".0work", "cancelled"]


async def test_equal_calls_open_in_two_tasks_are_ambiguous_unless_pure_or_recorded() -> None:
    made = Journal("k/a", [step(".3")])
    made.enter(key(".0"), pure=False)
    with pytest.raises(AmbiguousStep):
        made.enter(key(".1"), pure=False)
    made.enter(key(".2"), pure=True)
    made.enter(key(".3"), pure=False)
    made.leave(key(".0"))
    made.enter(key(".1"), pure=False)


async def test_arguments_are_told_apart_by_their_digest() -> None:
    assert digest(b'{"a":1}') != digest(b'{"a":2}')
    assert len(digest(b"")) == 16
