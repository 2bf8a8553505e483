"""What operators type, against the store of ``regrow dev`` and against a server that runs."""

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import nats
import pytest

from regrow.cli.operators import duration
from regrow.cli.parser import parser

Start = Callable[..., subprocess.Popen[str]]
Run = Callable[..., subprocess.CompletedProcess[str]]
Sentence = Callable[..., str]

FAST = ("--durability", "process")
STORE = ("--store", ".regrow/dev/hello")

pytestmark = pytest.mark.usefixtures("hello")


@pytest.fixture
def other(hello: Path) -> None:
    """The example under another name."""
    hello.with_name("other.py").write_text(hello.read_text().replace('System("hello"', 'System("other"'))


class Dev:
    """The example, hosted by ``regrow dev``."""

    def __init__(self, start: Start, *arguments: object) -> None:
        self._process = start("dev", "hello:app", "--port", "0", *FAST, *arguments)
        assert self._process.stderr is not None
        line = self._process.stderr.readline()
        assert line.startswith("hello runs on "), line
        self.url = line.split()[3].rstrip(";")

    async def ask(self, key: str, body: bytes) -> tuple[bytes, str]:
        """The reply, and the error in its header."""
        client = await nats.connect(self.url)
        try:
            answer = await client.request(f"rg.hello.ask.counter.{key}", body, timeout=10)
            return answer.data, (answer.headers or {}).get("Nats-Service-Error", "")
        finally:
            await client.close()

    async def tell(self, key: str, body: bytes) -> None:
        client = await nats.connect(self.url)
        try:
            await client.request(f"rg.hello.in.counter.{key}", body, timeout=10)
        finally:
            await client.close()

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)
        assert self._process.wait() == 130


def add(amount: int) -> bytes:
    return b'{"type":"Add","amount":%d}' % amount


def document(ended: subprocess.CompletedProcess[str]) -> dict[str, object]:
    assert ended.returncode == 0, ended.stderr
    found: dict[str, object] = json.loads(ended.stdout)
    assert found.pop("v") == 1
    return found


@pytest.mark.asyncio
async def test_an_actor_is_shown_and_deleted_while_its_node_runs(start: Start, regrow: Run, sentence: Sentence) -> None:
    dev = Dev(start)
    here = ("--nats", dev.url)
    await dev.ask("u7-a", add(2))
    await dev.ask("u7-b", add(3))
    assert regrow("actors", "list", "hello:app", *here).stdout == "counter/u7-a\ncounter/u7-b\n"
    shown = regrow("actors", "show", "hello:app", "counter", "u7-a", *here).stdout
    assert "actor          counter/u7-a\n" in shown
    assert "amount" not in shown
    assert "total" not in shown
    whole = regrow("actors", "show", "hello:app", "counter", "u7-a", "--payload", *here).stdout
    assert 'state          {"total": 2}' in whole
    assert "there is no actor counter/x" in sentence("actors", "delete", "hello:app", "counter", "x", *here)
    assert "hello has no actors of kind 'x'; its kinds are: counter" in sentence(
        "actors", "delete", "hello:app", "x", "x", *here
    )
    assert regrow("actors", "delete", "hello:app", "counter", "u7-a", *here).stdout == (
        "counter/u7-a is deleted, with 0 dead letters\n"
    )
    assert (await dev.ask("u7-a", add(1)))[0] == b"1"
    never = regrow("actors", "purge", "hello:app", "--kind", "counter", "--idle", "90d", "--dry-run", *here)
    assert (never.returncode, never.stdout) == (0, "")
    purged = document(regrow("actors", "purge", "hello:app", "--prefix", "u7-", "--json", *here))
    assert purged == {"deleted": 2, "waiting": 0, "dead_letters": 0}
    assert (await dev.ask("u7-b", add(1)))[0] == b"1"


@pytest.mark.asyncio
async def test_dead_letters_are_listed_shown_replayed_and_dropped(
    start: Start, regrow: Run, sentence: Sentence
) -> None:
    dev = Dev(start)
    here = ("--nats", dev.url)
    await dev.tell("a", b"nonsense")
    while not (listed := regrow("dead-letters", "list", "hello:app", *here).stdout):
        pass
    assert "counter/a  undecodable: " in listed
    assert regrow("dead-letters", "list", "hello:app", "--kind", "other", *here).stdout == ""
    shown = regrow("dead-letters", "show", "hello:app", "1", *here).stdout
    assert shown.startswith("dead letter 1 of counter/a, ")
    assert '"nonsense"  (text)' in shown
    assert (
        regrow("dead-letters", "replay", "hello:app", "1", *here).stdout == "dead letter 1 of counter/a is replayed\n"
    )
    while '"sequence":2' not in regrow("dead-letters", "list", "hello:app", "--json", *here).stdout:
        pass
    dropped = document(regrow("dead-letters", "drop", "hello:app", "2", "--json", *here))
    assert dropped == {"sequence": 2, "kind": "counter", "key": "a", "dropped": True}
    for action in ("show", "replay", "drop"):
        assert "there is no dead letter 2 (any more)" in sentence("dead-letters", action, "hello:app", "2", *here)
    assert "give --kind as well" in sentence("dead-letters", "list", "hello:app", "--key", "a", *here)


