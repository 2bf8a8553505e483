"""What OTP says about `pg`, on one node."""

import asyncio

import pytest
from structlog.testing import capture_logs

from regrow.supervisor import Normal, Shutdown
from regrow.supervisor.groups import Groups, Joined, Left
from regrow.supervisor.mortal import Mortal
from regrow.supervisor.process import processes

pytestmark = pytest.mark.asyncio


async def wait(me: Mortal) -> None:
    await asyncio.Event().wait()


async def finish(me: Mortal) -> None:
    pass


async def test_members_are_listed_in_the_order_of_joining() -> None:
    groups = Groups()
    async with processes() as space:
        a, b = space.spawn(wait), space.spawn(wait)
        groups.join("workers", b, a)
        assert groups.members("workers") == (b, a)
        assert groups.members("others") == ()


async def test_who_joins_several_times_counts_as_often_and_has_to_leave_as_often() -> None:
    groups = Groups()
    async with processes() as space:
        a = space.spawn(wait)
        groups.join("workers", a, a)
        assert groups.members("workers") == (a, a)
        assert groups.leave("workers", a)
        assert groups.members("workers") == (a,)
        assert groups.leave("workers", a)
        assert not groups.leave("workers", a)
        assert groups.members("workers") == ()


async def test_leaving_a_group_that_one_is_not_in_says_so_and_lets_the_others_leave() -> None:
    groups = Groups()
    async with processes() as space:
        a, b = space.spawn(wait), space.spawn(wait)
        groups.join("workers", b)
        assert not groups.leave("workers", a, b)
        assert groups.members("workers") == ()


async def test_a_group_is_there_while_it_has_members() -> None:
    groups = Groups()
    async with processes() as space:
        a = space.spawn(wait)
        groups.join("one", a)
        groups.join("two", a)
        assert groups.which_groups() == ("one", "two")
        groups.leave("one", a)
        assert groups.which_groups() == ("two",)


async def test_the_dead_leave_all_their_groups() -> None:
    groups = Groups()
    async with processes() as space:
        a, b = space.spawn(wait), space.spawn(wait)
        groups.join("one", a, b, a)
        groups.join("two", a)
        a.end(Shutdown())
        await a.wait_gone()
        assert groups.members("one") == (b,)
        assert groups.which_groups() == ("one",)


async def test_who_is_told_of_a_death_before_the_group_does_not_find_the_dead_in_it() -> None:
    groups, found = Groups(), list[object]()
    async with processes() as space:
        a = space.spawn(finish)
        a.watch(lambda _: found.append((groups.members("one"), groups.which_groups())))
        groups.join("one", a)
        await a.wait_gone()
    assert found == [((), ())]


async def test_one_that_left_everything_is_let_go() -> None:
    groups = Groups()
    async with processes() as space:
        a = space.spawn(wait)
        groups.join("one", a, a)
        groups.join("two", a)
        groups.leave("one", a, a)
        assert a.watchers == 2  # its space's and the groups'
        groups.leave("two", a)
        assert a.watchers == 1


async def test_scopes_know_nothing_of_each_other() -> None:
    one, other = Groups(), Groups()
    async with processes() as space:
        one.join("workers", space.spawn(wait))
        assert other.members("workers") == ()


async def test_a_monitor_has_the_members_of_now_and_every_change_from_then_on() -> None:
    groups = Groups()
    async with processes() as space:
        a, b = space.spawn(wait), space.spawn(wait)
        groups.join("workers", a)
        with groups.monitor("workers") as changes:
            assert changes.members == (a,)
            groups.join("workers", b)
            groups.join("others", b)
            groups.leave("workers", a)
            b.end(Shutdown())
            seen = [await anext(changes) for _ in range(3)]
        assert seen == [
            Joined("workers", b),
            Left("workers", a, None),
            Left("workers", b, Shutdown()),
        ]


async def test_a_death_ends_each_of_several_memberships() -> None:
    groups = Groups()
    async with processes() as space:
        a = space.spawn(finish)
        groups.join("workers", a, a)
        with groups.monitor("workers") as changes:
            await a.wait_gone()
        assert [change async for change in changes] == [Left("workers", a, Normal())] * 2


async def test_a_monitor_of_all_groups_sees_each_of_them() -> None:
    groups = Groups()
    async with processes() as space:
        a = space.spawn(wait)
        with groups.monitor() as changes:
            groups.join("one", a)
            groups.join("two", a)
        assert [change async for change in changes] == [Joined("one", a), Joined("two", a)]


async def test_the_dead_join_and_leave_at_once() -> None:
    groups = Groups()
    async with processes() as space:
        a = space.spawn(finish)
        await a.wait_gone()
        with groups.monitor("workers") as changes:
            groups.join("workers", a)
        assert groups.which_groups() == ()
        assert [change async for change in changes] == [Joined("workers", a), Left("workers", a, Normal())]


async def test_monitors_of_one_group_are_independent_and_end_with_their_block() -> None:
    groups = Groups()
    async with processes() as space:
        a = space.spawn(wait)
        with groups.monitor("workers") as outer:
            with groups.monitor("workers") as inner:
                groups.join("workers", a)
            groups.leave("workers", a)
        groups.join("workers", a)
        assert [change async for change in inner] == [Joined("workers", a)]
        assert [change async for change in outer] == [Joined("workers", a), Left("workers", a, None)]


async def test_changes_that_nobody_reads_are_counted() -> None:
    groups = Groups()
    async with processes() as space:
        a = space.spawn(wait)
        with capture_logs() as logs, groups.monitor("workers", pending_max=1) as changes:
            for _ in range(2):
                groups.join("workers", a)
                groups.leave("workers", a)
        assert (len(changes), changes.missed) == (1, 3)
        assert [log["event"] for log in logs] == ["feed_full"]


async def test_who_waits_for_a_change_when_the_block_ends_is_woken() -> None:
    groups = Groups()
    with groups.monitor("workers") as changes:
        reading = asyncio.ensure_future(anext(changes, None))
        await asyncio.sleep(0)
    assert await reading is None
