"""``regrow demo`` under whatever a person may do to it: its worker killed, its parent, both; told otherwise; told again."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from regrow.actors.witness import Sighting
from regrow.cli.commands.demo import holds, recovery_ms, summary

Start = Callable[..., subprocess.Popen[str]]
Run = Callable[..., subprocess.CompletedProcess[str]]

DEMO = ("demo", "--store", "d", "--durability", "process")


def until(process: subprocess.Popen[str], line: str) -> None:
    """Reads what it says until it has said this."""
    assert process.stderr is not None
    assert any(said.startswith(line) for said in process.stderr)


def worker_of(store: Path) -> int:
    """The process that holds the store."""
    return int((store / "nats" / "lock").read_text().split()[0])


def document(ended: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert ended.returncode == 0, ended.stderr
    shown: dict[str, Any] = json.loads(ended.stdout)
    assert shown["steps_executed_again"] == 0
    assert all(each["constraint_ok"] for each in shown["recommendations"])
    return shown


def test_a_demo_of_one_product_is_killed_and_finished_and_then_begun_afresh(regrow: Run) -> None:
    first = document(regrow(*DEMO, "--products", 1, "--kill", "--json"))
    assert (first["products_indexed"], first["restarts"], first["model"]) == (1, 1, "rules")
    again = regrow(*DEMO, "--products", 1, "--json")
    assert "unfinished" not in again.stderr
    afresh = document(again)
    assert (afresh["restarts"], afresh["steps_from_log"], afresh["in_flight_repeated"]) == (0, 0, 0)
    assert 0 < afresh["steps_run"] <= first["steps_run"]


def test_a_demo_that_is_killed_half_way_says_how_soon_it_went_on(regrow: Run) -> None:
    """One product may have all its steps behind it when the kill comes; of so many, some are always left."""
    killed = document(regrow(*DEMO, "--products", 60, "--kill", "--json"))
    assert (killed["products_indexed"], killed["restarts"], killed["steps_executed_again"]) == (60, 1, 0)
    assert killed["recovery_ms"] > 0
    assert killed["steps_from_log"] > 0


def test_what_a_tools_process_begins_after_the_kill_is_no_recovery(tmp_path: Path) -> None:
    witness, ms = tmp_path / "witness.jsonl", 1_000_000
    ran = [(1, 5), (2, 8), (2, 11), (3, 41), (4, 40)]  # 1 and 2 were there before the new worker's start, at 10
    witness.write_bytes(b"".join(msgspec.json.encode(Sighting("a", "s", pid, at * ms)) + b"\n" for pid, at in ran))
    assert recovery_ms(witness, 10 * ms) == 30
    assert recovery_ms(witness, 50 * ms) == 0


def test_a_demo_goes_on_after_any_death_with_no_recorded_step_run_again(
    start: Start, regrow: Run, tmp_path: Path
) -> None:
    demo = (*DEMO, "--products", 120)

    orphaned = start(*demo)
    until(orphaned, "products researched: ")
    orphaned.kill()
    orphaned.communicate()  # returns when the worker, which holds the same pipe, has ended too

    said = regrow(*DEMO, "--products", 119)
    assert said.returncode == 1
    assert said.stderr == "regrow: d holds a run over 120 products at most; choose another --store for this one\n"

    stopped = start(*demo)
    until(stopped, "products researched: ")
    stopped.send_signal(signal.SIGINT)
    _, last = stopped.communicate()
    assert stopped.returncode == 130
    assert last.endswith("regrow: stopped; nothing is lost, the same command goes on where it was\n")
    assert last.count("regrow: ") == 1

    both = start(*demo)
    until(both, "products researched: ")
    both.kill()
    os.kill(worker_of(tmp_path / "d"), signal.SIGKILL)
    both.communicate()

    survivor = start(*demo, "--json")
    until(survivor, "products researched: ")
    os.kill(worker_of(tmp_path / "d"), signal.SIGKILL)
    out, err = survivor.communicate()
    shown = document(subprocess.CompletedProcess(survivor.args, survivor.returncode, out, err))
    assert (shown["products_indexed"], shown["restarts"]) == (120, 1)
    assert "the worker was killed with SIGKILL; starting it again" in err


def example(**changed: object) -> dict[str, Any]:
    answer = {"question": "like X but less sodium", "answer": "Y", "reason": "less sodium", "constraint_ok": True}
    counts = {"products_indexed": 5_000, "seconds": 29.4, "events": 56_187, "steps_run": 65_221, "steps_from_log": 395}
    ends = {"restarts": 1, "steps_executed_again": 0, "in_flight_repeated": 7, "recovery_ms": 1_335}
    return {**counts, **ends, "recommendations": [answer] * 3, **changed}


def test_a_demo_fails_when_it_does_not_show_what_it_is_there_to_show() -> None:
    wrong = {"question": "", "answer": "", "reason": "", "constraint_ok": False}
    assert holds(example())
    assert not holds(example(steps_executed_again=1))
    assert not holds(example(recommendations=[]))
    assert not holds(example(recommendations=[wrong] * 3))


def test_the_summary_says_what_was_repeated_and_what_was_checked() -> None:
    lines = summary(example()).splitlines()
    assert lines[:4] == [
        "5,000 products indexed in 29.4 s, 56,187 records in the logs",
        "65,221 steps run, 395 answered from the log after 1 kill",
        "0 recorded steps executed again, 7 in flight at the kill repeated",
        "first new step 1,335 ms after the new process was started",
    ]
    assert lines[4:6] == ["  like X but less sodium", "    -> Y: less sodium [checked against the columns]"]
