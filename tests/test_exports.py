"""Facades: what a package offers is what its ``__all__`` says, no more and no less."""

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PURE = ("actors", "agents", "bus", "models", "supervisor", "testing", "workers")
"""Packages whose ``__init__`` is a facade; those of the command line begin with code."""


def facades() -> list[Path]:
    return [path for name in PURE for path in ROOT.glob(f"*/regrow/{name}/__init__.py")]


def test_the_facades_are_found() -> None:
    assert {path.parent.name for path in facades()} >= {"actors", "bus", "supervisor", "testing"}


@pytest.mark.parametrize("path", facades(), ids=lambda path: path.parent.name)
def test_a_facade_holds_imports_and_a_sorted_complete_all(path: Path) -> None:
    tree = ast.parse(path.read_text())
    docstring, *body = tree.body
    assert isinstance(docstring, ast.Expr), "a facade begins with its docstring"
    imported = [alias.asname or alias.name for node in body if isinstance(node, ast.ImportFrom) for alias in node.names]
    others = [node for node in body if not isinstance(node, ast.ImportFrom)]
    assert len(others) == 1, "a facade holds imports and __all__, nothing else"
    exported = importlib.import_module(f"regrow.{path.parent.name}").__all__
    assert exported == sorted(exported)
    assert sorted(imported) == exported
