"""The snippets of the guide to testing run as a user's own tests, and the report that it shows is one."""

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

GUIDE = Path(__file__).parents[2] / "docs" / "testing.md"
SNIPPET = re.compile(r"<!-- snippet: (?P<name>\S+) -->\n```python\n(?P<code>.*?)```", re.DOTALL)
BUG = re.compile(r"is a step:\n\n```python\n(?P<bug>.*?)```.*?```\n(?P<report>.*?)```", re.DOTALL)
GOOD = "        self.emit(Paid(receipt=await charge(message.cents)))\n"
KNOWN = any(each.value == "regrow.pytest_plugin" for each in entry_points(group="pytest11"))
PLUGIN = () if KNOWN else ("-p", "regrow.pytest_plugin")
"""Names the plugin where this installation is older than its entry point."""

TRY = """
import asyncio

from careless import Order, Shop, Silent, System
from regrow.testing import crash_points


async def scenario(outside):
    return await outside.ref(Shop, "anna").ask(Order(cents=500))


def make_app():
    return System("shop", actors=[Shop], ports={"model": Silent(), "charges": []})


print(asyncio.run(crash_points(make_app, scenario)))
"""


def snippets(folder: Path) -> dict[str, str]:
    """Writes the guide's files; their texts by name."""
    found = {each["name"]: each["code"] for each in SNIPPET.finditer(GUIDE.read_text(encoding="utf-8"))}
    for name, code in found.items():
        (folder / name).write_text(code, encoding="utf-8")
    return found


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_tests_pass(tmp_path: Path) -> None:
    snippets(tmp_path)
    said = run(
        tmp_path,
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", *PLUGIN),
        *("-W", "error", "-o", "asyncio_default_fixture_loop_scope=function"),
    )
    assert "2 passed" in said


def test_its_report_is_what_its_bug_gives(tmp_path: Path) -> None:
    shop = snippets(tmp_path)["shop.py"]
    told = BUG.search(GUIDE.read_text(encoding="utf-8"))
    assert told is not None and shop.count(GOOD) == 1
    (tmp_path / "careless.py").write_text(shop.replace(GOOD, told["bug"]), encoding="utf-8")
    (tmp_path / "try.py").write_text(TRY, encoding="utf-8")
    said, shown = (re.sub(r"in [\d.]+ s", "in some s", text) for text in (run(tmp_path, "try.py"), told["report"]))
    assert said.splitlines()[-len(shown.splitlines()) :] == shown.splitlines()
