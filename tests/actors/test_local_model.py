"""A local actor under any sequence of sends, orders and failures: no message is lost silently, and none is handled twice."""

import asyncio
from collections import Counter
from typing import Any, Literal, cast, get_args

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from regrow.actors import LocalActor, LocalPolicy, LocalRef, LocalSystem, Message, Overflow, Refused, command
from regrow.actors.local_dead_letters import DeadLetterOffice, Reason
from regrow.bus import Address
from regrow.supervisor import Backoff, Intensity, Shutdown

What = Literal["note", "enter", "open", "fail", "refuse", "become", "stop"]
Order = Literal["turn", "suspend", "resume", "cancel"]

STOPPED = Shutdown()
TURNS = 40
"""Turns of the loop that are enough for all that is ready."""


class Sent(msgspec.Struct, frozen=True):
    """A message to be sent, and how."""

    what: What
    asked: bool
    awaiting: bool


class Run(msgspec.Struct):
    """What became of everything."""

    handled: Counter[int]
    dead: Counter[int]
    refused: set[int]
    """Where the sender was told at once that nothing was left."""


class Plain(Message[int]):
    number: int
    what: What
    run: Run


class Awaiting(Message[int]):
    number: int
    what: What
    run: Run


async def nothing() -> None: ...


class Subject(LocalActor):
    open: bool = False

    @command
    async def plain(self, msg: Plain) -> int:
        return self.act(msg, msg.number, msg.what, msg.run)

    @command
    async def awaiting(self, msg: Awaiting) -> int:
        await nothing()
        return self.act(msg, msg.number, msg.what, msg.run)

    def act(self, msg: Message[int], number: int, what: What, run: Run) -> int:
        if what == "enter" and not self.open:
            self.stash(msg)
        run.handled[number] += 1
        match what:
            case "open":
                self.open = True
                self.unstash_all()
            case "fail":
                raise ValueError
            case "refuse":
                raise Refused("no")
            case "become":
                self.become(Other if type(self) is Subject else Subject)
            case "stop":
                self.system.ref(Subject, self.key).end(STOPPED)
            case _:
                pass
        return number


class Other(Subject):
    @command
    async def plain(self, msg: Plain) -> int:
        return self.act(msg, msg.number, msg.what, msg.run)


class Office(DeadLetterOffice):
    """Knows each dead letter."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run

    def add(self, to: Address, message: object, reason: Reason) -> None:
        super().add(to, message, reason)
        if reason != "late_reply":  # that is a reply, not a message
            self._run.dead[cast(Plain, message).number] += 1


# The stash and the batches are where messages could go astray, so those that use it are sent most, and many before a turn.
whats: list[What] = ["enter", "enter", "enter", "open", "note", "note", "become", "become", "fail", "refuse"]
messages = st.builds(Sent, st.sampled_from(whats), st.booleans(), st.booleans())
orders: list[Order | Sent] = ["turn", "turn", "turn", "suspend", "resume", "cancel", Sent("stop", False, False)]
operations = st.lists(st.one_of(messages, messages, messages, st.sampled_from(orders)), min_size=10, max_size=50)


async def turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def carried_out(todo: list[Order | Sent], mailbox_max: int, stash_max: int, overflow: Overflow) -> None:
    run, asks = Run(Counter(), Counter(), set()), dict[int, asyncio.Task[int]]()
    policy = LocalPolicy(backoff=Backoff(first_s=0.0), intensity=Intensity(5, per_s=60.0))
    async with LocalSystem("model") as system:
        system.dead = Office(run)
        ref = system.spawn(Subject, "a", mailbox_max=mailbox_max, stash_max=stash_max, overflow=overflow, policy=policy)
        for number, each in enumerate(todo):
            match each:
                case "turn":
                    await turns()
                case "suspend":
                    ref.suspend()
                case "resume":
                    ref.resume()
                case "cancel":
                    if asks:
                        next(reversed(asks.values())).cancel()
                case _:
                    await send(ref, each, number, run, asks)
        ref.resume()
        await turns()
        await ref.stop()
        await turns()
        system.dead.close()
    check(todo, run, asks)


async def send(ref: LocalRef, sent: Sent, number: int, run: Run, asks: "dict[int, asyncio.Task[int]]") -> None:
    message = (Awaiting if sent.awaiting else Plain)(number=number, what=sent.what, run=run)
    if sent.asked:
        asks[number] = asyncio.create_task(ref.ask(message))
        await asyncio.wait([asks[number]], timeout=0)
        return
    try:
        ref.tell(message)
    except Exception:
        run.refused.add(number)


def check(todo: list[Order | Sent], run: Run, asks: "dict[int, asyncio.Task[int]]") -> None:
    for number, sent in enumerate(todo):
        if not isinstance(sent, Sent):
            continue
        handled, dead = run.handled[number], run.dead[number]
        if number not in asks:
            assert handled + dead + (number in run.refused) == 1, (number, sent)
            continue
        asking: asyncio.Task[Any] = asks[number]
        assert asking.done(), (number, sent)
        assert handled + dead <= 1, (number, sent)
        if not asking.cancelled() and asking.exception() is None:
            assert (handled, asking.result()) == (1, number)


@settings(max_examples=200, deadline=None)
@given(operations, st.integers(1, 20), st.integers(0, 8), st.sampled_from(get_args(Overflow)))
def test_each_message_is_handled_or_answered_with_an_error_or_a_dead_letter_exactly_once(
    todo: list[Order | Sent], mailbox_max: int, stash_max: int, overflow: Overflow
) -> None:
    asyncio.run(carried_out(todo, mailbox_max, stash_max, overflow))
