"""Local actors: order, limits, failures, restarts, and an end in which nobody is left waiting."""

import asyncio
import contextvars
from typing import Any

import pytest
from structlog.testing import capture_logs

from regrow.actors import (
    ActorError,
    ActorStopped,
    AskFailed,
    AskTimeout,
    DefinitionError,
    Event,
    LocalActor,
    LocalPolicy,
    LocalRef,
    LocalSystem,
    Message,
    Refused,
    command,
    event,
    query,
)
from regrow.actors.deadlines import TRIM_AT, Deadlines
from regrow.bus import MailboxFull
from regrow.supervisor import Backoff, ChildSpec, DuplicateChild, Intensity, Supervisor

pytestmark = pytest.mark.asyncio

AT_ONCE = Backoff(first_s=0.0, max_s=60.0)


class Add(Message[int]):
    amount: int


class Total(Message[int]):
    pass


class Fail(Message[None]):
    error: Any = None


class Refuse(Message[None]):
    pass


class Hold(Message[str]):
    """Handled once ``until`` is set; ``started`` tells that the handler has it."""

    started: asyncio.Event
    until: asyncio.Event


class StopYourself(Message[None]):
    pass


class Unknown(Message[None]):
    pass


class Counter(LocalActor):
    total: int = 0

    @command
    async def add(self, msg: Add) -> int:
        self.total += msg.amount
        return self.total

    @query
    async def read(self, msg: Total) -> int:
        return self.total

    @command
    async def fail(self, msg: Fail) -> None:
        self.total = -1
        raise msg.error or ValueError("no such thing")

    @command
    async def refuse(self, msg: Refuse) -> None:
        raise Refused("no funds", balance=3)

    @command
    async def hold(self, msg: Hold) -> str:
        msg.started.set()
        await msg.until.wait()
        return self.key

    @command
    async def stop(self, msg: StopYourself) -> None:
        await self.system.ref(Counter, self.key).stop()


class Pair(Message[list[int]]):
    pass


class Lists(LocalActor):
    order: list[int] = []

    @command
    async def add(self, msg: Add) -> int:
        self.order.append(msg.amount)
        return len(self.order)

    @query
    async def pair(self, msg: Pair) -> list[int]:
        return self.order


def hold() -> Hold:
    return Hold(started=asyncio.Event(), until=asyncio.Event())


def spawn(system: LocalSystem, key: str = "a", *, limit: int = 3, mailbox_max: int = 1_000) -> LocalRef:
    policy = LocalPolicy(backoff=AT_ONCE, intensity=Intensity(limit, per_s=60.0))
    return system.spawn(Counter, key, mailbox_max=mailbox_max, policy=policy)


async def busy(ref: LocalRef) -> tuple[Hold, "asyncio.Task[str]"]:
    """The actor in the middle of a handler, and the ask that waits for it."""
    message = hold()
    asking = asyncio.create_task(ref.ask(message))
    await message.started.wait()
    return message, asking


async def test_an_ask_is_answered_with_what_the_handler_returns() -> None:
    async with LocalSystem("demo") as system:
        counter = spawn(system)
        assert await counter.ask(Add(amount=2)) == 2
        assert await counter.ask(Add(amount=3)) == 5


async def test_a_query_is_answered_in_its_turn() -> None:
    async with LocalSystem("demo") as system:
        counter = spawn(system)
        counter.tell(Add(amount=2))
        assert await counter.ask(Total()) == 2


async def test_tells_are_handled_in_the_order_in_which_they_came() -> None:
    async with LocalSystem("demo") as system:
        lists = system.spawn(Lists, "a")
        for number in range(100):
            lists.tell(Add(amount=number))
        assert await lists.ask(Pair()) == list(range(100))


async def test_an_actor_handles_one_message_at_a_time() -> None:
    async with LocalSystem("demo") as system:
        counter = spawn(system)
        first, asking = await busy(counter)
        second = hold()
        waiting = asyncio.create_task(counter.ask(second))
        await spawn(system, "b").ask(Total())
        assert not second.started.is_set()
        first.until.set()
        await second.started.wait()
        second.until.set()
        assert (await asking, await waiting) == ("a", "a")


