"""Tool agents, in place and in processes of their own, which die and hang."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from regrow.actors import (
    Actor,
    DefinitionError,
    Message,
    Node,
    OutcomeUnknown,
    Retry,
    System,
    command,
    current_step,
    load_system,
    tool,
)
from regrow.agents import ToolAgent
from regrow.bus import Bus, EmbeddedServer, MemoryBus, encode, open_bus
from regrow.bus.connection import ServerAddress, connect
from regrow.supervisor import Backoff

APPS = Path(__file__).parent / "apps"


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch) -> System:
    """The application, imported where its processes find it too."""
    monkeypatch.chdir(APPS)
    monkeypatch.syspath_prepend(str(APPS))
    return load_system("box:app")


@asynccontextmanager
async def hosted(system: System, store: Path) -> AsyncGenerator[Node]:
    """The system on a server of its own."""
    async with (
        EmbeddedServer(store, "process") as server,
        on_server(server.url, system.name, create=True) as bus,
        system.host(bus, url=server.url) as node,
    ):
        yield node


@asynccontextmanager
async def on_server(url: str, app: str, *, create: bool = False) -> AsyncGenerator[Bus]:
    """An application's bus."""
    client = await connect(ServerAddress(url=url), name="test")
    try:
        async with open_bus(client, app, create=create) as bus:
            yield bus
    finally:
        await client.close()


async def ask(bus: Bus, key: str, **message: object) -> Any:
    """What the actor answers to a plain request."""
    return msgspec.json.decode((await bus.request(f"rg.box.ask.caller.{key}", encode(message), timeout_s=20)).body)


@contextmanager
def watched(pid: int) -> Generator[int]:
    """A descriptor that can be read once the process is gone, reaped or not."""
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def gone(descriptor: int, *, within_s: float) -> bool:
    return bool(select.select([descriptor], [], [], within_s)[0])


@pytest.mark.asyncio
async def test_a_process_of_tools_is_restarted_when_killed_survives_what_it_cannot_send_and_ends_with_its_system(
    box: System, tmp_path: Path
) -> None:
    async with hosted(box, tmp_path / "store") as node:
        first = await ask(node.bus, "a", type="Where")
        assert first != os.getpid()

        second = await ask(
            node.bus, "b", type="Die", flag=str(tmp_path / "flag")
        )  # killed in the call, which is made again
        assert second not in (first, os.getpid())

        failed = await ask(node.bus, "c", type="Much", size=9_000_000)
        assert "does not fit the limit of 8388608" in failed["message"]
        assert await ask(node.bus, "d", type="Where") == second

        with watched(second) as process:
            await node.supervisor.stop()
            assert gone(process, within_s=10)


