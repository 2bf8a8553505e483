"""Relays: in order for each receiver, again after a crash, and dropped by a receiver that knows them."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from regrow.actors import Actor, Client, Event, Message, Node, System, command, event, query
from regrow.actors.dead_letter import DeadLetter
from regrow.bus import Address, Box, Bus, PayloadTooLarge, RequestTimeout, decode

pytestmark = pytest.mark.asyncio

OpenBus = Callable[[], Awaitable[Bus]]
DeadLetters = Callable[[], Awaitable[list[DeadLetter]]]


class Note(Message[None]):
    text: str


class Spread(Message[int]):
    to: list[str]
    texts: list[str]


class Texts(Message[list[str]]):
    pass


class Noted(Event):
    text: str


class Pad(Actor):
    texts: list[str] = []

    @command
    async def spread(self, msg: Spread) -> int:
        for text in msg.texts:
            for to in msg.to:
                self.send(self.ref(Pad, to), Note(text=f"{self.key}:{text}"))
        return len(msg.texts)

    @command
    async def note(self, msg: Note) -> None:
        self.emit(Noted(text=msg.text))

    @query
    async def read(self, msg: Texts) -> list[str]:
        return self.texts

    @event
    def noted(self, fact: Noted) -> None:
        self.texts.append(fact.text)


async def noted(node: Node, key: str, count: int) -> list[str]:
    """What an actor has noted, once that is so much."""
    while len(texts := await node.ref(Pad, key).ask(Texts())) < count:
        pass
    return texts


Post = Callable[..., Awaitable[int]]


def patched_posts(
    monkeypatch: pytest.MonkeyPatch, bus: Bus, wrong: Callable[[int], Exception | None], after: bool = False
) -> list[int]:
    """Makes posts to the runtime's mailbox fail, by their number: before they are stored or after."""
    real: Post = bus.mail.post
    numbers: list[int] = []

    async def post(
        box: Box, address: Address, body: bytes, headers: dict[str, str] | None = None, *, message_id: str | None = None
    ) -> int:
        error = None
        if box == "act":
            numbers.append(len(numbers))
            error = wrong(numbers[-1])
        if error is not None and not after:
            raise error
        stored = await real(box, address, body, headers, message_id=message_id)
        if error is not None:
            raise error
        return stored

    monkeypatch.setattr(bus.mail, "post", post)
    return numbers


async def test_what_is_sent_to_one_actor_arrives_in_order(bus: Bus, app_name: str) -> None:
    texts = [str(number) for number in range(30)]
    async with System(app_name, actors=[Pad]).checked().host(bus) as node:
        await asyncio.gather(*(node.ref(Pad, key).ask(Spread(to=["z"], texts=texts)) for key in "ab"))
        arrived = await noted(node, "z", 60)
    for key in "ab":
        assert [each for each in arrived if each.startswith(key)] == [f"{key}:{text}" for text in texts]


async def test_a_relay_whose_acknowledgement_is_lost_is_repeated_and_known(
    bus: Bus, app_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regrow.actors.outbox.RETRY_PAUSE_S", 0.0)
    posts = patched_posts(monkeypatch, bus, lambda number: RequestTimeout() if number in (1, 2) else None, after=True)
    async with System(app_name, actors=[Pad]).host(bus) as node:
        await Client(bus).ref(Pad, "a").ask(Spread(to=["z"], texts=["1", "2", "3"]))
        assert await noted(node, "z", 3) == ["a:1", "a:2", "a:3"]
    assert len(posts) == 5


async def test_relays_that_were_left_over_by_a_crash_are_sent_before_anything_else(
    open_another: OpenBus, app_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = await open_another()
    stuck = asyncio.Event()

    def never(number: int) -> Exception | None:
        if number:
            stuck.set()
        return RequestTimeout() if number else None

    with monkeypatch.context() as patch:
        patched_posts(patch, bus, never)
        async with System(app_name, actors=[Pad]).host(bus) as node:
            answer = asyncio.create_task(Client(bus).ref(Pad, "a").ask(Spread(to=["z"], texts=["1", "2", "3"])))
            assert await answer == 3, "the reply leaves before the relays"
            await stuck.wait()
    async with System(app_name, actors=[Pad]).host(await open_another()) as node:
        await Client(bus).ref(Pad, "a").ask(Spread(to=["z"], texts=["4"]))
        assert await noted(node, "z", 4) == ["a:1", "a:2", "a:3", "a:4"]


async def test_a_relay_that_comes_long_after_its_window_is_known_by_its_mark(
    open_another: OpenBus, app_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has forgotten the id: the relay is stored twice, and the receiver drops it."""
    bus = await open_another()
    real: Post = bus.mail.post
    posts: list[str] = []

    async def post(
        box: Box, address: Address, body: bytes, headers: dict[str, str] | None = None, *, message_id: str | None = None
    ) -> int:
        if box == "act":
            posts.append(decode(body, Note).text.removeprefix("a:"))
        return await real(box, address, body, headers)

    monkeypatch.setattr(bus.mail, "post", post)
    async with System(app_name, actors=[Pad]).host(bus) as node:
        await Client(bus).ref(Pad, "a").ask(Spread(to=["z"], texts=["1", "2"]))
        assert await noted(node, "z", 2) == ["a:1", "a:2"]
    async with System(app_name, actors=[Pad]).host(bus) as node:
        await Client(bus).ref(Pad, "a").ask(Spread(to=["z"], texts=["3"]))
        assert await noted(node, "z", 3) == ["a:1", "a:2", "a:3"]
    assert posts == ["1", "2", "1", "2", "3"]


async def test_a_relay_that_can_never_be_stored_is_a_dead_letter_and_the_next_one_goes(
    bus: Bus, app_name: str, dead_letters: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    patched_posts(monkeypatch, bus, lambda number: PayloadTooLarge(2, 1) if number == 1 else None)
    async with System(app_name, actors=[Pad]).host(bus) as node:
        await Client(bus).ref(Pad, "a").ask(Spread(to=["z"], texts=["1", "2", "3"]))
        assert await noted(node, "z", 2) == ["a:1", "a:3"]
        (dead,) = await dead_letters()
    assert (dead.kind, dead.key, dead.cause.kind) == ("pad", "z", "too_large")
