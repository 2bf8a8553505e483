"""What OTP says about links and exit signals, and a random world of them against a small model."""

import asyncio
from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from regrow.supervisor import Crashed, Exit, Exited, InvalidOption, Killed, Normal, Shutdown
from regrow.supervisor.errors import Died
from regrow.supervisor.exits import TimedOut
from regrow.supervisor.link import AlreadyTrapping, kill, link, send_exit, trap_exits, unlink
from regrow.supervisor.monitor import Monitor, monitor
from regrow.supervisor.mortal import ExitSignal, Mortal
from regrow.supervisor.process import Process, Space, processes


async def wait(me: Mortal) -> None:
    await asyncio.Event().wait()


async def finish(me: Mortal) -> None:
    pass


def dies_of(cause: Exit) -> Callable[[Mortal], Coroutine[Any, Any, None]]:
    async def die(me: Mortal) -> None:
        raise Died(cause)

    return die


def trapper(space: Space, heard: list[ExitSignal]) -> Process:
    """A process that traps exits and writes down what it hears."""

    async def listen(me: Mortal) -> None:
        with trap_exits(me) as exits:
            async for signal in exits:
                heard.append(signal)  # noqa: PERF401 - heard as they come

    return space.spawn(listen, name="trapper")


async def settle() -> None:
    for _ in range(50):  # turns of the event loop, a few for each death that follows from another
        await asyncio.sleep(0)


