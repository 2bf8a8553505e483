"""The architecture as a test: who may import whom, read from the sources."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE_ROOTS = ("actors", "agents", "bus", "supervisor", "console", "bench")

BELOW: dict[str, frozenset[str]] = {
    "supervisor": frozenset(),
    "bus": frozenset(),
    "workers": frozenset({"supervisor"}),
    "actors": frozenset({"workers", "supervisor", "bus"}),
    "testing": frozenset({"actors", "workers", "supervisor", "bus"}),
    "pytest_plugin": frozenset({"testing", "actors", "workers", "supervisor", "bus"}),
    "models": frozenset({"actors", "workers", "supervisor", "bus"}),
    "sandbox": frozenset({"actors", "workers", "supervisor", "bus"}),
    "agents": frozenset({"models", "sandbox", "actors", "workers", "supervisor", "bus"}),
    "cli": frozenset({"bench", "console", "agents", "models", "sandbox", "actors", "workers", "supervisor", "bus"}),
    "console": frozenset({"agents", "models", "sandbox", "actors", "workers", "supervisor", "bus"}),
    "bench": frozenset({"testing", "agents", "models", "sandbox", "actors", "workers", "supervisor", "bus"}),
}
"""Each package and those it may import from."""

MAY_IMPORT_NATS = frozenset({"bus", "bench"})


def modules() -> Iterator[tuple[str, Path]]:
    """Every source module with the package below ``regrow`` that it belongs to."""
    for root in SOURCE_ROOTS:
        for path in sorted((ROOT / root / "regrow").rglob("*.py")):
            yield path.relative_to(ROOT / root / "regrow").parts[0], path


def imports(path: Path) -> Iterator[str]:
    """The dotted names that a module imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports in full"
            yield node.module or ""
            if node.module == "regrow":
                yield from (f"regrow.{alias.name}" for alias in node.names)


def test_every_package_is_known_to_the_layering() -> None:
    found = {package for package, _ in modules()}
    assert found >= {"actors", "bus", "supervisor"}
    assert found <= BELOW.keys()


@pytest.mark.parametrize("package", sorted(BELOW))
def test_a_package_imports_only_from_those_below_it(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for owner, path in modules()
        if owner == package
        for name in imports(path)
        if name.startswith("regrow.") and name.split(".")[1] not in BELOW[package] | {package}
    ]
    assert not wrong


def test_only_the_bus_and_the_benchmarks_know_nats() -> None:
    wrong = [
        str(path.relative_to(ROOT))
        for package, path in modules()
        for name in imports(path)
        if name.split(".")[0] == "nats" and package not in MAY_IMPORT_NATS
    ]
    assert not wrong


def test_the_namespace_package_has_no_init_anywhere() -> None:
    assert not [root for root in SOURCE_ROOTS if (ROOT / root / "regrow" / "__init__.py").exists()]
    assert not list(ROOT.glob("*/__init__.py"))


def test_every_package_says_that_it_is_typed() -> None:
    missing = {package for package, path in modules() if not (_package_folder(package, path) / "py.typed").exists()}
    assert not missing


def _package_folder(package: str, path: Path) -> Path:
    return next(parent for parent in path.parents if parent.name == package and parent.parent.name == "regrow")
