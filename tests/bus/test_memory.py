"""What only the bus in memory has to get right: the rest is in the contract that it shares with the real one."""

import asyncio

import pytest

from regrow.bus import Address, Delivery, MemoryBus, Request, memory_mail
from regrow.bus.memory import matches

ALICE = Address("counter", "alice")


@pytest.mark.asyncio
async def test_what_was_on_its_way_at_a_takeover_goes_to_the_new_owner_only() -> None:
    bus = MemoryBus("a")
    first: list[Delivery] = []
    second: asyncio.Queue[Delivery] = asyncio.Queue()
    lost: list[int] = []
    async with bus.mail.serve(first.append, lost.append):
        await bus.mail.post("in", ALICE, b"1")
        async with bus.mail.serve(second.put_nowait, lost.append):
            assert (await second.get()).body == b"1"
    assert first == []


@pytest.mark.asyncio
async def test_a_message_id_is_forgotten_after_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    bus = MemoryBus("a")
    first = await bus.mail.post("act", ALICE, b"1", message_id="e.1")
    assert await bus.mail.post("act", ALICE, b"1", message_id="e.1") == first
    monkeypatch.setattr(memory_mail, "DEDUPLICATION_S", -1)
    assert await bus.mail.post("act", ALICE, b"1", message_id="e.1") > first
    assert bus.mail.waiting("act") == [b"1", b"1"]


@pytest.mark.asyncio
async def test_a_handler_that_left_hears_nothing_of_what_was_on_its_way() -> None:
    bus = MemoryBus("a")
    got: list[Request] = []
    late: asyncio.Queue[Request] = asyncio.Queue()
    async with bus.serve("s", late.put_nowait):
        async with bus.serve("s", got.append):
            await bus.publish("s", b"1")
        assert (await late.get()).body == b"1"
    assert got == []


@pytest.mark.parametrize(
    ("pattern", "subject", "fits"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.c", False),
        ("a.b", "a", False),
        ("a", "a.b", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("*.b", "a.b", True),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        (">", "a", True),
    ],
)
def test_wildcards_match_as_on_a_server(pattern: str, subject: str, fits: bool) -> None:
    assert matches(pattern, subject) is fits
