"""Which event loop an application is hosted on, and that it is said."""

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from regrow.cli.parser import parser

Start = Callable[..., subprocess.Popen[str]]
Sentence = Callable[..., str]

FAST = ("--port", "0", "--durability", "process")


@pytest.fixture
def without(tmp_path: Path) -> dict[str, str]:
    """An environment in which uvloop is not installed."""
    folder = tmp_path / "without"
    folder.mkdir()
    (folder / "uvloop.py").write_text("raise ModuleNotFoundError(name='uvloop')")
    return {"PYTHONPATH": str(folder)}


@pytest.fixture
def telling(tmp_path: Path) -> Path:
    """An application that says, when it is hosted, what its event loop is."""
    app = tmp_path / "telling.py"
    app.write_text(
        "import asyncio, sys\n"
        "from regrow.actors import System\n"
        "from regrow.supervisor import ChildSpec, Start\n"
        "class Telling:\n"
        "    tools = ()\n"
        "    def child_spec(self, node):\n"
        "        async def run(start: Start) -> None:\n"
        "            print(type(asyncio.get_running_loop()).__module__.partition('.')[0], flush=True)\n"
        "            start.ready()\n"
        "            await asyncio.Event().wait()\n"
        "        return ChildSpec(id='telling', run=run)\n"
        "app = System('telling', children=[Telling()])\n"
    )
    return app


def test_both_ways_to_host_take_uvloop_where_it_is_unless_told() -> None:
    assert parser().parse_args(["run", "hello:app"]).loop == "auto"
    assert parser().parse_args(["dev", "hello:app"]).loop == "auto"


@pytest.mark.usefixtures("telling")
@pytest.mark.parametrize("command", ["dev", "run"])
def test_an_application_is_hosted_on_uvloop_and_says_so(start: Start, command: str) -> None:
    pytest.importorskip("uvloop", reason="the fast extra is not installed")
    hosting = [start("dev", "telling:app", *FAST)]
    lines = first_lines(hosting[0])
    if command == "run":
        hosting.append(start("run", "telling:app", "--nats", lines[0].split()[3].rstrip(";"), "--loop", "uvloop"))
        lines = first_lines(hosting[1])
    assert lines == [lines[0], "  on the event loop of uvloop\n"]
    assert [told(each) for each in hosting] == ["uvloop"] * len(hosting)
    for each in reversed(hosting):
        each.send_signal(signal.SIGINT)
        assert each.wait() == 130


@pytest.mark.usefixtures("telling")
def test_where_uvloop_is_missing_the_loop_of_asyncio_is_taken_and_the_extra_named(
    start: Start, without: dict[str, str]
) -> None:
    dev = start("dev", "telling:app", *FAST, env=without)
    said = "  on the event loop of asyncio; uvloop is faster: pip install 'regrow[fast]'\n"
    assert first_lines(dev)[1] == said
    assert told(dev) == "asyncio"


@pytest.mark.usefixtures("telling")
def test_the_loop_of_asyncio_can_be_asked_for(start: Start) -> None:
    dev = start("dev", "telling:app", "--loop", "asyncio", *FAST)
    assert first_lines(dev)[1] == "  on the event loop of asyncio\n"
    assert told(dev) == "asyncio"


@pytest.mark.usefixtures("telling")
@pytest.mark.parametrize("command", ["dev", "run"])
def test_uvloop_that_is_asked_for_and_missing_is_one_sentence(
    sentence: Sentence, without: dict[str, str], command: str
) -> None:
    assert sentence(command, "telling:app", "--loop", "uvloop", env=without) == (
        "regrow: uvloop is not installed; get it with: pip install 'regrow[fast]', or leave it out with --loop asyncio"
    )


def first_lines(hosting: subprocess.Popen[str]) -> list[str]:
    """What is said once the application runs; it has no actors that would be named."""
    assert hosting.stderr is not None
    return [hosting.stderr.readline(), hosting.stderr.readline()]


def told(hosting: subprocess.Popen[str]) -> str:
    """The event loop, by the application itself."""
    assert hosting.stdout is not None
    return hosting.stdout.readline().strip()
