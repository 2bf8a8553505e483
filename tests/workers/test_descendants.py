"""Whatever dies, nothing that a process has started is left: not what called setsid, nor what forked twice."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
from tests.workers.conftest import Witness
from tests.workers.observed import Observed

from regrow.supervisor import Supervisor
from regrow.supervisor.exits import Killed
from regrow.workers import Process

APPS = Path(__file__).parent / "apps"
GONE_S = 2.0


def family(witness: Witness, *words: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", str(APPS / "family.py"), str(witness.path), *words)


async def wait_gathered(witness: Witness, count: int) -> tuple[dict[str, list[int]], list[asyncio.Event]]:
    """The pids that each one named, and the events of their deaths."""
    pids: dict[str, list[int]] = {}
    deaths: list[asyncio.Event] = []
    for _ in range(count):
        said, gone = await witness.wait_said()
        name, *numbers = said.split()
        pids[name] = list(map(int, numbers))
        deaths.append(gone)
    return pids, deaths


async def wait_all(deaths: list[asyncio.Event]) -> None:
    async with asyncio.timeout(GONE_S):
        for death in deaths:
            await death.wait()


def exists(pid: int) -> bool:
    """Whether there is such a process, a zombie included."""
    return Path(f"/proc/{pid}").exists()


@pytest.mark.asyncio
async def test_nothing_is_left_two_seconds_after_the_host_was_killed(witness: Witness) -> None:
    host = await asyncio.create_subprocess_exec(sys.executable, str(APPS / "host.py"), *family(witness, "scrubbed"))
    pids, deaths = await wait_gathered(witness, 5)
    assert pids.keys() == {"program", "child", "session", "daemon", "scrubbed"}
    host.kill()
    await wait_all(deaths)
    await host.wait()


@pytest.mark.asyncio
@pytest.mark.parametrize("victims", ["outer", "inner"])
async def test_nothing_is_left_when_a_guard_is_killed(victims: str, witness: Witness) -> None:
    child = Observed(Process("family", family(witness, "scrubbed")))
    async with Supervisor("root", children=[child.child(restart="temporary")]):
        pids, deaths = await wait_gathered(witness, 5)
        _, inner, outer = pids["program"]
        os.kill(outer if victims == "outer" else inner, signal.SIGKILL)
        await wait_all(deaths)
        assert isinstance(await child.ends.get(), Killed)
        assert not exists(outer)


@pytest.mark.asyncio
async def test_what_bears_the_mark_or_is_in_the_session_is_killed_when_both_guards_are(witness: Witness) -> None:
    child = Observed(Process("family", family(witness)))
    async with Supervisor("root", children=[child.child(restart="temporary")]):
        pids, deaths = await wait_gathered(witness, 4)
        _, inner, outer = pids["program"]
        os.kill(outer, signal.SIGSTOP)  # so that it does nothing between the two
        os.kill(inner, signal.SIGKILL)
        os.kill(outer, signal.SIGKILL)
        await wait_all(deaths)
        assert await child.ends.get() == Killed(9)


@pytest.mark.asyncio
async def test_what_a_program_leaves_behind_is_killed_when_it_ends(witness: Witness) -> None:
    child = Observed(Process("family", family(witness, "scrubbed")))
    async with Supervisor("root", children=[child.child(restart="temporary")]):
        pids, deaths = await wait_gathered(witness, 5)
        os.kill(pids["program"][0], signal.SIGTERM)
        await wait_all(deaths)
        assert await child.ends.get() == Killed(signal.SIGTERM)


@pytest.mark.asyncio
async def test_a_stopped_child_is_gone_with_all_its_family_when_the_stop_returns(witness: Witness) -> None:
    child = Observed(Process("family", family(witness, "scrubbed")))
    async with Supervisor("root", children=[child.child()]):
        pids, _ = await wait_gathered(witness, 5)
    assert not [pid for numbers in pids.values() for pid in numbers if exists(pid)]
