"""The command as a person has it: processes of their own, in a directory of their own, without the settings of this one."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

TIMEOUT_S = 50.0

Start = Callable[..., subprocess.Popen[str]]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environment() -> dict[str, str]:
    """The environment without what would choose a server, a model or a log level."""
    chosen = {name: value for name, value in os.environ.items() if not name.startswith(("NATS_", "REGROW_", "OPENAI_"))}
    return {**chosen, "COLUMNS": "200"}


@pytest.fixture
def start(tmp_path: Path, environment: dict[str, str]) -> Iterator[Start]:
    """Starts the command; what still runs at the end of the test is killed."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: object, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "regrow.cli", *map(str, arguments)],
            cwd=tmp_path,
            env={**environment, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def regrow(start: Start) -> Run:
    """Runs the command to its end."""

    def run(*arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        process = start(*arguments, env=env)
        out, err = process.communicate(timeout=TIMEOUT_S)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return run


@pytest.fixture
def sentence(regrow: Run) -> Callable[..., str]:
    """Runs a command that has to fail, and gives the one sentence that it says about it."""

    def run(*arguments: object, code: int = 1, env: dict[str, str] | None = None) -> str:
        ended = regrow(*arguments, env=env)
        assert ended.returncode == code, ended.stderr
        assert "Traceback" not in ended.stderr
        said = [line for line in ended.stderr.splitlines() if line.startswith("regrow: ")]
        assert len(said) == 1, ended.stderr
        return said[0]

    return run


@pytest.fixture
def rows(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a catalogue, its text as it stands."""

    def write(text: str) -> Path:
        path = tmp_path / "rows.csv"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def hello(tmp_path: Path) -> Path:
    """The example, where the command looks for it."""
    example = Path(__file__).parents[2] / "examples" / "hello.py"
    copy = tmp_path / "hello.py"
    copy.write_text(example.read_text())
    return copy
