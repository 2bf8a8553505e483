"""Significant children and auto_shutdown, as OTP's supervisor documentation has them."""

import pytest
from tests.supervisor.puppet import Puppet, puppets, settle

from regrow.supervisor import AutoShutdown, InvalidOption, Restart, Shutdown, Strategy, Supervisor

pytestmark = pytest.mark.asyncio


def supervisor(auto_shutdown: AutoShutdown, *children: Puppet, restart: Restart = "transient") -> Supervisor:
    specs = [child.spec(restart, significant=child.name.isupper()) for child in children]
    return Supervisor("root", children=specs, auto_shutdown=auto_shutdown)


async def test_the_first_significant_end_stops_the_others_in_reverse_and_raises_nothing(story: list[str]) -> None:
    children = puppets("aBCd", story)
    async with supervisor("any_significant", *children) as tree:
        children[1].finish()
        await tree.wait_stopped()
        assert story[4:] == ["B went", "d went", "C went", "a went"]
        assert (tree.tree().state, tree.tree().cause) == ("stopped", Shutdown())


async def test_the_last_significant_end_stops_the_others(story: list[str]) -> None:
    a, b, c = puppets("aBC", story)
    async with supervisor("all_significant", a, b, c) as tree:
        b.finish()
        await settle()
        assert story[3:] == ["B went"]
        c.finish()
        await tree.wait_stopped()
        assert story[3:] == ["B went", "C went", "a went"]


async def test_a_significant_temporary_child_counts_however_it_ends(story: list[str]) -> None:
    a, b = puppets("aB", story)
    async with supervisor("any_significant", a, b, restart="temporary") as tree:
        b.crash(ValueError())
        await tree.wait_stopped()


async def test_a_significant_transient_child_that_crashes_is_restarted_instead(story: list[str]) -> None:
    a, b = puppets("aB", story)
    async with supervisor("any_significant", a, b):
        b.crash(ValueError())
        await b.wait_came(2)
        assert len(a.starts) == 1


@pytest.mark.parametrize("auto_shutdown", ["any_significant", "all_significant"])
async def test_the_end_of_a_child_that_is_not_significant_stops_nobody(
    auto_shutdown: AutoShutdown, story: list[str]
) -> None:
    a, b = puppets("aB", story)
    async with supervisor(auto_shutdown, a, b) as tree:
        a.finish()
        await settle()
        assert tree.tree().state == "running"


async def test_a_significant_child_that_is_terminated_by_hand_stops_nobody(story: list[str]) -> None:
    a, b = puppets("aB", story)
    async with supervisor("any_significant", a, b) as tree:
        await tree.terminate_child("B")
        await settle()
        assert tree.tree().state == "running"


async def test_a_significant_child_that_is_stopped_with_a_sibling_stops_nobody(story: list[str]) -> None:
    a, b = puppets("aB", story)
    children = [a.spec(), b.spec("temporary", significant=True)]
    tree = Supervisor("root", children=children, strategy="one_for_all", auto_shutdown="any_significant")
    async with tree:
        a.crash(ValueError())
        await a.wait_came(2)
        await settle()
        assert [child.id for child in tree.which_children()] == ["a"]
        assert tree.tree().state == "running"


async def test_all_significant_waits_for_one_that_was_started_later(story: list[str]) -> None:
    b, c = puppets("BC", story)
    async with supervisor("all_significant", b) as tree:
        await tree.start_child(c.spec("transient", significant=True))
        b.finish()
        await settle()
        assert tree.tree().state == "running"


@pytest.mark.parametrize(("restart", "comes_back"), [("permanent", True), ("transient", False), ("temporary", False)])
async def test_a_parent_sees_a_shutdown_and_restarts_only_a_permanent_supervisor(
    restart: Restart, comes_back: bool, story: list[str]
) -> None:
    b = Puppet("B", story)
    inner = supervisor("any_significant", b)
    async with Supervisor("outer", children=[inner.child_spec(restart=restart)], draw=lambda: 0.0) as outer:
        b.finish()
        await settle()
        assert len(b.starts) == (2 if comes_back else 1)
        if restart != "temporary":
            assert outer.which_children()[0].last == Shutdown()


async def test_a_significant_supervisor_takes_its_parent_with_it(story: list[str]) -> None:
    a, b = puppets("aB", story)
    inner = supervisor("any_significant", b)
    spec = inner.child_spec(restart="transient", significant=True)
    async with Supervisor("outer", children=[a.spec(), spec], auto_shutdown="all_significant") as outer:
        b.finish()
        await outer.wait_stopped()
        assert story[2:] == ["B went", "a went"]


async def test_an_unknown_auto_shutdown_is_refused_when_the_supervisor_is_made() -> None:
    with pytest.raises(InvalidOption, match="auto_shutdown must be one of never, any_significant, all_significant"):
        Supervisor("root", auto_shutdown="always", children=[])  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one"])
async def test_a_significant_child_that_crashed_at_the_same_moment_and_comes_back_counts(
    strategy: Strategy, story: list[str]
) -> None:
    a, b, c = puppets("aBC", story)
    children = [a.spec("transient"), *(child.spec("transient", significant=True) for child in (b, c))]
    tree = Supervisor("root", children=children, strategy=strategy, auto_shutdown="all_significant")
    async with tree:
        b.finish()
        c.crash(ValueError())
        await c.wait_came(2)
        assert tree.tree().state == "running"