@pytest.mark.asyncio
class TestLinks:
    async def test_a_link_works_in_both_directions(self) -> None:
        async with processes() as space:
            for first in (True, False):
                a, b = space.spawn(wait), space.spawn(wait)
                link(a, b)
                (a if first else b).end(TimedOut(1.0))
                assert (await a.wait_gone(), await b.wait_gone()) == (TimedOut(1.0), TimedOut(1.0))

    async def test_a_crash_takes_the_linked_with_it_of_the_same_cause(self) -> None:
        error = ValueError("no")

        async def fail(me: Mortal) -> None:
            raise error

        async with processes() as space:
            a, b = space.spawn(fail), space.spawn(wait)
            link(a, b)
            assert await b.wait_gone() == Crashed(error)

    async def test_a_normal_end_does_not_touch_the_linked(self) -> None:
        async with processes() as space:
            a, b = space.spawn(finish), space.spawn(wait)
            link(a, b)
            await a.wait_gone()
            await settle()
            assert b.exit is None
            assert b.watchers == 1  # its space's

    async def test_code_0_is_a_normal_end(self) -> None:
        async with processes() as space:
            a, b = space.spawn(wait), space.spawn(wait)
            link(a, b)
            a.end(Exited(0))
            await a.wait_gone()
            await settle()
            assert b.exit is None

    async def test_a_shutdown_takes_the_linked_with_it(self) -> None:
        async with processes() as space:
            a, b = space.spawn(wait), space.spawn(wait)
            link(a, b)
            a.end(Shutdown())
            assert await b.wait_gone() == Shutdown()

    async def test_death_goes_along_a_chain_of_links(self) -> None:
        async with processes() as space:
            chain = [space.spawn(wait) for _ in range(2_000)]
            for a, b in pairwise(chain):
                link(a, b)
            chain[0].end(TimedOut(1.0))
            assert await chain[-1].wait_gone() == TimedOut(1.0)
            assert space.living() == ()

    async def test_linking_twice_is_linking_once(self) -> None:
        heard: list[ExitSignal] = []
        async with processes() as space:
            listening, other = trapper(space, heard), space.spawn(wait)
            await settle()
            link(listening, other)
            link(other, listening)
            other.end(TimedOut(1.0))
            await other.wait_gone()
            await settle()
            assert heard == [ExitSignal(other, TimedOut(1.0))]

    async def test_one_unlink_takes_back_any_number_of_links_whoever_calls_it_first(self) -> None:
        async with processes() as space:
            a, b = space.spawn(wait), space.spawn(wait)
            link(a, b)
            link(a, b)
            unlink(b, a)
            unlink(b, a)
            a.end(TimedOut(1.0))
            await a.wait_gone()
            await settle()
            assert b.exit is None

    async def test_linking_with_oneself_is_nothing(self) -> None:
        async with processes() as space:
            a = space.spawn(wait)
            link(a, a)
            assert a.watchers == 1

    async def test_linking_with_the_dead_gives_the_signal_at_once(self) -> None:
        async with processes() as space:
            dead, a, b = space.spawn(dies_of(TimedOut(1.0))), space.spawn(wait), space.spawn(wait)
            await dead.wait_gone()
            link(a, dead)
            link(dead, b)
            assert (await a.wait_gone(), await b.wait_gone()) == (TimedOut(1.0), TimedOut(1.0))

    async def test_linking_with_one_that_ended_normally_is_nothing(self) -> None:
        async with processes() as space:
            dead, a = space.spawn(finish), space.spawn(wait)
            await dead.wait_gone()
            link(a, dead)
            await settle()
            assert a.exit is None
            assert a.watchers == 1

    async def test_linking_the_dead_with_each_other_is_nothing(self) -> None:
        async with processes() as space:
            a, b = space.spawn(finish), space.spawn(finish)
            await asyncio.gather(a.wait_gone(), b.wait_gone())
            link(a, b)
            assert (a.exit, b.exit) == (Normal(), Normal())

    async def test_a_linked_process_that_cleans_up_ends_of_the_cause_all_the_same(self) -> None:
        async def cleans_up(me: Mortal) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(1.0)

        async with processes() as space:
            a, b = space.spawn(wait), space.spawn(cleans_up)
            link(a, b)
            await settle()
            a.end(TimedOut(1.0))
            assert await b.wait_gone() == TimedOut(1.0)

    async def test_a_signal_while_it_is_ending_already_changes_nothing(self) -> None:
        async with processes() as space:
            a, b = space.spawn(wait), space.spawn(wait)
            link(a, b)
            b.end(Shutdown())
            a.end(TimedOut(1.0))
            assert (await a.wait_gone(), await b.wait_gone()) == (TimedOut(1.0), Shutdown())

    async def test_a_signal_before_the_first_step_is_heard(self) -> None:
        async with processes() as space:
            a = space.spawn(wait)
            send_exit(a, TimedOut(1.0))
            assert await a.wait_gone() == TimedOut(1.0)

    async def test_a_signal_in_the_turn_in_which_it_returns_comes_too_late(self) -> None:
        async with processes() as space:
            latch = asyncio.Event()

            async def wait_latch(me: Mortal) -> None:
                await latch.wait()

            a = space.spawn(wait_latch)
            await settle()
            latch.set()
            await asyncio.sleep(0)  # it has returned, and nobody has been told yet
            send_exit(a, TimedOut(1.0))
            assert await a.wait_gone() == Normal()


