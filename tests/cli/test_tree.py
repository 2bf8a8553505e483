"""What is typed to see and steer an application that runs: ``regrow tree``, ``regrow actors suspend``, ``resume``, ``trace``."""

import json
import subprocess
from collections.abc import Callable
from typing import Any

import msgspec
import nats
import pytest

from regrow.actors.insight import Branch, KindSeen, NodeSeen, Seen, Wait
from regrow.actors.trace import Traced
from regrow.cli.commands.tree import described
from regrow.cli.steering import line

Start = Callable[..., subprocess.Popen[str]]
Run = Callable[..., subprocess.CompletedProcess[str]]
Sentence = Callable[..., str]

pytestmark = pytest.mark.usefixtures("hello")


@pytest.mark.asyncio
async def test_a_running_application_is_seen_and_one_of_its_actors_steered(start: Start, regrow: Run) -> None:
    dev = start("dev", "hello:app", "--port", "0", "--durability", "process")
    assert dev.stderr is not None
    url = dev.stderr.readline().split()[3].rstrip(";")
    here = ("--nats", url)

    seen = json.loads(regrow("tree", "hello:app", "--json", *here).stdout)
    assert seen.keys() == {"v", "app", "nodes", "silent", "waits", "cycles"}
    (node,) = seen["nodes"]
    assert (node["pid"], node["tree"]["name"], seen["silent"], seen["cycles"]) == (dev.pid, "hello", [], [])
    assert {"name", "type", "strategy", "state", "restarts", "cause", "since_ms", "detail", "children"} <= node[
        "tree"
    ].keys()

    suspended = regrow("actors", "suspend", "hello:app", "counter", "a", *here)
    assert suspended.stdout == "counter/a is suspended: its mail waits until it is resumed, or its node ends\n"
    client = await nats.connect(url)
    await client.request("rg.hello.in.counter.a", b'{"type":"Add","amount":2}', timeout=10)
    while "busiest   counter/a (1)" not in (said := regrow("tree", "hello:app", *here).stdout):
        pass
    assert f", process {dev.pid}, serves shards 0-31\n" in said
    assert "\n├─ gateway  running, since " in said
    assert "counter          0          0          0          1          0          1\n" in said

    tracing = start("actors", "trace", "hello:app", "counter", "a", "--json", "--time", "30s", *here)
    assert tracing.stderr is not None
    assert tracing.stdout is not None
    assert tracing.stderr.readline() == "counter/a is traced\n"
    again = json.loads(regrow("actors", "resume", "hello:app", "counter", "a", "--json", *here).stdout)
    assert again == {"v": 1, "kind": "counter", "key": "a", "suspended": False, "changed": True}
    told = [json.loads(tracing.stdout.readline()) for _ in range(3)]
    assert [each["what"] for each in told] == ["taken", "began", "recorded"]
    assert told[0]["type"] == "Add"
    await client.close()


def test_where_nothing_runs_there_is_nothing_to_see_or_steer(sentence: Sentence) -> None:
    assert "no node runs: look at it where its nodes run, with --nats" in sentence("tree", "hello:app", "--store", "s")


def branch(name: str, *children: Branch, **more: Any) -> Branch:
    plain = Branch(name, "worker", None, "running", 0, None, 1_000, {}, children)
    return msgspec.structs.replace(plain, **more)


def test_a_tree_is_drawn_with_what_it_says() -> None:
    tree = branch(
        "hello",
        branch("actors", branch("x"), hidden=2),
        branch("gateway", state="restarting", restarts=3, cause="was killed by SIGKILL", detail={"mail": 7}),
        strategy="rest_for_one",
    )
    node = NodeSeen("n1", "host", 7, (0, 1, 2, 5), tree, (KindSeen("counter", active=1),), (), (), 4, ())
    waits = (Wait("a/1", "b/2", "/ask/0", 1_000, 31_000, suspended=True),)
    assert list(described(Seen("hello", (node,), (3, 4), waits, (("a/1", "b/2"),)), 6_500)) == [
        "node n1 on host, process 7, serves shards 0-2, 5",
        "hello  running, rest_for_one, since 1970-01-01 00:00:01Z",
        "├─ actors  running, since 1970-01-01 00:00:01Z",
        "│  ├─ x  running, since 1970-01-01 00:00:01Z",
        "│  └─ 2 more",
        "└─ gateway  restarting, since 1970-01-01 00:00:01Z, 3 restarts, the last one was killed by SIGKILL, mail 7",
        "kind        active    waiting     parked  suspended       idle       mail",
        "counter          1          0          0          0          0          0",
        "",
        "silent    2 shards are served by no node that answered: 3-4",
        "waits     a/1 -> b/2 for 5.5 s, 24.5 s left, unloaded, step /ask/0",
        "waits     4 more",
        "cycle     a/1 -> b/2 -> a/1: none of them can answer before an ask times out",
    ]


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (Traced(1_500, "taken", type="Add", id="m1"), "00:00:01.500  taken       Add message m1"),
        (Traced(0, "began", id="m1", attempt=2, failure="defect"), "00:00:00.000  began       attempt 2 at message m1, failed: defect"),
        (Traced(0, "step ended", tool="t", step=3, took_ms=1.5), "00:00:00.000  step ended  t #3 after 1.5 ms"),
        (Traced(0, "lost", lost=1_200), "00:00:00.000  lost        1,200 things came too fast to be told"),
    ],
)  # fmt: skip
def test_what_an_actor_does_is_told_in_a_line(told: Traced, said: str) -> None:
    assert line(told) == said
