"""``regrow dev`` as somebody meets it who has nothing but a NATS client."""

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import nats
import pytest

from regrow.agents.coordinator import Coordinator
from regrow.agents.researcher import Researcher
from regrow.cli.commands.dev import asking

Start = Callable[..., subprocess.Popen[str]]


async def added(url: str, amount: int) -> bytes:
    client = await nats.connect(url)
    try:
        answer = await client.request("rg.hello.ask.counter.a", b'{"type":"Add","amount":%d}' % amount, timeout=10)
        return answer.data
    finally:
        await client.close()


@pytest.mark.asyncio
async def test_the_example_counts_for_any_nats_client_and_over_restarts(start: Start, hello: Path) -> None:
    for total in (b"2", b"4"):
        dev = start("dev", "hello:app", "--port", "0", "--durability", "process")
        assert dev.stderr is not None
        first, second = dev.stderr.readline(), dev.stderr.readline()
        url = first.split()[3].rstrip(";")
        assert first == f"hello runs on {url}; its log is kept in .regrow/dev/hello; Ctrl-C stops it\n"
        assert second == f'  nats --server {url} req rg.hello.ask.counter.KEY \'{{"type":"Add","amount":…}}\'\n'
        assert await added(url, 2) == total
        dev.send_signal(signal.SIGINT)
        assert dev.wait() == 130


def test_an_ask_for_a_shell_names_the_fields() -> None:
    assert asking("food", Coordinator) == (
        'rg.food.ask.coordinator.KEY \'{"type":"Index","source":…,"products_max":…,"lot_size":…,"lots_at_once":…}\''
    )
    assert asking("food", Researcher) == 'rg.food.ask.researcher.KEY \'{"type":"Answer","question":…}\''
