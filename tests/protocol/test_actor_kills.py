# ruff: noqa: ASYNC110  (what a mailbox holds, or another process did, can only be looked at)
"""Holes H1, C5 and H5, and poison, with real processes on a real server: who finds what a killed one left half done, and which
message is given up because processes die of it."""

import asyncio
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from regrow.actors.asking import query
from regrow.actors.dead_letter import DeadLetters
from regrow.bus import Address, EmbeddedServer, NatsBus, headers

pytestmark = pytest.mark.asyncio

APP = Path(__file__).parent / "apps" / "victim.py"
LIVES_MAX = 14


@asynccontextmanager
async def life(
    server: EmbeddedServer, app: str, witness: Path, where: str = "never", number: int = 0
) -> AsyncGenerator[Process]:
    """The application in a process of its own, killed at the end of the block."""
    arguments = (str(APP), server.url, app, str(witness), where, str(number))
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=DEVNULL, stderr=DEVNULL)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()


async def ask(bus: NatsBus, key: str, body: bytes, message_id: str) -> bytes:
    """The reply to a message that is put into the mailbox once."""
    replies: asyncio.Queue[bytes] = asyncio.Queue()
    async with bus.expect_reply(lambda reply: replies.put_nowait(reply.body)) as subject:
        given = {headers.ID: message_id, headers.REPLY: subject}
        await bus.mail.post("in", Address("victim", key), body, given)
        return await replies.get()


async def totals(bus: NatsBus, key: str) -> dict[str, list[int]]:
    address = Address("victim", key)
    outcome = await query(bus, address, b'{"type":"Totals"}', 30.0)
    return msgspec.json.decode(outcome.value, type=dict[str, list[int]])


async def live_until_answered(
    server: EmbeddedServer, bus: NatsBus, app: str, witness: Path, asks: list[tuple[str, bytes, str]]
) -> list[bytes]:
    """The answers, after as many processes one after the other as it takes."""
    asking = [asyncio.create_task(ask(bus, *each)) for each in asks]
    lives = 0
    while not all(each.done() for each in asking):
        lives += 1
        assert lives <= LIVES_MAX, [each.done() for each in asking]
        async with life(server, app, witness) as process:
            ended = asyncio.create_task(process.wait())
            answered = asyncio.gather(*asking)
            await asyncio.wait((ended, answered), return_when=asyncio.FIRST_COMPLETED)
    return [each.result() for each in asking]


async def test_poison_is_given_up_after_so_many_deaths_and_nothing_else_is(
    nats_server: EmbeddedServer, nats_bus: NatsBus, app: str, tmp_path: Path
) -> None:
    """The mail behind the poison is handled, and so is an innocent turn of another actor that runs beside it."""
    witness = tmp_path / "witness"
    witness.touch()
    asks = [
        ("a", b'{"type":"Poison"}', "p"),
        ("a", b'{"type":"Add","amount":1}', "a1"),
        ("b", b'{"type":"Add","amount":2}', "b1"),
    ]
    answers = await live_until_answered(nats_server, nats_bus, app, witness, asks)
    assert b"poison" in answers[0]
    assert answers[1:] == [b"1", b"2"]
    assert 1 <= witness.read_text().splitlines().count("poison") <= 3
    assert [(each.key, each.cause.kind) for each in await DeadLetters(nats_bus).list()] == [("a", "poison")]


async def test_a_turn_that_records_a_step_between_any_two_of_its_deaths_is_no_poison(
    nats_server: EmbeddedServer, nats_bus: NatsBus, app: str, tmp_path: Path
) -> None:
    """Poison: more processes die of it than one message may kill, and each gets further than the one before."""
    witness = tmp_path / "witness"
    witness.touch()
    asks = [("c", b'{"type":"Long","steps":4}', "long")]
    assert await live_until_answered(nats_server, nats_bus, app, witness, asks) == [b"6"]
    assert not await DeadLetters(nats_bus).list()


@pytest.mark.parametrize(
    ("where", "number"),
    [
        ("append<", 1),  # Begun and Asked
        ("append>", 1),
        ("relay<", 1),  # the ask
        ("relay>", 1),
        ("append>", 2),  # the bank's turn
        ("relay<", 2),  # its answer
        ("relay>", 2),
        ("append>", 3),  # the step that is the ask
        ("append>", 4),
        ("append>", 5),  # the turn
        ("relay>", 3),  # its first send
        ("relay>", 4),
    ],
)
async def test_what_a_killed_process_left_half_done_is_finished_once(
    nats_server: EmbeddedServer, nats_bus: NatsBus, app: str, tmp_path: Path, where: str, number: int
) -> None:
    """Nobody keeps an index of unfinished turns: the mail that such a turn holds comes again."""
    witness = tmp_path / "witness"
    witness.touch()
    asking = asyncio.create_task(ask(nats_bus, "x", b'{"type":"Book","number":5}', "b"))
    async with life(nats_server, app, witness, where, number) as process:
        assert await process.wait() == -signal.SIGKILL
    async with life(nats_server, app, witness):
        if not asking.done():
            done = asyncio.create_task(ask(nats_bus, "x", b'{"type":"Book","number":5}', "b"))
            await asyncio.wait((asking, done), return_when=asyncio.FIRST_COMPLETED)
            asking.cancel()
            asking = done
        assert await asking == b"6"
        expected: dict[str, dict[str, list[int]]] = {
            "x": {"book": [5], "tick": [5]},
            "bank-x": {"charge": [5]},
            "note-x": {"note": [5, 105]},
        }
        while {key: await totals(nats_bus, key) for key in expected} != expected:
            await asyncio.sleep(0.02)
        for key in expected:
            assert await ask(nats_bus, key, b'{"type":"Add","amount":1}', "after") == b"1"
        assert {key: each | {"add": [1]} for key, each in expected.items()} == {
            key: await totals(nats_bus, key) for key in expected
        }
    assert witness.read_text().splitlines().count("weigh 5") <= 2
    assert not await DeadLetters(nats_bus).list()
