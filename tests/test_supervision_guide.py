"""The examples of the guide to supervision run, and give what the comments and the output beside them say."""

import ast
import asyncio
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import regrow.actors
import regrow.supervisor
import regrow.workers
from regrow.bus import MemoryBus
from regrow.cli.commands.tree import described

GUIDE = (Path(__file__).parent.parent / "docs" / "supervision.md").read_text(encoding="utf-8")
SNIPPET = re.compile(r"<!-- snippet: (?P<name>\S+) -->\n```python\n(?P<code>.*?)```", re.DOTALL)
SNIPPETS = {found["name"]: found["code"] for found in SNIPPET.finditer(GUIDE)}
GIVEN = re.compile(r"# -> (?P<given>.*)")
FIRST = "shop.py"
ELSEWHERE = {"Event", "False", "Info", "None", "Pid", "Term", "True"}
"""Words of Python's own and of Erlang that begin like the name of a class."""
STRATEGIES = {"one_for_one.py", "one_for_all.py", "rest_for_one.py", "dynamic.py", "partitions.py"}


@pytest.fixture
def module(name: str, tmp_path: Path) -> Iterator[ModuleType]:
    path = tmp_path / name
    path.write_text(SNIPPETS[name], encoding="utf-8")
    spec = importlib.util.spec_from_file_location(f"guide_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.mark.parametrize("name", [name for name in SNIPPETS if name != FIRST])
def test_each_example_gives_what_its_comment_says(name: str, module: ModuleType) -> None:
    given = GIVEN.search(SNIPPETS[name])
    assert given is not None
    assert asyncio.run(module.main()) == ast.literal_eval(given["given"])


@pytest.mark.parametrize("name", [FIRST])
def test_the_first_example_prints_what_stands_below_it(
    name: str, module: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(module.main())
    shown = GUIDE.split(SNIPPETS[name])[1].split("```")[2]
    assert plain(capsys.readouterr().out) == plain(shown)


@pytest.mark.parametrize("name", ["lab.py"])
def test_the_tree_of_a_node_is_drawn_as_it_is_shown(name: str, module: ModuleType) -> None:
    async def drawn() -> str:
        async with module.app.host(MemoryBus(module.app.name)) as node:
            return "\n".join(described(await node.client.administration.tree(), 0))

    shown = GUIDE.split("`regrow tree lab:app`")[1].split("```")[1]
    assert same(asyncio.run(drawn())) == same(shown)


def test_there_is_an_example_for_each_strategy() -> None:
    assert SNIPPETS.keys() >= STRATEGIES


def test_the_guide_names_only_what_is_there() -> None:
    offered = {name for package in (regrow.actors, regrow.supervisor, regrow.workers) for name in package.__all__}
    text = re.sub(r"```.*?```", "", GUIDE, flags=re.DOTALL)
    named = {word for code in re.findall(r"`([^`]+)`", text) for word in re.findall(r"\b[A-Z][a-z]\w*", code)}
    assert named - offered - ELSEWHERE == set()


def plain(text: str) -> list[str]:
    """Its lines without colours, times and runs of blanks."""
    text = re.sub(r"\x1b\[[\d;]*m|\d{4}-\d\d-\d\d[T ][\d:.]+Z? ", "", text)
    return [" ".join(re.sub(r"\s+]", "]", line).split()) for line in text.strip().splitlines()]


def same(drawn: str) -> list[str]:
    """A tree without what differs between two nodes, and without what groups of actors say of themselves."""
    drawn = re.sub(r"node \w+ on \S+ process \d+|\d{4}-\d\d-\d\d [\d:]+Z|, at_work .*", "", drawn)
    return [line.rstrip() for line in drawn.strip().splitlines()]
