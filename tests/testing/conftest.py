"""What the tests of the kit share: applications that are files of their own, as those of users are."""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

APPS = Path(__file__).parent / "apps"
SHARED = {"agent": "regrow.bench.crash_app"}
"""Applications that the benchmarks use as well."""


@pytest.fixture(scope="session")
def application() -> Callable[[str], ModuleType]:
    """Imports one of the applications beside the tests, once, or one that is shared."""

    def load(name: str) -> ModuleType:
        if name in SHARED:
            return importlib.import_module(SHARED[name])
        full_name = f"regrow_testing_apps_{name}"
        if full_name not in sys.modules:
            spec = importlib.util.spec_from_file_location(full_name, APPS / f"{name}.py")
            assert spec is not None and spec.loader is not None
            sys.modules[full_name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[full_name])
        return sys.modules[full_name]

    return load
