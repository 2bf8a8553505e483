"""The restart strategies: OTP's supervisor documentation, and the one_for_all and rest_for_one cases of its supervisor_SUITE."""

import asyncio

import pytest
from tests.supervisor.puppet import Puppet, now, puppets, settle

from regrow.supervisor import (
    Backoff,
    ChildSpec,
    Crashed,
    Intensity,
    InvalidOption,
    Normal,
    RestartIntensityReached,
    Shutdown,
    Start,
    Strategy,
    Supervisor,
)
from regrow.supervisor.strategy import affected, ends_all

pytestmark = pytest.mark.asyncio

OFTEN = Intensity(1000, per_s=1.0)


async def test_one_for_one_restarts_the_child_that_died(story: list[str]) -> None:
    a, b, c = puppets("abc", story)
    async with Supervisor("root", strategy="one_for_one", children=[a.spec(), b.spec(), c.spec()]):
        b.crash(ValueError())
        await b.wait_came(2)
        assert story[3:] == ["b went", "b came"]


async def test_one_for_all_restarts_everybody_stopped_in_reverse_and_started_in_order(story: list[str]) -> None:
    a, b, c = puppets("abc", story)
    async with Supervisor("root", strategy="one_for_all", children=[a.spec(), b.spec(), c.spec()]):
        b.crash(ValueError())
        await c.wait_came(2)
        assert story[3:] == ["b went", "c went", "a went", "a came", "b came", "c came"]


async def test_rest_for_one_restarts_the_child_and_those_started_after_it(story: list[str]) -> None:
    a, b, c, d = puppets("abcd", story)
    async with Supervisor("root", strategy="rest_for_one", children=[a.spec(), b.spec(), c.spec(), d.spec()]):
        b.crash(ValueError())
        await d.wait_came(2)
        assert story[4:] == ["b went", "d went", "c went", "b came", "c came", "d came"]


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
async def test_who_died_is_told_why_and_who_was_stopped_is_told_that(strategy: Strategy, story: list[str]) -> None:
    a, b = puppets("ab", story)
    error = ValueError()
    async with Supervisor("root", strategy=strategy, children=[a.spec(), b.spec()]):
        a.crash(error)
        await b.wait_came(2)
        assert (a.starts[1].cause, b.starts[1].cause) == (Crashed(error), Shutdown())
        assert (a.starts[1].restarts, b.starts[1].restarts) == (1, 1)


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
async def test_a_temporary_sibling_that_is_stopped_does_not_come_back(strategy: Strategy, story: list[str]) -> None:
    a, b, c = puppets("abc", story)
    async with Supervisor("root", strategy=strategy, children=[a.spec(), b.spec("temporary"), c.spec()]) as tree:
        a.crash(ValueError())
        await c.wait_came(2)
        assert [child.id for child in tree.which_children()] == ["a", "c"]
        assert len(b.starts) == 1


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
async def test_the_end_of_a_temporary_child_concerns_no_sibling(strategy: Strategy, story: list[str]) -> None:
    a, b = puppets("ab", story)
    async with Supervisor("root", strategy=strategy, children=[a.spec("temporary"), b.spec()]) as tree:
        a.crash(ValueError())
        await settle()
        assert [child.id for child in tree.which_children()] == ["b"]
        assert len(b.starts) == 1


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
async def test_the_clean_end_of_a_transient_child_concerns_no_sibling(strategy: Strategy, story: list[str]) -> None:
    a, b = puppets("ab", story)
    async with Supervisor("root", strategy=strategy, children=[a.spec("transient"), b.spec()]) as tree:
        a.finish()
        await settle()
        assert [(child.state, child.last) for child in tree.which_children()] == [
            ("stopped", Normal()),
            ("running", None),
        ]


async def test_a_sibling_that_had_finished_comes_back_with_the_others(story: list[str]) -> None:
    a, b = puppets("ab", story)
    async with Supervisor("root", strategy="one_for_all", children=[a.spec("transient"), b.spec()]):
        a.finish()
        await settle()
        b.crash(ValueError())
        await b.wait_came(2)
        assert story[2:] == ["a went", "b went", "a came", "b came"]


async def test_each_of_the_restarted_siblings_waits_for_the_one_before_it_to_be_ready(story: list[str]) -> None:
    a, b = puppets("ab", story)

    async def slow(start: Start) -> None:
        await asyncio.sleep(float(start.restarts))
        story.append("slow ready")
        start.ready()
        await asyncio.Event().wait()

    children = [a.spec(), ChildSpec(id="slow", run=slow), b.spec()]
    async with Supervisor("root", strategy="one_for_all", children=children):
        a.crash(ValueError())
        await b.wait_came(2)
        assert now() == 1.0
        assert story[-3:] == ["a came", "slow ready", "b came"]