@pytest.mark.asyncio
async def test_a_backup_is_restored_to_another_store(start: Start, regrow: Run, sentence: Sentence) -> None:
    dev = Dev(start)
    await dev.ask("a", add(2))
    assert "32 of its 32 shards are held" in sentence("backup", "hello:app", "b1", "--nats", dev.url)
    dev.stop()
    copied = regrow("backup", "hello:app", "b2", *STORE)
    assert copied.stdout.startswith("22 streams with "), copied.stderr
    assert "RG_hello_EVT_0 is on this server already" in sentence("restore", "hello:app", "b2", *STORE)
    assert "it has no manifest.json" in sentence("restore", "hello:app", "b3", "--store", "other")
    restored = document(regrow("restore", "hello:app", "b2", "--store", "other", "--json"))
    assert restored["app"] == "hello"
    again = Dev(start, "--store", "other")
    assert (await again.ask("a", add(5)))[0] == b"7"


@pytest.mark.asyncio
async def test_a_store_that_is_not_served_takes_orders(start: Start, regrow: Run, sentence: Sentence) -> None:
    dev = Dev(start)
    await dev.ask("a", add(2))
    assert "is held by process" in sentence("actors", "list", "hello:app", *STORE)
    dev.stop()
    ordered = regrow("actors", "delete", "hello:app", "counter", "a", *STORE)
    assert ordered.stdout == "counter/a will be deleted as soon as a node serves it; 0 dead letters are dropped\n"
    assert "was not carried out within 0.1 s" in sentence(
        "actors", "delete", "hello:app", "counter", "a", "--wait", "0.1s", *STORE
    )
    again = Dev(start)
    while not document(regrow("actors", "show", "hello:app", "counter", "a", "--json", "--nats", again.url))["deleted"]:
        pass
    assert (await again.ask("a", add(1)))[0] == b"1"


@pytest.mark.asyncio
async def test_streams_are_made_where_they_are_missing_and_compared(
    start: Start, regrow: Run, sentence: Sentence, other: None
) -> None:
    dev = Dev(start)
    here = ("--nats", dev.url)
    assert "22 of 22 streams are missing; regrow streams create" in sentence("streams", "check", "other:app", *here)
    assert "regrow streams create" in sentence("actors", "list", "other:app", *here)
    made = regrow("streams", "create", "other:app", *here)
    assert (made.returncode, made.stdout.count("created\n")) == (0, 22), made.stderr
    client = await nats.connect(dev.url)
    await client.jetstream().delete_stream("RG_other_DLQ")
    again = regrow("streams", "create", "other:app", *here)
    assert (again.stdout.count("created\n"), again.stdout.count("there\n")) == (1, 21)
    info = json.loads((await client.request("$JS.API.STREAM.INFO.RG_other_IN", b"")).data)
    await client.request(
        "$JS.API.STREAM.UPDATE.RG_other_IN", json.dumps({**info["config"], "max_bytes": 1 << 20}).encode()
    )
    await client.close()
    assert "RG_other_IN differs in max_bytes" in sentence("streams", "check", "other:app", *here)
    assert "nodes do not start on them" in sentence("streams", "create", "other:app", *here)
    assert document(regrow("streams", "check", "hello:app", "--json", *here))["app"] == "hello"


def test_a_new_store_gets_its_streams_and_is_then_in_use(regrow: Run, sentence: Sentence) -> None:
    assert "nothing is kept in s" in sentence("streams", "check", "hello:app", "--store", "s")
    assert not Path("s").exists()
    assert regrow("streams", "create", "hello:app", "--store", "s").returncode == 0
    assert regrow("streams", "check", "hello:app", "--store", "s").returncode == 0


def test_what_would_delete_everybody_is_not_taken(sentence: Sentence) -> None:
    assert "give --prefix, or --kind and --idle" in sentence("actors", "purge", "hello:app", "--kind", "counter")
    assert "give --kind as well" in sentence("actors", "purge", "hello:app", "--idle", "1d")


@pytest.mark.parametrize(("text", "seconds"), [("90d", 7_776_000), ("12h", 43_200), ("1.5m", 90), ("0s", 0)])
def test_times_are_typed_with_their_unit(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize(
    "arguments",
    [
        ["actors", "purge", "hello:app", "--idle", "90"],
        ["dead-letters", "show", "hello:app", "x"],
        ["dead-letters", "hello:app"],
        ["streams", "check", "hello:app", "--nats", "nats://x", "--store", "y"],
    ],
)
def test_what_makes_no_sense_is_answered_with_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(arguments)
    assert "error" in capsys.readouterr().err