async def test_a_waiting_handler_holds_up_nobody_else() -> None:
    async with LocalSystem("demo") as system:
        held = [await busy(spawn(system, f"busy{n}")) for n in range(100)]
        assert await spawn(system).ask(Add(amount=1)) == 1
        for message, _ in held:
            message.until.set()
        assert [await asking for _, asking in held] == [f"busy{n}" for n in range(100)]


async def test_two_actors_of_a_kind_share_no_mutable_default() -> None:
    async with LocalSystem("demo") as system:
        a, b = system.spawn(Lists, "a"), system.spawn(Lists, "b")
        await a.ask(Add(amount=1))
        assert await b.ask(Pair()) == []


async def test_an_idle_system_owns_one_task_at_most_however_many_actors_it_has() -> None:
    async with LocalSystem("demo") as system:
        before = len(asyncio.all_tasks())
        for number in range(100):
            await spawn(system, f"k{number}").ask(Add(amount=1))
        assert len(asyncio.all_tasks()) <= before + 1


async def test_a_burst_of_waiting_handlers_leaves_a_bounded_number_of_tasks() -> None:
    async with LocalSystem("demo") as system:
        before = len(asyncio.all_tasks())
        held = [await busy(spawn(system, f"k{n}")) for n in range(200)]
        for message, _ in held:
            message.until.set()
        await asyncio.gather(*(asking for _, asking in held))
        await spawn(system).ask(Total())
        assert len(asyncio.all_tasks()) <= before + 66


async def test_a_flood_for_one_actor_lets_the_loop_and_its_neighbour_have_their_turns() -> None:
    async with LocalSystem("demo") as system:
        flooded, neighbour = spawn(system, mailbox_max=200_000), spawn(system, "b")
        for _ in range(100_000):
            flooded.tell(Add(amount=1))
        last = hold()
        flooded.tell(last)
        assert await neighbour.ask(Total()) == 0
        assert not last.started.is_set()
        last.until.set()
        assert await flooded.ask(Total()) == 100_000


async def test_a_handler_does_not_see_the_context_of_whoever_asks() -> None:
    mark = contextvars.ContextVar("mark", default="none")

    class Look(Message[str]):
        pass

    class Looker(LocalActor):
        @command
        async def look(self, msg: Look) -> str:
            return mark.get()

    async with LocalSystem("demo") as system:
        mark.set("the asker's")
        assert await system.spawn(Looker, "a").ask(Look()) == "none"


async def test_a_handler_may_use_timeouts_and_task_groups() -> None:
    class Race(Message[str]):
        pass

    class Racer(LocalActor):
        @command
        async def race(self, msg: Race) -> str:
            try:
                async with asyncio.timeout(0), asyncio.TaskGroup() as tasks:
                    tasks.create_task(asyncio.Event().wait())
            except TimeoutError:
                return "timed out"
            return "won"

    async with LocalSystem("demo") as system:
        racer = system.spawn(Racer, "a")
        assert await racer.ask(Race()) == "timed out"
        assert await racer.ask(Race()) == "timed out"


async def test_a_full_mailbox_is_the_senders_error_and_takes_nothing() -> None:
    async with LocalSystem("demo") as system:
        counter = spawn(system, mailbox_max=2)
        message, asking = await busy(counter)
        counter.tell(Add(amount=1))
        counter.tell(Add(amount=1))
        with pytest.raises(MailboxFull, match="counter/a"):
            counter.tell(Add(amount=1))
        with pytest.raises(MailboxFull):
            await counter.ask(Add(amount=1))
        message.until.set()
        await asking
        assert await counter.ask(Total()) == 2


async def test_a_mailbox_needs_room_for_one_message() -> None:
    async with LocalSystem("demo") as system:
        with pytest.raises(ValueError, match="mailbox_max must be 1 or more"):
            spawn(system, mailbox_max=0)


