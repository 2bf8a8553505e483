"""Asks and tells from outside, through a bus that loses answers."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from tests.actors.counter import Add, Counter, Total

from regrow.actors import AskTimeout, Client, System, asking
from regrow.bus import Address, Box, Bus, MailboxFull, MemoryBus, NoResponder, RequestTimeout

pytestmark = pytest.mark.asyncio

Post = Callable[..., Awaitable[int]]


@pytest.fixture
def failing_posts(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Exception | None, bool]]:
    """The next posts fail with these errors, after they were stored where it says so."""
    errors: list[tuple[Exception | None, bool]] = []
    real: Post = bus.mail.post

    async def post(
        box: Box, address: Address, body: bytes, headers: dict[str, str] | None = None, *, message_id: str | None = None
    ) -> int:
        error, stored = errors.pop(0) if errors else (None, True)
        sequence = await real(box, address, body, headers, message_id=message_id) if stored else 0
        if error is not None:
            raise error
        return sequence

    monkeypatch.setattr(bus.mail, "post", post)
    monkeypatch.setattr(asking, "RETRY_S", 0.001)
    return errors


async def test_what_may_be_stored_is_stored_again_under_its_id_and_handled_once(
    bus: Bus, app_name: str, failing_posts: list[tuple[Exception | None, bool]]
) -> None:
    async with System(app_name, actors=[Counter]).host(bus):
        failing_posts += [(RequestTimeout(), True), (NoResponder("x"), False)]
        assert await Client(bus).ref(Counter, "a").ask(Add(amount=2)) == 2
        failing_posts += [(RequestTimeout(), True), (RequestTimeout(), True)]
        await Client(bus).ref(Counter, "a").tell(Add(amount=3))
        assert await Client(bus).ref(Counter, "a").ask(Add(amount=1)) == 6
        assert not failing_posts


async def test_what_was_never_stored_raises_what_stood_in_its_way(
    bus: Bus, app_name: str, failing_posts: list[tuple[Exception | None, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with System(app_name, actors=[Counter]).host(bus):
        failing_posts += [(RequestTimeout(), False)] * 10_000
        with pytest.raises(RequestTimeout):
            await Client(bus).ref(Counter, "a").ask(Add(amount=2), timeout_s=0.02)
        failing_posts.clear()
        failing_posts += [(MailboxFull("x"), False)]
        with pytest.raises(MailboxFull):
            await Client(bus).ref(Counter, "a").tell(Add(amount=2))


async def test_a_reply_that_is_lost_is_asked_for_again(
    bus: Bus, app_name: str, monkeypatch: pytest.MonkeyPatch, failing_posts: list[tuple[Exception | None, bool]]
) -> None:
    monkeypatch.setattr(asking, "RESEND_FIRST_S", 0.02)
    real, lost = bus.publish, 3

    async def publish(subject: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        nonlocal lost
        lost -= 1
        if lost < 0:
            await real(subject, body, headers)

    async with System(app_name, actors=[Counter]).host(bus):
        monkeypatch.setattr(bus, "publish", publish)
        assert await Client(bus).ref(Counter, "a").ask(Add(amount=2)) == 2
        lost = 1
        assert await Client(bus).ref(Counter, "a").ask(Add(amount=2)) == 4


async def test_an_ask_that_cannot_be_repeated_still_waits_for_its_reply(
    bus: Bus, app_name: str, monkeypatch: pytest.MonkeyPatch, failing_posts: list[tuple[Exception | None, bool]]
) -> None:
    monkeypatch.setattr(asking, "RESEND_FIRST_S", 0.001)
    failing_posts += [(None, True), (RequestTimeout(), False), (MailboxFull("x"), False)]
    address = Address("counter", "a")
    waiting = asyncio.create_task(asking.ask(bus, "in", address, b'{"type":"Add","amount":2}', {"Rg-Id": "x"}, 10.0))
    async with System(app_name, actors=[Counter]).host(bus):
        assert bytes((await waiting).value or b"") == b"2"


async def test_nobody_answers_in_time(bus: Bus, app_name: str) -> None:
    client = System(app_name, actors=[Counter])
    address = Address("counter", "a")
    with pytest.raises(AskTimeout, match=r"counter/a did not answer within 0\.05 s; the message may still be handled"):
        await asking.ask(bus, "in", address, b'{"type":"Add","amount":2}', {"Rg-Id": "x"}, 0.05)
    with pytest.raises(AskTimeout):
        await asking.query(bus, address, b'{"type":"Total"}', 0.05)
    async with client.host(bus):
        while await Client(bus).ref(Counter, "a").ask(Total()) != 2:
            pass


async def test_a_query_is_asked_again_until_somebody_serves_it(app_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "RETRY_S", 0.001)
    bus = MemoryBus(app_name)
    waiting = asyncio.create_task(asking.query(bus, Address("counter", "a"), b'{"type":"Total"}', 10.0))
    done, _ = await asyncio.wait((waiting,), timeout=0.01)
    assert not done
    async with System(app_name, actors=[Counter]).host(bus):
        assert bytes((await waiting).value or b"") == b"0"
