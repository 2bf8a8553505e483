"""Turns of local actors: who runs a handler, who gives way to whom, and orders that no mail holds up."""

import asyncio
import gc
import tracemalloc
from typing import Any

import pytest
from tests.actors.local_probe import AT_ONCE, nothing, until

from regrow.actors import (
    ActorStopped,
    AskTimeout,
    LocalActor,
    LocalRef,
    LocalSystem,
    Message,
    Refused,
    command,
)
from regrow.actors.local_cell import BATCH_MAX, QUANTUM
from regrow.supervisor import Shutdown

pytestmark = pytest.mark.asyncio


class Count(Message[int]):
    pass


class CountAwaiting(Message[int]):
    pass


class CountTwice(Message[int]):
    """The actor also tells itself to count."""


class SuspendAt(Message[None]):
    ref: LocalRef
    order: list[str]
    done: asyncio.Event


class Order(Message[None]):
    order: list[str]


class Give(Message[None]):
    to: LocalRef
    order_given: str
    order: list[str]
    done: asyncio.Event


class Orders(LocalActor):
    @command
    async def give(self, msg: Give) -> None:
        if msg.order_given == "stop":
            msg.to.end(Shutdown())
        else:
            msg.to.suspend()
        msg.order.append("given")
        msg.done.set()


class Counter(LocalActor):
    total: int = 0

    @command
    async def count(self, msg: Count) -> int:
        self.total += 1
        return self.total

    @command
    async def count_awaiting(self, msg: CountAwaiting) -> int:
        await nothing()
        self.total += 1
        return self.total

    @command
    async def count_twice(self, msg: CountTwice) -> int:
        self.system.ref(Counter, self.key).tell(Count())
        self.total += 1
        return self.total

    @command
    async def suspend(self, msg: SuspendAt) -> None:
        msg.ref.suspend()
        msg.order.append("suspended")
        msg.done.set()

    @command
    async def order(self, msg: Order) -> None:
        msg.order.append(self.key)


async def test_one_who_asks_an_idle_actor_has_the_reply_without_a_turn_of_the_loop() -> None:
    async with LocalSystem("demo") as system:
        counter = system.spawn(Counter, "a")
        asking = counter.ask(Count())
        with pytest.raises(StopIteration) as done:
            asking.send(None)
        assert done.value.value == 1


async def test_one_who_asks_without_end_lets_others_run() -> None:
    async with LocalSystem("demo") as system:
        counter, others = system.spawn(Counter, "a"), asyncio.Event()
        asyncio.get_running_loop().call_soon(others.set)
        asks = 0
        while not others.is_set():
            asks = await counter.ask(Count())
            assert asks < 1_000_000
        assert asks > 1


async def test_what_an_actor_tells_itself_while_its_asker_serves_it_comes_next() -> None:
    async with LocalSystem("demo") as system:
        counter = system.spawn(Counter, "a")
        assert await counter.ask(CountTwice()) == 1
        assert await counter.ask(Count()) == 3


async def test_an_ask_does_not_overtake_what_was_told() -> None:
    async with LocalSystem("demo") as system:
        counter = system.spawn(Counter, "a")
        for told in range(1, 100):
            counter.tell(Count() if told % 2 else CountAwaiting())
        assert await counter.ask(Count()) == 100
        assert await counter.ask(CountAwaiting()) == 101


async def test_a_flooded_actor_gives_way_to_one_that_is_ready() -> None:
    async with LocalSystem("demo") as system:
        order: list[str] = []
        flooded, neighbour = system.spawn(Counter, "flooded", mailbox_max=2_000), system.spawn(Counter, "neighbour")
        for _ in range(1_000):
            flooded.tell(Order(order=order))
        neighbour.tell(Order(order=order))
        await flooded.ask(Count())
        assert len(order) == 1_001
        assert order.index("neighbour") <= 2 * QUANTUM


async def test_one_who_is_answered_beside_a_flood_goes_on_before_it_is_over() -> None:
    async with LocalSystem("demo") as system:
        order: list[str] = []
        flooded, neighbour = system.spawn(Counter, "flooded", mailbox_max=100_000), system.spawn(Counter, "b")
        for _ in range(100_000):
            flooded.tell(Order(order=order))
        await neighbour.ask(CountAwaiting())
        assert len(order) <= 4 * QUANTUM
        await flooded.ask(Count())
        assert len(order) == 100_000


async def test_a_suspended_actor_holds_its_mail_back_until_it_goes_on() -> None:
    async with LocalSystem("demo") as system:
        counter = system.spawn(Counter, "a")
        counter.suspend()
        counter.suspend()
        counter.tell(Count())
        with pytest.raises(AskTimeout):
            await counter.ask(Count(), timeout_s=0.001)
        counter.resume()
        assert await counter.ask(Count()) == 2
        counter.resume()
        assert await counter.ask(CountAwaiting()) == 3


async def test_an_actor_without_mail_may_be_suspended_and_go_on() -> None:
    async with LocalSystem("demo") as system:
        counter = system.spawn(Counter, "a")
        counter.suspend()
        counter.resume()
        assert await counter.ask(Count()) == 1


async def test_an_actor_that_is_suspended_as_its_mail_ends_stays_so() -> None:
    async with LocalSystem("demo") as system:
        counter = system.spawn(Counter, "a")
        await counter.ask(SuspendAt(ref=counter, order=[], done=asyncio.Event()))
        with pytest.raises(AskTimeout):
            await counter.ask(Count(), timeout_s=0.001)
        counter.resume()
        assert await counter.ask(Count()) == 1