async def test_two_that_die_together_are_restarted_once(story: list[str]) -> None:
    a, b = puppets("ab", story)
    async with Supervisor("root", strategy="one_for_all", children=[a.spec(), b.spec()], intensity=Intensity(1)):
        a.crash(ValueError())
        b.crash(ValueError())
        await b.wait_came(2)
        await settle()
        assert (len(a.starts), len(b.starts)) == (2, 2)
        assert isinstance(b.starts[1].cause, Crashed)


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
async def test_another_child_that_fails_the_common_restart_is_the_next_death(
    strategy: Strategy, story: list[str]
) -> None:
    a, b, c = puppets("abc", story)
    async with Supervisor("root", strategy=strategy, children=[a.spec(), b.spec(), c.spec()], intensity=OFTEN):
        b.failing = True
        a.crash(ValueError())
        await b.wait_came(2)
        b.failing = False
        await c.wait_came(2)
        again = {"one_for_all": ["a went", "a came"], "rest_for_one": []}[strategy]
        assert story[3:] == ["a went", "c went", "b went", "a came", "b came", "b failed", *again, "b came", "c came"]
        assert isinstance(b.starts[-1].cause, Crashed)


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
async def test_a_common_restart_that_always_fails_gives_up(strategy: Strategy, story: list[str]) -> None:
    a, b = puppets("ab", story)
    with pytest.raises(RestartIntensityReached) as caught:
        async with Supervisor("root", strategy=strategy, children=[a.spec(), b.spec()], intensity=Intensity(3)) as tree:
            a.failing = True
            b.crash(ValueError()) if strategy == "one_for_all" else a.crash(ValueError())
            await tree.wait_stopped()
    assert caught.value.child == "a"
    assert len(a.starts) == 4


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
async def test_stop_between_two_common_restarts_that_fail_ends_an_endless_loop(
    strategy: Strategy, story: list[str]
) -> None:
    a, b = puppets("ab", story)
    endless = Intensity(10**9, per_s=1.0)
    async with Supervisor("root", strategy=strategy, children=[a.spec(), b.spec()], intensity=endless) as tree:
        a.failing = True
        a.crash(ValueError())
        await a.wait_came(100)
        await tree.stop()
        assert [child.state for child in tree.which_children()] == ["stopped", "stopped"]


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
async def test_siblings_are_stopped_at_once_and_come_back_after_the_backoff(
    strategy: Strategy, story: list[str]
) -> None:
    a, b = puppets("ab", story)
    children = [a.spec(backoff=Backoff(first_s=2.0)), b.spec()]
    async with Supervisor("root", strategy=strategy, children=children, draw=lambda: 0.5) as tree:
        a.crash(ValueError())
        await settle()
        assert story[2:] == ["a went", "b went"]
        assert [child.state for child in tree.which_children()] == ["restarting", "stopped"]
        await b.wait_came(2)
        assert now() == 1.0


async def test_of_two_that_wait_the_earlier_in_the_order_takes_the_later_one_with_it(story: list[str]) -> None:
    a, b, c = puppets("abc", story)
    patient, short = Backoff(first_s=9.0), Backoff(first_s=2.0)
    children = [a.spec(backoff=short), b.spec(), c.spec(backoff=patient)]
    async with Supervisor("root", strategy="rest_for_one", children=children, draw=lambda: 0.5):
        c.crash(ValueError())
        await settle()
        a.crash(ValueError())
        await c.wait_came(2)
        assert now() == pytest.approx(1.01)
        await asyncio.sleep(20.0)
        assert len(c.starts) == 2


async def test_a_sibling_that_refuses_to_go_holds_the_restart_up_for_its_shutdown_time(story: list[str]) -> None:
    a = Puppet("a", story)
    released = asyncio.Event()

    async def refuse(start: Start) -> None:
        start.ready()
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                story.append("refused")

    children = [a.spec(), ChildSpec(id="b", run=refuse, shutdown=2.0)]
    async with Supervisor("root", strategy="one_for_all", children=children):
        a.crash(ValueError())
        await a.wait_came(2)
        assert now() == 2.0
        released.set()


async def test_an_unknown_strategy_is_refused_when_the_supervisor_is_made() -> None:
    with pytest.raises(InvalidOption, match="strategy must be one of one_for_one, one_for_all, rest_for_one"):
        Supervisor("root", strategy="simple_one_for_one", children=[])  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


async def test_the_strategy_says_who_is_concerned() -> None:
    assert affected("one_for_one", "abc", "b") == ("b",)
    assert affected("one_for_all", "abc", "b") == ("a", "b", "c")
    assert affected("rest_for_one", "abc", "b") == ("b", "c")


async def test_a_supervisor_ends_with_its_significant_children_as_it_was_told() -> None:
    assert [ends_all("never", True, others) for others in (True, False)] == [False, False]
    assert [ends_all("any_significant", True, others) for others in (True, False)] == [True, True]
    assert [ends_all("all_significant", True, others) for others in (True, False)] == [False, True]
    assert not ends_all("any_significant", False, False)


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all"])
async def test_a_restart_that_is_due_does_not_happen_when_the_child_was_terminated_before_its_turn(
    strategy: Strategy, story: list[str]
) -> None:
    a = Puppet("a", story)

    async def slow(start: Start) -> None:
        await asyncio.sleep(3.0)
        start.ready()
        await asyncio.Event().wait()

    children = [a.spec(backoff=Backoff(first_s=2.0))]
    async with Supervisor("root", strategy=strategy, children=children, draw=lambda: 0.5) as tree:
        a.crash(ValueError())
        await settle()
        await asyncio.gather(tree.start_child(ChildSpec(id="slow", run=slow)), tree.terminate_child("a"))
        assert now() == pytest.approx(3.01)
        await settle()
        assert [child.state for child in tree.which_children()] == ["stopped", "running"]
    assert len(a.starts) == 1


async def test_a_restart_that_is_due_while_the_supervisor_is_busy_waits_for_its_turn(story: list[str]) -> None:
    a = Puppet("a", story)

    async def slow(start: Start) -> None:
        await asyncio.sleep(3.0)
        story.append("slow ready")
        start.ready()
        await asyncio.Event().wait()

    async with Supervisor("root", children=[a.spec(backoff=Backoff(first_s=2.0))], draw=lambda: 0.5) as tree:
        a.crash(ValueError())
        await settle()
        await tree.start_child(ChildSpec(id="slow", run=slow))
        await a.wait_came(2)
        assert story == ["a came", "a went", "slow ready", "a came"]
