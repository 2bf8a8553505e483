"""Names: what Elixir says about a registry with unique keys, and OTP about registered names."""

import asyncio

import pytest

from regrow.supervisor import Exit, Normal, Shutdown
from regrow.supervisor.exits import NoProcess
from regrow.supervisor.mortal import Mortal
from regrow.supervisor.process import processes
from regrow.supervisor.registry import NameOfTheDead, NameTaken, NameUnknown, Registry

pytestmark = pytest.mark.asyncio


async def wait(me: Mortal) -> None:
    await asyncio.Event().wait()


async def finish(me: Mortal) -> None:
    pass


async def test_who_is_registered_is_found_by_name() -> None:
    registry = Registry()
    async with processes() as space:
        holder = space.spawn(wait)
        registry.register("db", holder)
        assert registry.whereis("db") is holder
        assert registry.whereis("other") is None


async def test_a_name_that_is_taken_is_refused_and_the_holder_named() -> None:
    registry = Registry()
    async with processes() as space:
        holder, other = space.spawn(wait, name="first"), space.spawn(wait)
        registry.register("db", holder)
        with pytest.raises(NameTaken, match="'first'") as caught:
            registry.register("db", other)
        assert caught.value.holder is holder
        with pytest.raises(NameTaken):
            registry.register("db", holder)


async def test_a_holder_may_have_several_names_and_they_go_with_it() -> None:
    registry = Registry()
    async with processes() as space:
        holder, other = space.spawn(wait), space.spawn(wait)
        registry.register("a", holder)
        registry.register("x", other)
        registry.register("b", holder)
        assert registry.names() == ("a", "x", "b")
        assert registry.names(holder) == ("a", "b")
        holder.end(Shutdown())
        await holder.wait_gone()
        assert registry.names() == ("x",)


async def test_the_name_of_one_that_died_is_free_at_once_also_for_those_told_before_the_registry() -> None:
    registry = Registry()
    async with processes() as space:
        holder, heir = space.spawn(wait), space.spawn(wait)
        holder.watch(lambda _: registry.register("db", heir))
        registry.register("db", holder)
        holder.end(Shutdown())
        await holder.wait_gone()
        assert registry.whereis("db") is heir


async def test_a_name_is_free_after_unregister_and_the_holder_is_let_go() -> None:
    registry = Registry()
    async with processes() as space:
        holder, heir = space.spawn(wait), space.spawn(wait)
        registry.register("db", holder)
        registry.unregister("db")
        registry.unregister("db")
        assert registry.whereis("db") is None
        assert holder.watchers == 1  # its space's
        registry.register("db", heir)
        holder.end(Shutdown())
        await holder.wait_gone()
        assert registry.whereis("db") is heir


async def test_the_dead_get_no_name() -> None:
    registry = Registry()
    async with processes() as space:
        dead = space.spawn(finish, name="gone")
        await dead.wait_gone()
        with pytest.raises(NameOfTheDead, match="'gone', which finished"):
            registry.register("db", dead)


async def test_two_registries_know_nothing_of_each_other() -> None:
    one, other = Registry(), Registry()
    async with processes() as space:
        one.register("db", space.spawn(wait))
        assert other.whereis("db") is None


async def test_a_monitor_by_name_is_of_who_has_it_now() -> None:
    registry, told = Registry(), list[Exit]()
    async with processes() as space:
        holder = space.spawn(wait)
        registry.register("db", holder)
        watching = registry.monitor("db", told.append)
        holder.end(Shutdown())
        assert await watching.wait_down() == Shutdown()
        assert registry.monitor("db", told.append).down == NoProcess()
    assert told == [Shutdown(), NoProcess()]


async def test_all_who_wait_for_a_name_are_woken_when_it_is_taken() -> None:
    registry = Registry()
    async with processes() as space:
        waiting = [asyncio.create_task(registry.wait_for("db", 5.0)) for _ in range(2)]
        await asyncio.sleep(1.0)
        holder = space.spawn(wait)
        registry.register("db", holder)
        assert await asyncio.gather(*waiting) == [holder, holder]
        assert await registry.wait_for("db", 0.0) is holder


async def test_who_waits_for_a_name_whose_new_holder_dies_at_once_waits_on() -> None:
    registry = Registry()
    async with processes() as space:
        waiting = asyncio.create_task(registry.wait_for("db", 5.0))
        await asyncio.sleep(0)
        short, holder = space.spawn(wait), space.spawn(wait)
        registry.register("db", short)
        registry.unregister("db")
        await asyncio.sleep(1.0)
        assert not waiting.done()
        registry.register("db", holder)
        assert await waiting is holder


async def test_a_name_that_nobody_takes_in_time_is_unknown() -> None:
    with pytest.raises(NameUnknown, match="'db' within 2 s"):
        await Registry().wait_for("db", 2.0)


async def test_a_cancelled_wait_for_a_name_leaves_the_others_waiting() -> None:
    registry = Registry()
    async with processes() as space:
        cancelled, waiting = (asyncio.create_task(registry.wait_for("db", 5.0)) for _ in range(2))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        holder = space.spawn(wait)
        registry.register("db", holder)
        assert await waiting is holder
        assert cancelled.cancelled()


async def test_a_normal_end_frees_the_name_too() -> None:
    registry = Registry()
    async with processes() as space:
        holder = space.spawn(finish)
        registry.register("db", holder)
        assert await holder.wait_gone() == Normal()
        assert registry.whereis("db") is None