async def test_an_ask_whose_time_is_over_before_its_turn_fails_and_is_not_handled() -> None:
    async with LocalSystem("demo") as system:
        counter = spawn(system)
        message, asking = await busy(counter)
        with pytest.raises(AskTimeout, match=r"counter/a did not answer within 0\.001 s"):
            await counter.ask(Add(amount=7), timeout_s=0.001)
        message.until.set()
        await asking
        assert await counter.ask(Total()) == 0
        assert system.dead_letters().counts["late"] == 1


async def test_of_many_asks_with_one_time_limit_only_the_unanswered_expire() -> None:
    async with LocalSystem("demo") as system:
        stuck, quick = spawn(system, "stuck"), spawn(system, "quick")
        message, asking = await busy(stuck)
        late = [asyncio.create_task(stuck.ask(Total(), timeout_s=0.05)) for _ in range(3)]
        for number in range(500):
            assert await quick.ask(Add(amount=1), timeout_s=0.05) == number + 1
        results = await asyncio.gather(*late, return_exceptions=True)
        assert [type(each) for each in results] == [AskTimeout] * 3
        message.until.set()
        assert await asking == "stuck"


async def test_answered_asks_do_not_pile_up_behind_a_slow_one() -> None:
    deadlines, loop = Deadlines(), asyncio.get_running_loop()
    slow: asyncio.Future[object] = loop.create_future()
    deadlines.add(slow, 30.0, "counter/slow")
    for _ in range(2_000):
        quick: asyncio.Future[object] = loop.create_future()
        deadlines.add(quick, 30.0, "counter/quick")
        quick.set_result(None)
    assert len(deadlines) <= 2 * TRIM_AT
    deadlines.close()
    assert not slow.done()


async def test_an_asker_that_is_cancelled_does_not_disturb_the_actor() -> None:
    async with LocalSystem("demo") as system:
        counter = spawn(system)
        message, asking = await busy(counter)
        asking.cancel()
        message.until.set()
        assert await counter.ask(Add(amount=1)) == 1
        assert asking.cancelled()
        assert counter.restarts == 0


async def test_a_refusal_is_a_reply_and_restarts_nothing() -> None:
    async with LocalSystem("demo") as system:
        counter = spawn(system)
        await counter.ask(Add(amount=4))
        with pytest.raises(Refused, match="no funds") as caught:
            await counter.ask(Refuse())
        assert caught.value.data == {"balance": 3}
        assert await counter.ask(Total()) == 4
        assert counter.restarts == 0


async def test_a_failed_ask_tells_the_cause_and_the_actor_restarts_from_its_defaults() -> None:
    async with LocalSystem("demo") as system:
        counter = spawn(system)
        await counter.ask(Add(amount=4))
        with pytest.raises(AskFailed, match="ValueError: no such thing") as caught:
            await counter.ask(Fail())
        assert isinstance(caught.value.__cause__, ValueError)
        assert (caught.value.kind, caught.value.code) == ("defect", 500)
        assert await counter.ask(Total()) == 0
        assert counter.restarts == 1


async def test_mail_that_waits_survives_a_restart_in_order() -> None:
    async with LocalSystem("demo") as system:
        counter = spawn(system)
        failing = asyncio.create_task(counter.ask(Fail()))
        answers = [asyncio.create_task(counter.ask(Add(amount=1))) for _ in range(3)]
        assert [await each for each in answers] == [1, 2, 3]
        with pytest.raises(AskFailed):
            await failing


async def test_a_restart_waits_for_the_backoff_and_the_mail_with_it() -> None:
    draws: list[float] = []

    def draw() -> float:
        draws.append(0.5)
        return 0.5

    async with LocalSystem("demo", draw=draw) as system:
        policy = LocalPolicy(backoff=Backoff(first_s=0.1, max_s=10.0))
        counter = system.spawn(Counter, "a", policy=policy)
        loop = asyncio.get_running_loop()
        with pytest.raises(AskFailed):
            await counter.ask(Fail())
        failed_at = loop.time()
        assert counter.restarts == 0
        assert await counter.ask(Total()) == 0
        assert loop.time() - failed_at >= 0.045
        assert draws == [0.5]


