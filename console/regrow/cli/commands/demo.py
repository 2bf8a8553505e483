"""``regrow demo``: four tiers of agents index a real catalogue; killed in the middle, they regrow and finish.

This process is a small parent: the work is done by a worker process of its own, which it starts again whenever it dies by
SIGKILL, whoever sent it.
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from regrow.actors.witness import sightings
from regrow.agents.usda import fetch_usda, sample_path
from regrow.cli.demo_worker import QUESTIONS, work
from regrow.cli.failures import CommandFailed
from regrow.cli.food_run import model_line, planned
from regrow.cli.progress import leave_torn_bar
from regrow.cli.run_store import ALL, Store
from regrow.cli.say import say

RESTARTS_MAX = 50


def run(chosen: argparse.Namespace) -> int:
    """Runs the demo, or its worker, and prints one document."""
    store = Store(chosen.store)
    if chosen.worker:
        return work(store, chosen)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the worker puts everything away first
    begin(store, chosen)
    started_ns = time.time_ns()
    try:
        restarts, spawned_ns = supervise(chosen, started_ns)
    except WorkerEnded as ended:
        if ended.code < 0:
            raise CommandFailed(f"{ended}; what it did is kept, the same command goes on from there") from None
        return ended.code
    result = json.loads(store.result.read_bytes())
    document: dict[str, Any] = {
        **result,
        "restarts": restarts,
        "recovery_ms": recovery_ms(store.witness, spawned_ns) if restarts else 0,
        "seconds": round((time.time_ns() - started_ns) / 1e9, 1),
    }
    store.finish()
    if chosen.json:
        print(json.dumps(document))
    else:
        print(summary(document))
    return 0 if holds(document) else 1


def begin(store: Store, chosen: argparse.Namespace) -> None:
    """Makes the store ready: an unfinished run is gone on with, a finished one is replaced."""
    if store.finished:
        store.clear()
    path = fetch_usda(Path(".regrow/usda")) if chosen.full else sample_path()
    plan = planned(path, ALL if chosen.full else chosen.products)
    unfinished = store.plan is not None
    store.begin(plan)
    if unfinished:
        say(f"an unfinished demo lies in {store.path}: going on with it")
    say(model_line())


def supervise(chosen: argparse.Namespace, started_ns: int) -> tuple[int, int]:
    """Keeps a worker running until it ends by itself; restarts so far, and when the last worker was started.

    Raises ``WorkerEnded`` when it fails, and ``CommandFailed`` when it is killed again and again.
    """
    restarts, spawned_ns = 0, started_ns
    kill = bool(chosen.kill)
    while (code := worker(chosen, kill=kill)) != 0:
        if code != -signal.SIGKILL:
            raise WorkerEnded(code)
        if restarts >= RESTARTS_MAX:
            raise CommandFailed(
                f"the demo's worker was killed {restarts + 1} times; what it did is kept, the same command goes on from there"
            )
        restarts, kill = restarts + 1, False
        leave_torn_bar()
        say("the worker was killed with SIGKILL; starting it again, it regrows from the log")
        spawned_ns = time.time_ns()
    return restarts, spawned_ns


class WorkerEnded(Exception):
    """The worker ended with this code and has said why; a negative one is the signal that ended it."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the demo's worker ended with code {code}")
        self.code = code


def worker(chosen: argparse.Namespace, *, kill: bool) -> int:
    """One worker process, from start to end; it ends with this process, by the pipe that it reads."""
    command = [sys.executable, "-m", "regrow.cli", "demo", "--worker", "--store", str(chosen.store)]
    command += ["--durability", chosen.durability, *(["--kill"] if kill else [])]
    # In a session of its own: Ctrl-C is this process's to judge.
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as process:
        try:
            return process.wait()
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait()


def recovery_ms(witness: Path, spawned_ns: int) -> int:
    """From the start of the last worker to the first step that ran in it or in a process of its own.

    A tool's process outlives its killed worker by a moment, in which it may begin a step.
    """
    seen = list(sightings(witness))
    before = {each.pid for each in seen if each.time_ns <= spawned_ns}
    first_ns = min((each.time_ns for each in seen if each.pid not in before), default=spawned_ns)
    return round((first_ns - spawned_ns) / 1e6)


def holds(document: dict[str, Any]) -> bool:
    """Whether the demo showed what it is there to show."""
    answers = document["recommendations"]
    return (
        document["steps_executed_again"] == 0
        and len(answers) == len(QUESTIONS)
        and all(each["constraint_ok"] for each in answers)
    )


def summary(document: dict[str, Any]) -> str:
    """The document for people."""
    kills = "1 kill" if document["restarts"] == 1 else f"{document['restarts']} kills"
    lines = [
        f"{document['products_indexed']:,} products indexed in {document['seconds']:g} s, {document['events']:,} records in the logs",
        f"{document['steps_run']:,} steps run, {document['steps_from_log']:,} answered from the log after {kills}",
        f"{document['steps_executed_again']} recorded steps executed again, {document['in_flight_repeated']} in flight at the kill repeated",
    ]
    if document["restarts"]:
        lines.append(f"first new step {document['recovery_ms']:,} ms after the new process was started")
    for each in document["recommendations"]:
        verdict = "checked against the columns" if each["constraint_ok"] else "WRONG by the columns"
        lines.append(f"  {each['question']}\n    -> {each['answer']}: {each['reason']} [{verdict}]")
    return "\n".join(lines)
