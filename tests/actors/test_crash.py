"""Processes that are killed, on a real server: what the logs and a witness outside the runtime say about it afterwards."""

import asyncio
import random
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from regrow.actors.records import Record, Steps
from regrow.bus import Address, Bus, EmbeddedServer, decode, headers

pytestmark = pytest.mark.asyncio

APP = Path(__file__).parent / "apps" / "ledger.py"
KILLS = 6
LEDGERS = [f"l{number}" for number in range(5)]
EACH = 12
STEPS_EACH = 4


@asynccontextmanager
async def running(server: EmbeddedServer, app_name: str, witness: Path) -> AsyncGenerator[Process]:
    """The application in a process of its own, ready or at work already; killed at the end of the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(APP), server.url, app_name, str(witness), stdout=PIPE, stderr=DEVNULL
    )
    assert process.stdout is not None
    try:
        assert await process.stdout.readline()
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.stdout.read()
        await process.wait()


async def lines(process: Process, count: int) -> None:
    """Waits until that many more steps ran in the process."""
    assert process.stdout is not None
    while count:
        line = await process.stdout.readline()
        assert line, f"the application ended by itself with {process.returncode}"
        count -= line != b"ready\n"


async def ask(bus: Bus, kind: str, key: str, body: bytes) -> bytes:
    replies: asyncio.Queue[bytes] = asyncio.Queue()
    async with bus.expect_reply(lambda reply: replies.put_nowait(reply.body)) as subject:
        await bus.mail.post("in", Address(kind, key), body, {headers.REPLY: subject})
        return await replies.get()


async def total(bus: Bus) -> int:
    return int(
        (await bus.request(bus.subjects.query(Address("counter", "all")), b'{"type":"Total"}', timeout_s=5.0)).body
    )


async def recorded_steps(bus: Bus) -> dict[str, int]:
    """When the server stored each step, by actor and key."""
    found: dict[str, int] = {}
    for key in LEDGERS:
        for stored in await bus.log.read(Address("ledger", key)):
            for entry in decode(stored.data, Record, "record").entries:
                if isinstance(entry, Steps):
                    for step in entry.steps:
                        assert f"ledger/{key} {step.key}" not in found, "a step was recorded twice"
                        found[f"ledger/{key} {step.key}"] = stored.time_ns
    return found


async def test_processes_killed_at_any_moment_lose_nothing_and_repeat_nothing_recorded(
    nats_server: EmbeddedServer,
    nats_bus: Bus,
    app_name: str,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    seed = random.randrange(1 << 30)
    record_property("seed", seed)
    chance = random.Random(seed)
    witness = tmp_path / "witness"
    for number in range(EACH):
        for key in LEDGERS:
            body = f'{{"type":"Book","number":{number}}}'.encode()
            await nats_bus.mail.post("in", Address("ledger", key), body, {headers.ID: f"{key}.{number}"})
    for _ in range(KILLS):
        async with running(nats_server, app_name, witness) as process:
            await lines(process, chance.randrange(len(LEDGERS) * STEPS_EACH))
    async with running(nats_server, app_name, witness):
        for key in LEDGERS:
            assert (
                await ask(nats_bus, "ledger", key, b'{"type":"Numbers"}')
                == str(list(range(EACH))).replace(" ", "").encode()
            )
        while await total(nats_bus) < len(LEDGERS) * EACH:
            pass
        assert await total(nats_bus) == len(LEDGERS) * EACH
    stored = await recorded_steps(nats_bus)
    assert len(stored) == len(LEDGERS) * EACH * STEPS_EACH
    ran: Counter[str] = Counter()
    for line in witness.read_text().splitlines():
        time_ns, what = line.split(" ", 1)
        ran[what] += 1
        assert int(time_ns) < stored[what], f"{what} ran again after it was recorded"
    assert ran.keys() == stored.keys()
    assert ran.total() <= len(stored) + KILLS * len(LEDGERS) * STEPS_EACH


async def test_of_two_processes_the_later_one_goes_on_and_the_earlier_stands_by(
    nats_server: EmbeddedServer, nats_bus: Bus, app_name: str, tmp_path: Path
) -> None:
    witness = tmp_path / "witness"
    async with running(nats_server, app_name, witness) as first:
        assert await ask(nats_bus, "ledger", "l0", b'{"type":"Book","number":0}') == b"3"
        await lines(first, STEPS_EACH)
        async with running(nats_server, app_name, witness) as second:
            for number in range(1, 5):
                assert (
                    await ask(nats_bus, "ledger", "l0", f'{{"type":"Book","number":{number}}}'.encode())
                    == str(3 * number + 3).encode()
                )
            await lines(second, 4 * STEPS_EACH)
    assert len(witness.read_text().splitlines()) == 5 * STEPS_EACH


async def test_a_process_that_was_stopped_while_another_took_over_changes_nothing_when_it_goes_on(
    nats_server: EmbeddedServer, nats_bus: Bus, app_name: str, tmp_path: Path
) -> None:
    """The first one holds its actors and its mail, and believes that they are its own."""
    witness = tmp_path / "witness"
    async with running(nats_server, app_name, witness) as first:
        assert await ask(nats_bus, "ledger", "l0", b'{"type":"Book","number":0}') == b"3"
        asking = asyncio.create_task(ask(nats_bus, "ledger", "l0", b'{"type":"Book","number":1}'))
        await lines(first, STEPS_EACH + 1)
        first.send_signal(signal.SIGSTOP)
        async with running(nats_server, app_name, witness):
            assert await asking == b"6"
            assert await ask(nats_bus, "ledger", "l0", b'{"type":"Book","number":2}') == b"9"
            first.send_signal(signal.SIGCONT)
            for number in range(3, 8):
                await ask(nats_bus, "ledger", "l0", f'{{"type":"Book","number":{number}}}'.encode())
            assert await ask(nats_bus, "ledger", "l0", b'{"type":"Numbers"}') == b"[0,1,2,3,4,5,6,7]"
            while await total(nats_bus) < 8:
                pass
            assert await total(nats_bus) == 8
