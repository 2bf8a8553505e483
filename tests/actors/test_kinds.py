"""The actors of a kind as supervised children: each fails alone, and only when too many fail does the kind."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from regrow.actors import (
    Actor,
    AskFailed,
    Event,
    Kind,
    KindFailing,
    Message,
    Node,
    PerKey,
    Policy,
    StepFailed,
    System,
    command,
    event,
)
from regrow.bus import Address, Bus, MemoryBus
from regrow.supervisor import Backoff, Crashed, Exit, Intensity, RestartIntensityReached

pytestmark = pytest.mark.asyncio

CHILD = "actors.researcher"
MANY = 2_000
AT_ONCE = Backoff(first_s=0.0)


class Find(Message[int]):
    what: str = "x"


class Found(Event):
    what: str


class Researcher(Actor):
    found: int = 0

    @command
    async def find(self, msg: Find) -> int:
        await self.port("world")(self.key)
        self.emit(Found(what=msg.what))
        return self.found

    @event
    def was_found(self, fact: Found) -> None:
        self.found += 1


World = Callable[[str], Coroutine[Any, Any, None]]


def throttled() -> Exception:
    return StepFailed("throttled", "ModelThrottled", "slower")


def broken() -> Exception:
    return ValueError("broken")


class Failing:
    """A world in which some keys fail, so often or until it is healed."""

    def __init__(self, keys: set[str], error: Callable[[], Exception], times: int) -> None:
        self.left = dict.fromkeys(keys, times)
        self._error = error

    async def __call__(self, key: str) -> None:
        if self.left.get(key, 0):
            self.left[key] -= 1
            raise self._error()


def researchers(
    app: str,
    world: World,
    *,
    intensity: Intensity | None = None,
    per_key: PerKey = PerKey(3, per_s=60.0),  # noqa: B008 - a frozen value
    fails_max_ratio: float = 0.5,
) -> System:
    kept = Kind(
        Researcher,
        policy=Policy(backoff=AT_ONCE, attempts_max=1_000, mend_after_s=0.01),
        active_max=MANY,
        intensity=per_key,
        fails_max_ratio=fails_max_ratio,
    )
    return System(app, [kept], ports={"world": world}, intensity=intensity or Intensity(limit=5, per_s=10.0))


def restarts(node: Node) -> int:
    return next(each.restarts for each in node.supervisor.which_children() if each.id == CHILD)


def death(node: Node) -> asyncio.Future[Exit]:
    """How the kind dies."""
    died: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
    node.supervisor.child(CHILD).watch(died.set_result)
    return died


async def ask_all(node: Node, count: int) -> list[int]:
    return await asyncio.gather(*(node.ref(Researcher, str(key)).ask(Find(), timeout_s=60.0) for key in range(count)))


@pytest.mark.parametrize("error", [throttled, broken])
async def test_four_failing_researchers_of_2000_never_restart_the_kind(
    bus: Bus, app_name: str, error: Callable[[], Exception]
) -> None:
    world = Failing({"3", "500", "1001", "1999"}, error, times=20)
    async with researchers(app_name, world).host(bus) as node:
        assert await ask_all(node, MANY) == [1] * MANY
        assert not any(world.left.values())
        assert restarts(node) == 0


async def test_sixty_percent_failing_researchers_restart_the_kind_and_all_come_back_from_their_logs(
    bus: Bus, app_name: str
) -> None:
    many = MANY if isinstance(bus, MemoryBus) else MANY // 5
    world = Failing({str(key) for key in range(many * 6 // 10)}, broken, times=1_000)
    async with researchers(app_name, world, per_key=PerKey(1, per_s=60.0)).host(bus) as node:
        died = death(node)
        died.add_done_callback(lambda _: world.left.clear())
        assert await ask_all(node, many) == [1] * many
        cause = died.result()
        assert isinstance(cause, Crashed)
        assert isinstance(cause.error, KindFailing)
        assert (cause.error.kind, cause.error.failing > cause.error.of / 2) == ("researcher", True)
        assert restarts(node) == 1
        assert await ask_all(node, 10) == [2] * 10


async def test_any_number_of_throttled_researchers_never_restarts_the_kind(bus: Bus, app_name: str) -> None:
    world = Failing({str(key) for key in range(40)}, throttled, times=10)
    async with researchers(app_name, world, intensity=Intensity(limit=0)).host(bus) as node:
        assert await ask_all(node, 50) == [1] * 50
        assert restarts(node) == 0


async def test_a_few_failing_actors_are_never_too_many(bus: Bus, app_name: str) -> None:
    world = Failing({str(key) for key in range(9)}, broken, times=10)
    async with researchers(app_name, world).host(bus) as node:
        assert await ask_all(node, 9) == [1] * 9
        assert restarts(node) == 0


async def test_a_kind_that_allows_any_share_is_never_restarted(bus: Bus, app_name: str) -> None:
    world = Failing({str(key) for key in range(40)}, broken, times=10)
    async with researchers(app_name, world, fails_max_ratio=1.0).host(bus) as node:
        assert await ask_all(node, 40) == [1] * 40
        assert restarts(node) == 0


async def test_idle_actors_that_did_well_a_moment_ago_are_among_those_at_work(bus: Bus, app_name: str) -> None:
    world = Failing(set(), broken, times=0)
    async with researchers(app_name, world).host(bus) as node:
        await ask_all(node, 60)
        world.left.update({str(key): 10 for key in range(20)})
        assert await ask_all(node, 20) == [2] * 20
        assert restarts(node) == 0


async def test_turns_that_are_given_up_make_their_actors_failing(bus: Bus, app_name: str) -> None:
    world = Failing({str(key) for key in range(30)}, broken, times=1_000)
    made = researchers(app_name, world)
    made.kinds["researcher"] = Kind(Researcher, policy=Policy(backoff=AT_ONCE, attempts_max=2, mend_after_s=0.01))
    async with made.host(bus) as node:
        died = death(node)
        asked = (node.ref(Researcher, str(key)).ask(Find(), timeout_s=60.0) for key in range(30))
        failed = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(each, AskFailed) for each in failed)
        cause = await died
        assert isinstance(cause, Crashed)
        assert isinstance(cause.error, KindFailing)


async def test_past_the_intensity_of_the_system_the_node_stops_and_lets_go_of_its_shards(
    bus: Bus, app_name: str
) -> None:
    world = Failing({str(key) for key in range(20)}, broken, times=1_000)
    async with asyncio.TaskGroup() as asking:
        hosting = researchers(app_name, world, intensity=Intensity(limit=0)).host(bus)
        node = await hosting.__aenter__()
        asking.create_task(ask_all(node, 20))
        with pytest.raises(RestartIntensityReached) as gave_up:
            await node.wait_stopped()
        assert isinstance(gave_up.value.__cause__, KindFailing)
        assert not node.host.held
        world.left.clear()
        async with researchers(app_name, world).host(bus) as another:
            assert await ask_all(another, 20) == [2] * 20, "what was asked was not lost"
    with pytest.raises(RestartIntensityReached):
        await hosting.__aexit__(None, None, None)


async def test_mail_that_comes_while_a_kind_is_stopped_waits_for_it(bus: Bus, app_name: str) -> None:
    async with researchers(app_name, Failing(set(), broken, 0)).host(bus) as node:
        await ask_all(node, 3)
        await node.supervisor.terminate_child(CHILD)
        asking = asyncio.create_task(ask_all(node, 3))
        await node.ref(Researcher, "0").tell(Find())
        await node.supervisor.restart_child(CHILD)
        assert sorted(await asking) == [2, 2, 2] or sorted(await asking) == [2, 2, 3]


async def test_the_tree_of_a_node_shows_its_kinds(bus: Bus, app_name: str) -> None:
    async with researchers(app_name, Failing(set(), broken, 0)).host(bus) as node:
        await ask_all(node, 3)
        shown = {each.name: each for each in node.supervisor.tree().children}
        assert (shown[CHILD].type, shown[CHILD].state) == ("supervisor", "running")
        assert (shown[CHILD].detail["in_memory"], shown[CHILD].detail["failing"]) == (3, 0)


@pytest.mark.parametrize("ratio", [0.0, -0.5, 1.5])
async def test_a_share_that_is_none_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="give a share above"):
        Kind(Researcher, fails_max_ratio=ratio)


async def test_no_turn_begins_while_a_kind_is_being_stopped(bus: Bus, app_name: str) -> None:
    stopping, begun = asyncio.Event(), list[str]()

    async def slow(key: str) -> None:
        begun.append(key)
        if key == "slow":
            stopping.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await node.ref(Researcher, "late").tell(Find())
                late = node.host.rosters["researcher"].cell(Address("researcher", "late"))
                while not late.depth and begun.count("late") == 1:  # noqa: ASYNC110 - a mailbox tells nobody
                    await asyncio.sleep(0)
                raise

    async with researchers(app_name, slow).host(bus) as node:
        await node.ref(Researcher, "late").ask(Find())
        await node.ref(Researcher, "slow").tell(Find())
        await stopping.wait()
        await node.supervisor.terminate_child(CHILD)
        assert begun == ["late", "slow"]
        assert not node.supervisor.which_children()[0].last, "nor has the mail died of it"
