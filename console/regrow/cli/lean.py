"""What a command does not have to wait for before it begins."""

import importlib
import sys
from types import ModuleType
from typing import cast


def load_structlog() -> None:
    """Imports structlog without rich, which it looks for and loads, 70 modules, a fifth of the time until a node of an application
    connects. It is for tracebacks that the log of a command never shows: it has plain ones. Who wants rich gets it afterwards."""
    if "structlog" in sys.modules or "rich" in sys.modules:
        return
    sys.modules["rich"] = cast(ModuleType, None)  # how Python marks a module that is not to be found
    try:
        importlib.import_module("structlog")
    finally:
        del sys.modules["rich"]