@pytest.mark.asyncio
async def test_a_process_whose_owner_is_killed_ends_even_while_a_tool_blocks_it(box: System, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    dev = [sys.executable, "-m", "regrow.cli", "dev", "box:app", "--port", "0", "--durability", "process"]
    dev += ["--store", str(tmp_path / "store")]
    with subprocess.Popen(dev, cwd=APPS, stderr=subprocess.PIPE, text=True) as owner:  # noqa: ASYNC220 # it is killed
        try:
            assert owner.stderr is not None
            url = (await asyncio.to_thread(owner.stderr.readline)).split()[3].rstrip(";")
            async with on_server(url, box.name) as bus:
                await bus.publish("rg.box.in.caller.a", encode({"type": "Hang", "pipe": str(pipe)}))
                pid = int(await asyncio.to_thread(pipe.read_text))
            with watched(pid) as process:
                owner.send_signal(signal.SIGKILL)
                assert gone(process, within_s=20)
        finally:
            owner.kill()


@tool
async def double(number: int) -> int:
    return 2 * number


class Gate:
    """Holds the calls of `slow` up, and counts them."""

    entered = asyncio.Event()
    opened = asyncio.Event()
    began: list[int] = []


@tool(timeout_s=30.0)
async def slow(number: int) -> int:
    Gate.began.append(number)
    Gate.entered.set()
    await Gate.opened.wait()
    return number


@tool(timeout_s=0.0)
async def late(number: int) -> int:
    Gate.began.append(number)
    return number


@pytest.fixture
def gate() -> type[Gate]:
    Gate.entered, Gate.opened, Gate.began = asyncio.Event(), asyncio.Event(), []
    return Gate


@pytest.mark.asyncio
async def test_calls_beyond_the_size_wait_and_those_that_wait_at_the_end_are_dropped(gate: type[Gate]) -> None:
    bus = MemoryBus("t")
    subject = bus.subjects.tool("slow")
    async with asyncio.TaskGroup() as callers:
        async with ToolAgent("one", [slow, double], size=1).serve(bus):
            first = callers.create_task(bus.request(subject, b'{"number":1}', timeout_s=5))
            second = callers.create_task(bus.request(subject, b'{"number":2}', timeout_s=5))
            quick = callers.create_task(bus.request(bus.subjects.tool("double"), b'{"number":4}', timeout_s=5))
            await gate.entered.wait()
            for waiting in (second, quick):
                waiting.cancel()
            asyncio.get_running_loop().call_soon(gate.opened.set)
        assert (await first).body == b"1"
    assert gate.began == [1]


@pytest.mark.asyncio
async def test_a_call_that_nobody_waits_for_any_more_does_not_run(gate: type[Gate]) -> None:
    bus = MemoryBus("t")
    async with ToolAgent("one", [late, double]).serve(bus):
        await bus.publish(bus.subjects.tool("late"), b'{"number":1}')
        assert (await bus.request(bus.subjects.tool("double"), b'{"number":4}', timeout_s=5)).body == b"8"
    assert gate.began == []


@pytest.mark.asyncio
async def test_a_call_with_crafted_headers_is_refused_and_the_next_one_served() -> None:
    bus = MemoryBus("t")
    subject = bus.subjects.tool("double")
    async with ToolAgent("one", [double]).serve(bus):
        refused = await bus.request(subject, b'{"number":1}', {"Rg-Actor": "=zz", "Rg-Step": "k"}, timeout_s=5)
        assert refused.headers["Nats-Service-Error-Code"] == "400"
        await bus.publish(subject, b"\xff")
        assert (await bus.request(subject, b'{"number":4}', timeout_s=5)).body == b"8"


class Buy(Message[str]):
    """Have something bought by a tool that never answers."""


class Try(Message[list[tuple[str, int]]]):
    """Have a tool tell what it knows of its step, attempt by attempt."""


@tool(effect="once", timeout_s=0.05)
async def buy(order: str) -> str:
    Gate.began.append(1)
    await Gate.opened.wait()
    return order


@tool(retry=Retry(attempts=2, backoff=Backoff(first_s=0.0)))
async def tell() -> list[tuple[str, int]]:
    context = current_step()
    assert context is not None
    Told.append((context.idempotency_key, context.attempt))
    if len(Told) == 1:
        raise ConnectionError("reset")
    return Told


Told: list[tuple[str, int]] = []


class Shopper(Actor):
    @command
    async def buy(self, msg: Buy) -> str:
        try:
            return await buy("a")
        except OutcomeUnknown as unknown:
            return unknown.why

    @command
    async def attempt(self, msg: Try) -> list[tuple[str, int]]:
        return await tell()


@pytest.mark.asyncio
async def test_an_agent_that_does_not_answer_leaves_the_outcome_of_a_tool_that_runs_once_unknown(
    gate: type[Gate],
) -> None:
    system = System("t", actors=[Shopper], children=[ToolAgent("far", [buy])]).checked()
    async with system.host(MemoryBus("t")) as node:
        assert "no answer" in await node.ref(Shopper, "a").ask(Buy())
        gate.opened.set()
    assert gate.began == [1]


@pytest.mark.asyncio
async def test_a_tool_knows_its_idempotency_key_and_its_attempt_wherever_it_runs() -> None:
    Told.clear()
    system = System("t", actors=[Shopper], children=[ToolAgent("far", [tell])]).checked()
    async with system.host(MemoryBus("t")) as node:
        (first_key, first), (second_key, second) = await node.ref(Shopper, "a").ask(Try())
    assert (first, second) == (1, 2)
    assert first_key == second_key


def test_an_agent_runs_at_least_one_call_at_once() -> None:
    with pytest.raises(ValueError, match="at least one call"):
        ToolAgent("none", [double], size=0)


def test_an_agent_in_a_process_needs_the_import_path_of_its_application() -> None:
    agent = ToolAgent("far", [double], process=True)
    with pytest.raises(DefinitionError, match=r"needs the application's import path: give it, System\(\.\.\., path="):
        agent.child_spec(Node(System("t", children=[agent]), MemoryBus("t"), ""))


def test_a_process_asked_for_an_unknown_agent_says_which_there_are() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "regrow.agents.tool_process", "box:app", "nobody"],
        cwd=APPS,
        stdin=subprocess.PIPE,
        capture_output=False,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (1, "box:app has no tool agent 'nobody'; it has outside\n")
