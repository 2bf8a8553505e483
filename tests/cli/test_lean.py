"""What a command does not load before it begins."""

import subprocess
import sys
from collections.abc import Callable

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_a_command_loads_no_rich_for_the_sake_of_its_log(regrow: Run) -> None:
    ended = regrow("run", "nowhere:app", env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert "regrow: there is no module 'nowhere'" in ended.stderr
    imported = {
        line.rpartition("|")[2].strip() for line in ended.stderr.splitlines() if line.startswith("import time:")
    }
    assert "structlog.dev" in imported
    assert not [name for name in imported if name.startswith(("rich.", "pygments"))]


def test_rich_can_be_had_afterwards() -> None:
    pytest.importorskip("rich", reason="the cli extra is not installed")
    script = (
        "from regrow.cli.lean import load_structlog; load_structlog(); load_structlog(); "
        "import sys, structlog, rich.console; sys.exit(structlog.dev.rich is not None)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