async def test_too_many_failures_stop_the_actor_and_answer_what_waits() -> None:
    async with LocalSystem("demo") as system:
        counter = spawn(system, limit=2)
        messages: list[Message[Any]] = [Fail(), Fail(), Fail(), Total()]
        results = await asyncio.gather(*(counter.ask(each) for each in messages), return_exceptions=True)
        assert [type(each) for each in results] == [AskFailed, AskFailed, AskFailed, ActorStopped]
        with pytest.raises(ActorStopped, match="crashed with ValueError"):
            await counter.ask(Total())
        with pytest.raises(ActorStopped):
            counter.tell(Total())


async def test_a_temporary_actor_is_stopped_by_its_first_failure() -> None:
    async with LocalSystem("demo") as system:
        counter = system.spawn(Counter, "a", policy=LocalPolicy(restart="temporary"))
        with pytest.raises(AskFailed):
            await counter.ask(Fail())
        with pytest.raises(ActorStopped, match="is not restarted"):
            await counter.ask(Total())


async def test_a_told_failure_restarts_too_and_is_logged() -> None:
    async with LocalSystem("demo") as system:
        counter = spawn(system)
        with capture_logs() as logs:
            counter.tell(Fail())
            assert await counter.ask(Total()) == 0
        assert [(each["event"], each["error"], each["again"]) for each in logs] == [
            ("actor failed", "ValueError", True)
        ]


async def test_a_cancellation_that_nobody_asked_for_is_a_failure_of_the_actor_alone() -> None:
    async with LocalSystem("demo") as system:
        counter = spawn(system)
        with pytest.raises(AskFailed, match="CancelledError"):
            await counter.ask(Fail(error=asyncio.CancelledError()))
        assert await counter.ask(Add(amount=1)) == 1
        assert counter.restarts == 1


async def test_a_handler_that_cancels_its_own_task_fails_alone() -> None:
    class Cancel(Message[None]):
        pass

    class Odd(LocalActor):
        @command
        async def cancel(self, msg: Cancel) -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.Event().wait()

        @query
        async def total(self, msg: Total) -> int:
            return 1

    async with LocalSystem("demo") as system:
        odd = system.spawn(Odd, "a", policy=LocalPolicy(backoff=AT_ONCE))
        with pytest.raises(AskFailed, match="CancelledError"):
            await odd.ask(Cancel())
        assert await odd.ask(Total()) == 1


async def test_stop_answers_the_mailbox_and_lets_the_running_handler_end() -> None:
    async with LocalSystem("demo") as system:
        counter = spawn(system)
        message, asking = await busy(counter)
        behind = asyncio.create_task(counter.ask(Total()))
        counter_told = hold()
        await spawn(system, "b").ask(Total())
        counter.tell(counter_told)
        with capture_logs() as logs:
            stopping = asyncio.create_task(counter.stop())
            with pytest.raises(ActorStopped, match="asked to stop"):
                await behind
        assert [(each["event"], each["message"], each["reason"]) for each in logs] == [
            ("dead letter", "Hold", "stopped")
        ]
        assert not stopping.done()
        message.until.set()
        await stopping
        assert await asking == "a"
        assert not counter_told.started.is_set()


async def test_stop_cancels_a_handler_that_does_not_end_in_its_time() -> None:
    async with LocalSystem("demo") as system:
        counter = spawn(system)
        _, asking = await busy(counter)
        await counter.stop(grace_s=0)
        with pytest.raises(ActorStopped):
            await asking
        assert await spawn(system, "b").ask(Total()) == 0


async def test_stop_may_come_twice_and_during_a_backoff() -> None:
    async with LocalSystem("demo", draw=lambda: 1.0) as system:
        counter = system.spawn(Counter, "a", policy=LocalPolicy(backoff=Backoff(first_s=50.0, max_s=50.0)))
        with pytest.raises(AskFailed):
            await counter.ask(Fail())
        behind = asyncio.create_task(counter.ask(Total()))
        await spawn(system, "b").ask(Total())
        await asyncio.gather(counter.stop(), counter.stop())
        with pytest.raises(ActorStopped):
            await behind