async def test_a_flood_keeps_no_order_to_suspend_waiting_for_more_than_a_batch() -> None:
    async with LocalSystem("demo") as system:
        order: list[str] = []
        counter, suspended = system.spawn(Counter, "a", mailbox_max=10_000), asyncio.Event()
        for _ in range(1_000):
            counter.tell(Order(order=order))
        counter.tell(SuspendAt(ref=counter, order=order, done=suspended))
        for _ in range(1_000):
            counter.tell(Order(order=order))
        await suspended.wait()
        handled = len(order)
        assert handled - order.index("suspended") <= BATCH_MAX
        await system.spawn(Counter, "b").ask(CountAwaiting())
        assert len(order) == handled
        counter.resume()
        assert await counter.ask(Count()) == 1
        assert len(order) == 2_001


@pytest.mark.parametrize("order_given", ["stop", "suspend"])
async def test_a_flood_keeps_no_order_of_a_neighbour_waiting_for_more_than_a_batch(order_given: str) -> None:
    async with LocalSystem("demo") as system:
        order: list[str] = []
        flooded = system.spawn(Counter, "flooded", mailbox_max=100_000)
        for _ in range(100_000):
            flooded.tell(Order(order=order))
        done, neighbour = asyncio.Event(), system.spawn(Orders, "neighbour")
        neighbour.tell(Give(to=flooded, order_given=order_given, order=order, done=done))
        await done.wait()
        at = order.index("given")
        if order_given == "suspend":
            await until(lambda: flooded._cell._held)  # pyright: ignore[reportPrivateUsage]
            assert len(order) - at - 1 <= BATCH_MAX
            flooded.resume()
            await flooded.ask(Count())
            assert len(order) == 100_001
        else:
            await flooded.stop()
            assert len(order) == at + 1
            assert system.dead_letters().counts["stopped"] == 100_000 - at
        assert at <= 2 * QUANTUM


async def test_a_suspended_actor_can_be_stopped() -> None:
    async with LocalSystem("demo") as system:
        counter = system.spawn(Counter, "a")
        counter.suspend()
        asking = asyncio.create_task(counter.ask(Count()))
        await asyncio.wait([asking], timeout=0)
        await counter.stop()
        with pytest.raises(ActorStopped):
            await asking
        counter.resume()
        with pytest.raises(ActorStopped):
            await counter.ask(Count())


async def test_an_actor_that_has_answered_and_is_idle_takes_at_most_700_bytes() -> None:
    count = 2_000
    keys = [str(number) for number in range(count + 1)]
    async with LocalSystem("demo") as system:
        await system.spawn(Counter, keys.pop()).ask(CountAwaiting())
        gc.collect()
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for key in keys:
                await system.spawn(Counter, key).ask(CountAwaiting())
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert (after - before) / count <= 700


class Boom(Message[None]):
    """Its receiver fails, or only says no."""

    refuse: bool = False


class Again(Message[None]):
    """Told so many times more, by its receiver itself."""

    left: int
    handled: list[int]


class Last(Message[None]):
    """Its receiver is ended while it handles this."""

    end: Any


class Single(LocalActor):
    """Handles what is the only mail without ever awaiting."""

    seen: int = 0

    @command
    async def boom(self, msg: Boom) -> None:
        self.seen += 1
        if msg.refuse:
            raise Refused("not now")
        raise RuntimeError("as told")

    @command
    async def again(self, msg: Again) -> None:
        msg.handled.append(msg.left)
        if msg.left:
            self.system.ref(Single, self.key).tell(Again(left=msg.left - 1, handled=msg.handled))

    @command
    async def last(self, msg: Last) -> None:
        msg.end()

    @command
    async def count(self, msg: Count) -> int:
        self.seen += 1
        return self.seen


async def test_an_actor_whose_only_mail_fails_is_restarted_and_one_that_refuses_it_goes_on() -> None:
    async with LocalSystem("x") as system:
        single = system.spawn(Single, "a", policy=AT_ONCE)
        assert await single.ask(Count()) == 1
        single.tell(Boom(refuse=True))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (single.restarts, await single.ask(Count())) == (0, 3)
        single.tell(Boom())
        single.tell(Count())  # it is in the mailbox before the failure
        await until(lambda: single.restarts == 1)
        assert await single.ask(Count()) == 2


async def test_one_that_keeps_telling_itself_gives_others_their_turn_and_loses_nothing() -> None:
    async with LocalSystem("x") as system:
        single, other = system.spawn(Single, "a"), system.spawn(Single, "b")
        await asyncio.gather(single.ask(Count()), other.ask(Count()))
        handled = list[int]()
        single.tell(Again(left=1_000, handled=handled))
        assert await other.ask(Count()) == 2
        await until(lambda: len(handled) == 1_001)
        assert handled == list(range(1_000, -1, -1))


async def test_one_that_is_ended_by_its_only_mail_takes_no_more() -> None:
    async with LocalSystem("x") as system:
        single = system.spawn(Single, "a")
        assert await single.ask(Count()) == 1
        single.tell(Last(end=lambda: single._cell.end("it was told so", Shutdown())))  # pyright: ignore[reportPrivateUsage]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        with pytest.raises(ActorStopped, match="it was told so"):
            single.tell(Count())
        assert single._cell.is_gone  # pyright: ignore[reportPrivateUsage]
