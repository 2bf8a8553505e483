"""Holes H4 and H5: asks that are repeated, cut off, asked side by side, or that nobody could ever answer."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import pytest

from regrow.actors import Actor, AskFailed, Event, Kind, Message, Policy, System, command, event, tool
from regrow.bus import Address, Box, Bus, headers
from regrow.supervisor import Backoff

pytestmark = pytest.mark.asyncio

OpenBus = Callable[[], Awaitable[Bus]]
Post = Callable[..., Awaitable[int]]
AT_ONCE = Policy(backoff=Backoff(first_s=0.0))
PATIENCE_S = 10.0


class Add(Message[int]):
    amount: int


class Unheard(Message[int]):
    pass


class Fan(Message[list[int]]):
    wide: int = 1


class Stray(Message[str]):
    pass


class Name(Message[str]):
    name: str


class Around(Message[str]):
    pass


class Added(Event):
    amount: int


class Counter(Actor):
    total: int = 0

    @command
    async def add(self, msg: Add) -> int:
        self.emit(Added(amount=msg.amount))
        return self.total

    @command
    async def around(self, msg: Around) -> str:
        return await self.ref(Asker, "a").ask(Around())

    @event
    def added(self, fact: Added) -> None:
        self.total += fact.amount


class Newer(Actor, kind="counter"):
    """What an asker of a later build takes the counter for."""

    @command
    async def unheard(self, msg: Unheard) -> int:
        return 0


@tool
async def slow(number: int) -> int:
    return number


class Asker(Actor):
    @command
    async def fan(self, msg: Fan) -> list[int]:
        """Its first attempt fails while the ask is on its way."""
        asks = [self.ref(Counter, "b").ask(Add(amount=number + 1)) for number in range(msg.wide)]
        *answers, _ = await asyncio.gather(*asks, self.fail_once())
        return [answer or 0 for answer in answers]

    @command
    async def ask_newer(self, msg: Unheard) -> int:
        return await self.ref(Newer, "b").ask(Unheard())

    @command
    async def around(self, msg: Around) -> str:
        return await self.ref(Counter, "b").ask(Around())

    @command
    async def stray(self, msg: Stray) -> str:
        self.port("strays").append(asyncio.create_task(slow(1)))
        await asyncio.sleep(0)
        return "stray"

    @command
    async def name(self, msg: Name) -> str:
        await self.port("gate").wait()
        return msg.name

    async def fail_once(self) -> None:
        relaying: asyncio.Event | None = self.port("relaying")
        if relaying is not None and not relaying.is_set():
            await relaying.wait()
            raise ValueError("the first attempt fails")


def system(app: str, **ports: object) -> System:
    kinds = [Kind(actor=Asker, policy=AT_ONCE), Kind(actor=Counter, policy=Policy(snapshot_every=1))]
    return System(app, kinds, ports={"relaying": None, **ports})


async def reply_to(bus: Bus, body: bytes, message_id: str) -> bytes:
    """The reply to a message that is put into the outside mailbox of the counter under this id."""
    replies: asyncio.Queue[bytes] = asyncio.Queue()
    async with bus.expect_reply(lambda reply: replies.put_nowait(reply.body)) as subject:
        await bus.mail.post("in", Address("counter", "b"), body, {headers.ID: message_id, headers.REPLY: subject})
        return await replies.get()


async def test_an_ask_repeated_under_its_id_is_one_turn_after_a_snapshot_and_a_takeover(
    open_another: OpenBus, app: str
) -> None:
    """H4: the client never saw the first reply; the log was rolled up meanwhile, and another node has the actor."""
    bus = await open_another()
    body = b'{"type":"Add","amount":2}'
    async with asyncio.timeout(PATIENCE_S):
        async with system(app).host(bus):
            assert [await reply_to(bus, body, "mine"), await reply_to(bus, body, "mine")] == [b"2", b"2"]
            assert await reply_to(bus, body, "other") == b"4"
        async with system(app).host(await open_another()):
            assert await reply_to(bus, body, "mine") == b"2"
            assert await reply_to(bus, body, "third") == b"6"


async def test_asks_side_by_side_to_one_actor_are_each_answered_once(bus: Bus, app: str) -> None:
    """H5: they leave in the order of their records, for the receiver knows them by a mark that only rises."""
    async with asyncio.timeout(PATIENCE_S), system(app).host(bus) as node:
        assert await node.ref(Asker, "a").ask(Fan(wide=6)) == [1, 3, 6, 10, 15, 21]


async def test_an_ask_that_a_failed_attempt_cut_off_on_its_way_is_sent_by_the_next(
    bus: Bus, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H5: recorded, but never posted; a failed turn does not un-ask, so its next attempt has to relay it."""
    real: Post = bus.mail.post
    relaying = asyncio.Event()

    async def post(
        box: Box,
        address: Address,
        body: bytes,
        given: Mapping[str, str] | None = None,
        *,
        message_id: str | None = None,
    ) -> int:
        if box == "act" and address.key == "b" and not relaying.is_set():
            relaying.set()
            await asyncio.Event().wait()
        return await real(box, address, body, given, message_id=message_id)

    monkeypatch.setattr(bus.mail, "post", post)
    async with asyncio.timeout(PATIENCE_S), system(app, relaying=relaying).host(bus) as node:
        assert await node.ref(Asker, "a").ask(Fan()) == [1]


async def test_an_ask_that_its_receiver_cannot_read_fails_at_once(bus: Bus, app: str) -> None:
    """H5: the refusal goes back to the asker's mailbox as any answer does."""
    async with asyncio.timeout(PATIENCE_S), system(app).host(bus) as node:
        with pytest.raises(AskFailed, match="knows no message 'Unheard'"):
            await node.ref(Asker, "a").ask(Unheard())


async def test_an_ask_that_comes_around_fails_at_once_and_says_who_waits_for_whom(bus: Bus, app: str) -> None:
    """H5: A waits for B, who asks A: a cycle with its name, not a time-out."""
    async with asyncio.timeout(PATIENCE_S), system(app).host(bus) as node:
        with pytest.raises(AskFailed, match=r"asker/a -> counter/b -> asker/a") as failed:
            await node.ref(Asker, "a").ask(Around())
        assert failed.value.code in (500, 508)


async def test_a_promotion_that_ends_after_its_turn_takes_nobody_elses_answer(
    bus: Bus, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that a finished turn left behind wanted its ask in the mailbox; the next ask must not be taken for it."""
    real: Post = bus.mail.post
    go, gate = asyncio.Event(), asyncio.Event()
    strays: list[asyncio.Task[int]] = []

    async def post(
        box: Box,
        address: Address,
        body: bytes,
        given: Mapping[str, str] | None = None,
        *,
        message_id: str | None = None,
    ) -> int:
        if box == "act":
            await go.wait()
        sequence = await real(box, address, body, given, message_id=message_id)
        gate.set()
        return sequence

    monkeypatch.setattr(bus.mail, "post", post)
    async with asyncio.timeout(PATIENCE_S), system(app, strays=strays, gate=gate).host(bus) as node:
        asker = node.ref(Asker, "a")
        one, two = asyncio.create_task(asker.ask(Stray())), asyncio.create_task(asker.ask(Name(name="two")))
        assert await one == "stray"
        go.set()
        assert await two == "two"
