"""The table of holes and traps names tests that exist."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def functions(pattern: str) -> set[str]:
    """The names of all functions in files of the repository."""
    trees = (ast.parse(path.read_text()) for path in ROOT.glob(pattern))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, kinds)}


def test_each_test_that_the_table_names_is_there() -> None:
    table = ast.get_docstring(ast.parse((Path(__file__).parent / "conftest.py").read_text())) or ""
    known = functions("tests/**/*.py") | functions("bench/*.py")
    named = re.findall(r"\b(test_[a-z0-9_]+(?![a-z0-9_.])…?)(?!\S*\.py)", table)
    named += [name for fact in re.findall(r"three: ([^;()]+)", table) for name in re.findall(r"[a-z0-9_]{12,}…?", fact)]
    assert len(named) > 40
    lost = [
        name
        for name in named
        if not any(each.startswith(name[:-1]) if name.endswith("…") else each == name for each in known)
    ]
    assert lost == []
