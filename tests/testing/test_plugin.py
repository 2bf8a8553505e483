"""The plugin as a project has it that knows nothing of regrow's own tests: in a process of its own."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOOP_SCOPE = "asyncio_default_fixture_loop_scope=function"

USER_TEST = """
import asyncio
import time

import pytest

from regrow.actors import Actor, Message, System, command, tool
from regrow.actors.witness import witness
from regrow.testing import crash_points, virtual_time


class Say(Message[str]):
    pass


@tool
async def look() -> str:
    witness()
    await asyncio.sleep(3600)
    return "seen"


class Speaker(Actor, persist="fields"):
    said: int = 0

    @command
    async def say(self, msg: Say) -> str:
        self.said += 1
        return f"{self.port('model')} {self.said} {await look() if self.port('look') else ''}"


app = System("speakers", actors=[Speaker], ports={"model": "the real one", "look": False})


@pytest.mark.asyncio
async def test_in_memory(regrow_memory):
    async with regrow_memory(app, ports={"model": "fake"}) as node:
        assert await node.ref(Speaker, "a").ask(Say()) == "fake 1 "
    async with regrow_memory(app) as node:
        assert await node.ref(Speaker, "a").ask(Say()) == "the real one 2 "


@pytest.mark.asyncio
async def test_it_starts_fast(regrow_memory, record_property):
    took = []
    for _ in range(20):
        began = time.perf_counter()
        async with regrow_memory(app):
            took.append(time.perf_counter() - began)
    print("STARTED IN", sorted(took)[10])


@pytest.mark.asyncio
@pytest.mark.parametrize("number", [1, 2])
async def test_on_the_server(regrow_node, number):
    async with regrow_node(app, ports={"model": number}) as node:
        assert await node.ref(Speaker, "a").ask(Say()) == f"{number} 1 "


@virtual_time
async def test_in_virtual_time(regrow_memory, regrow_witness):
    async with regrow_memory(app, ports={"look": True}) as node:
        assert await node.ref(Speaker, "a").ask(Say(), timeout_s=4000) == "the real one 1 seen"
    assert [(each.actor, each.step.split("/")[1]) for each in regrow_witness()] == [("speaker/a", "look")]


@pytest.mark.asyncio
async def test_everywhere():
    async def scenario(outside):
        return await outside.ref(Speaker, "a").ask(Say())

    report = await crash_points(app, scenario)
    assert report.ok, report
"""


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-s",
        "-W",
        "error",
        "-p",
        "no:cacheprovider",
        "-o",
        LOOP_SCOPE,
        *options,
    ]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_its_fixtures_serve_the_tests_of_an_application(tmp_path: Path) -> None:
    (tmp_path / "test_user.py").write_text(USER_TEST)
    found = run(tmp_path, *plugin_option())
    assert found.returncode == 0, found.stdout + found.stderr
    assert "6 passed" in found.stdout
    assert "STARTED IN" in found.stdout


def test_it_imports_nothing_of_regrow_until_it_is_asked(tmp_path: Path) -> None:
    (tmp_path / "test_plain.py").write_text(
        "import sys\n\n\ndef test_plain():\n"
        "    found = [name for name in sys.modules if name.startswith(('regrow', 'nats', 'structlog'))]\n"
        "    assert sorted(found) == ['regrow', 'regrow.pytest_plugin']\n"
    )
    found = run(tmp_path, *plugin_option())
    assert found.returncode == 0, found.stdout + found.stderr


def plugin_option() -> list[str]:
    """Names the plugin where this installation is older than its entry point."""
    from importlib.metadata import entry_points

    known = any(each.value == "regrow.pytest_plugin" for each in entry_points(group="pytest11"))
    return [] if known else ["-p", "regrow.pytest_plugin"]


@pytest.mark.parametrize("name", ["pytest11"])
def test_an_installation_tells_pytest_of_it(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"][name] == {"regrow": "regrow.pytest_plugin"}