@pytest.mark.asyncio
class TestSignals:
    async def test_a_normal_signal_is_ignored(self) -> None:
        async with processes() as space:
            a = space.spawn(wait)
            send_exit(a, Normal())
            await settle()
            assert a.exit is None

    async def test_any_other_signal_ends_it(self) -> None:
        async with processes() as space:
            a = space.spawn(wait)
            send_exit(a, Shutdown())
            assert await a.wait_gone() == Shutdown()

    async def test_a_signal_to_the_dead_is_nothing(self) -> None:
        async with processes() as space:
            a = space.spawn(finish)
            await a.wait_gone()
            send_exit(a, Shutdown())
            assert a.exit == Normal()

    async def test_a_trapped_signal_is_a_value_with_its_source(self) -> None:
        heard: list[ExitSignal] = []
        async with processes() as space:
            listening, other = trapper(space, heard), space.spawn(wait)
            await settle()
            send_exit(listening, Shutdown(), other)
            send_exit(listening, TimedOut(1.0))
            await settle()
            assert listening.exit is None
            assert heard == [ExitSignal(other, Shutdown()), ExitSignal(None, TimedOut(1.0))]

    async def test_who_traps_is_told_of_normal_ends_too(self) -> None:
        heard: list[ExitSignal] = []
        async with processes() as space:
            listening, other = trapper(space, heard), space.spawn(finish)
            link(listening, other)
            await settle()
            assert heard == [ExitSignal(other, Normal())]

    async def test_who_traps_is_told_of_the_dead_it_links_with(self) -> None:
        heard: list[ExitSignal] = []
        async with processes() as space:
            listening, dead = trapper(space, heard), space.spawn(finish)
            await dead.wait_gone()
            link(listening, dead)
            await settle()
            assert heard == [ExitSignal(dead, Normal())]

    async def test_a_kill_cannot_be_trapped(self) -> None:
        async with processes() as space:
            listening = trapper(space, [])
            await settle()
            kill(listening)
            assert await listening.wait_gone() == Killed(9)

    async def test_those_linked_to_the_killed_may_trap_it(self) -> None:
        heard: list[ExitSignal] = []
        async with processes() as space:
            listening, other, innocent = trapper(space, heard), space.spawn(wait), space.spawn(wait)
            await settle()
            link(listening, other)
            link(innocent, other)
            kill(other)
            assert await innocent.wait_gone() == Killed(9)
            await settle()
            assert heard == [ExitSignal(other, Killed(9))]
            assert listening.exit is None

    async def test_a_link_is_gone_once_its_signal_was_trapped(self) -> None:
        heard: list[ExitSignal] = []
        async with processes() as space:
            listening, other = trapper(space, heard), space.spawn(finish)
            link(listening, other)
            await settle()
            assert listening.watchers == 1

    async def test_after_the_block_signals_end_it_again_and_what_was_not_read_can_be_read(self) -> None:
        async with processes() as space:
            a = space.spawn(wait)
            with trap_exits(a) as exits:
                send_exit(a, Shutdown())
            send_exit(a, TimedOut(1.0))
            assert await a.wait_gone() == TimedOut(1.0)
        assert [signal async for signal in exits] == [ExitSignal(None, Shutdown())]

    async def test_of_too_many_signals_the_first_are_kept_and_the_others_counted(self) -> None:
        async with processes() as space:
            a = space.spawn(wait, name="busy")
            with capture_logs() as logs, trap_exits(a, pending_max=2) as exits:
                for seconds in (1.0, 2.0, 3.0, 4.0):
                    send_exit(a, TimedOut(seconds))
        assert exits.missed == 2
        assert [signal.cause async for signal in exits] == [TimedOut(1.0), TimedOut(2.0)]
        assert logs == [{"event": "feed_full", "log_level": "warning", "feed": "exits of busy", "pending_max": 2}]

    async def test_a_cancelled_reader_loses_no_signal(self) -> None:
        async with processes() as space:
            a = space.spawn(wait)
            with trap_exits(a) as exits:
                reading = asyncio.ensure_future(anext(exits))
                await asyncio.sleep(0)
                send_exit(a, Shutdown())
                reading.cancel()
                await asyncio.wait([reading])
                assert await anext(exits) == ExitSignal(None, Shutdown())

    async def test_nobody_traps_twice_at_a_time(self) -> None:
        async with processes() as space:
            a = space.spawn(wait, name="a")
            with trap_exits(a), pytest.raises(AlreadyTrapping, match="'a'"), trap_exits(a):
                pass

    async def test_room_for_no_signal_is_refused(self) -> None:
        async with processes() as space:
            with pytest.raises(InvalidOption, match="pending_max"), trap_exits(space.spawn(wait), pending_max=0):
                pass


