"""What `tree()` shows of a whole tree."""

import asyncio
from dataclasses import FrozenInstanceError

import pytest
from tests.supervisor.puppet import Puppet, now, puppets, settle

from regrow.supervisor import (
    Backoff,
    ChildSpec,
    Crashed,
    Intensity,
    RestartIntensityReached,
    Start,
    Supervisor,
    TreeInfo,
)

pytestmark = pytest.mark.asyncio


async def test_a_tree_is_shown_with_all_that_is_below_it(story: list[str]) -> None:
    a, b = puppets("ab", story)
    error = ValueError()
    inner = Supervisor("inner", strategy="rest_for_one", children=[b.spec()])
    async with Supervisor("root", children=[a.spec(), inner.child_spec()]) as root:
        await asyncio.sleep(2.0)
        b.crash(error)
        await b.wait_came(2)
        b_info = TreeInfo(
            name="b",
            type="worker",
            strategy=None,
            state="running",
            restarts=1,
            cause=Crashed(error),
            since=2.0,
        )
        inner_info = TreeInfo(
            name="inner",
            type="supervisor",
            strategy="rest_for_one",
            state="running",
            restarts=0,
            cause=None,
            since=0.0,
            children=(b_info,),
        )
        a_info = TreeInfo(name="a", type="worker", strategy=None, state="running", restarts=0, cause=None, since=0.0)
        assert root.tree() == TreeInfo(
            name="root",
            type="supervisor",
            strategy="one_for_one",
            state="running",
            restarts=0,
            cause=None,
            since=0.0,
            children=(a_info, inner_info),
        )


async def test_a_child_may_say_more_of_itself() -> None:
    mail = [1, 2, 3]

    async def actor(start: Start) -> None:
        start.offer(lambda: {"mailbox": len(mail)})
        start.ready()
        await asyncio.Event().wait()

    async with Supervisor("root", children=[ChildSpec(id="a", run=actor)]) as root:
        assert root.tree().children[0].detail == {"mailbox": 3}
        mail.clear()
        assert root.tree().children[0].detail == {"mailbox": 0}
        await root.terminate_child("a")
        assert root.tree().children[0].detail == {}


async def test_it_says_since_when_a_child_is_in_its_state(story: list[str]) -> None:
    a = Puppet("a", story)
    async with Supervisor("root", children=[a.spec(backoff=Backoff(first_s=8.0))], draw=lambda: 0.5) as root:
        await asyncio.sleep(1.0)
        a.crash(ValueError())
        await settle()
        (child,) = root.tree().children
        assert (child.state, child.since) == ("restarting", 1.0)
        await a.wait_came(2)
        (child,) = root.tree().children
        assert (child.state, child.since, now()) == ("running", 5.0, 5.0)
        await root.terminate_child("a")
        (child,) = root.tree().children
        assert (child.state, child.since) == ("stopped", 5.0)


async def test_a_supervisor_that_gave_up_shows_why(story: list[str]) -> None:
    a = Puppet("a", story)
    root = Supervisor("root", children=[a.spec()], intensity=Intensity(0))
    assert (root.tree().state, root.tree().cause) == ("stopped", None)
    with pytest.raises(RestartIntensityReached) as caught:
        async with root:
            assert root.tree().state == "running"
            a.crash(ValueError())
            await root.wait_stopped()
    assert (root.tree().state, root.tree().cause) == ("stopped", Crashed(caught.value))


async def test_a_supervisor_shows_itself_while_it_starts() -> None:
    seen: list[TreeInfo] = []
    root: Supervisor

    async def look(start: Start) -> None:
        seen.append(root.tree())

    root = Supervisor("root", children=[ChildSpec(id="a", run=look, restart="transient")])
    async with root:
        pass
    assert [(info.state, [child.state for child in info.children]) for info in seen] == [("starting", ["starting"])]


async def test_what_was_seen_does_not_change(story: list[str]) -> None:
    a = Puppet("a", story)
    async with Supervisor("root", children=[a.spec()]) as root:
        seen = root.tree()
        a.crash(ValueError())
        await a.wait_came(2)
        assert seen.children[0].restarts == 0
        with pytest.raises(FrozenInstanceError):
            seen.restarts = 1  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]