async def test_an_actor_may_stop_itself() -> None:
    async with LocalSystem("demo") as system:
        counter = spawn(system)
        await counter.ask(StopYourself())
        with pytest.raises(ActorStopped):
            await counter.ask(Total())


async def test_a_stopped_actor_makes_room_for_a_new_one_of_its_key() -> None:
    async with LocalSystem("demo") as system:
        counter = spawn(system)
        await counter.ask(Add(amount=1))
        with pytest.raises(DuplicateChild):
            spawn(system)
        await counter.stop()
        with pytest.raises(ActorStopped, match="no such actor"):
            system.ref(Counter, "a")
        again = spawn(system)
        assert await system.ref(Counter, "a").ask(Total()) == 0
        with pytest.raises(ActorStopped):
            counter.tell(Total())
        assert again.address == counter.address


async def test_leaving_the_system_answers_everybody() -> None:
    async with LocalSystem("demo") as system:
        counter = spawn(system)
        message, asking = await busy(counter)
        behind = asyncio.create_task(counter.ask(Total()))
        await spawn(system, "b").ask(Total())
        asyncio.get_running_loop().call_soon(message.until.set)
    assert await asking == "a"
    with pytest.raises(ActorStopped, match="the local system demo ends"):
        await behind
    with pytest.raises(ActorError, match="does not run"):
        spawn(system)


async def test_a_cancelled_block_cancels_the_handlers_and_goes_on_with_its_cancellation() -> None:
    message, inside = hold(), asyncio.Event()
    asked: list[asyncio.Task[str]] = []

    async def live() -> None:
        async with LocalSystem("demo") as system:
            asked.append(asyncio.create_task(spawn(system).ask(message)))
            await message.started.wait()
            inside.set()
            await asyncio.Event().wait()

    living = asyncio.create_task(live())
    await inside.wait()
    living.cancel()
    await asyncio.wait([living], timeout=0)
    living.cancel()
    with pytest.raises(asyncio.CancelledError):
        await living
    with pytest.raises(ActorStopped):
        await asked[0]


async def test_a_system_may_be_entered_again_and_begins_empty() -> None:
    system = LocalSystem("demo")
    async with system:
        await spawn(system).ask(Add(amount=1))
        with pytest.raises(ActorError, match="is running already"):
            await system.__aenter__()
    async with system:
        assert await spawn(system).ask(Total()) == 0


async def test_a_local_system_is_a_child_like_any_other() -> None:
    local = LocalSystem("demo")
    spec = local.child_spec()
    assert isinstance(spec, ChildSpec)
    async with Supervisor("root", children=[spec]):
        assert await spawn(local).ask(Add(amount=1)) == 1
    with pytest.raises(ActorError, match="does not run"):
        spawn(local)


async def test_an_unhandled_message_is_the_senders_error() -> None:
    async with LocalSystem("demo") as system:
        with pytest.raises(DefinitionError, match="Counter has no handler for Unknown"):
            spawn(system).tell(Unknown())


async def test_a_local_actor_with_an_event_method_is_refused() -> None:
    class Added(Event):
        amount: int

    with pytest.raises(DefinitionError, match=r"Wrong.added is an @event, but a LocalActor has no log"):

        class Wrong(LocalActor):  # pyright: ignore[reportUnusedClass]
            @event
            def added(self, fact: Added) -> None: ...


async def test_a_field_without_a_default_is_refused() -> None:
    with pytest.raises(DefinitionError, match="total is state and needs a default"):

        class Wrong(LocalActor):  # pyright: ignore[reportUnusedClass]
            total: int


async def test_an_actor_that_was_never_spawned_has_no_key() -> None:
    with pytest.raises(ActorError, match="spawn it in a LocalSystem"):
        _ = Counter().key