CAUSES = (Normal(), Shutdown(), TimedOut(1.0), Killed(9), Exited(0), Exited(1))
INDICES = st.integers(0, 7)
ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("link"), INDICES, INDICES),
        st.tuples(st.just("unlink"), INDICES, INDICES),
        st.tuples(st.just("monitor"), INDICES, INDICES),
        st.tuples(st.just("demonitor"), INDICES, INDICES),
        st.tuples(st.just("die"), INDICES, st.sampled_from(CAUSES)),
        st.tuples(st.just("kill"), INDICES, INDICES),
    ),
    max_size=40,
)


class Model:
    """The rules again, in sets: who is linked, who traps (the even ones of the last four), who is told what."""

    def __init__(self) -> None:
        self.exits: dict[int, Exit] = {}
        self.links: set[frozenset[int]] = set()
        self.heard: dict[int, list[tuple[int, Exit]]] = {each: [] for each in range(8)}

    def traps(self, who: int) -> bool:
        return who in (4, 6)

    def signal(self, source: int, to: int, cause: Exit) -> None:
        if to in self.exits:
            return
        if self.traps(to):
            self.heard[to].append((source, cause))
        elif cause not in (Normal(), Exited(0)):
            self.die(to, cause)

    def die(self, who: int, cause: Exit) -> None:
        if who in self.exits:
            return
        self.exits[who] = cause
        for pair in [pair for pair in self.links if who in pair]:
            self.links.discard(pair)
            self.signal(who, next(iter(pair - {who})), cause)

    def link(self, a: int, b: int) -> None:
        if a == b:
            return
        if a in self.exits:
            self.signal(a, b, self.exits[a])
        elif b in self.exits:
            self.signal(b, a, self.exits[b])
        else:
            self.links.add(frozenset((a, b)))


class World:
    """The same acts done to real processes."""

    def __init__(self, space: Space) -> None:
        self.heard: dict[int, list[ExitSignal]] = {each: [] for each in range(8)}
        self.all = [trapper(space, self.heard[each]) if Model().traps(each) else space.spawn(wait) for each in range(8)]
        self.monitors: dict[tuple[int, int], Monitor] = {}

    def act(self, what: str, a: int, b: int | Exit) -> None:
        one = self.all[a]
        if not isinstance(b, int):
            one.end(b)
        elif what == "kill":
            kill(one)
        elif what == "monitor":
            if (a, b) not in self.monitors:
                self.monitors[a, b] = monitor(self.all[b])
        elif what == "demonitor":
            if (a, b) in self.monitors:
                self.monitors.pop((a, b)).demonitor()
        else:
            (link if what == "link" else unlink)(one, self.all[b])


def act(model: Model, what: str, a: int, b: int | Exit) -> None:
    match what, b:
        case "link", int():
            model.link(a, b)
        case "unlink", int():
            model.links.discard(frozenset((a, b)))
        case "kill", _:
            model.die(a, Killed(9))
        case "die", _ if not isinstance(b, int):
            model.die(a, b)
        case _:
            pass


async def compare(acts: list[tuple[str, int, int | Exit]]) -> None:
    async with processes() as space:
        model, world = Model(), World(space)
        await settle()
        for what, a, b in acts:
            act(model, what, a, b)
            world.act(what, a, b)
            await settle()
            assert {each: one.exit for each, one in enumerate(world.all) if one.exit is not None} == model.exits
        number: dict[Mortal, int] = {one: each for each, one in enumerate(world.all)}
        for who, heard in world.heard.items():
            told = [(number[signal.source], signal.cause) for signal in heard if signal.source is not None]
            assert sorted(told, key=str) == sorted(model.heard[who], key=str)
        for (_, target), watching in world.monitors.items():
            assert watching.down == model.exits.get(target)
        assert sum(one.watchers for one in space.living()) == len(space.living()) + 2 * len(model.links) + sum(
            each.down is None for each in world.monitors.values()
        )


@settings(max_examples=100, deadline=None, derandomize=True)
@given(ACTS)
def test_random_worlds_of_links_and_monitors_die_as_the_model_does(acts: list[tuple[str, int, int | Exit]]) -> None:
    asyncio.run(compare(acts))
