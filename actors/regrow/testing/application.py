"""Finding the application under test, also in a process of its own: ``module:attribute``, or ``path/to/file.py:attribute``."""

import importlib.util
import sys
from pathlib import Path

from regrow.actors import NoApplication, System, load_system

LOADED_AS = "regrow_application_"


def load(path: str) -> System:
    """The system at this path. Raises ``NoApplication`` with one sentence that says what is missing."""
    file, _, attribute = path.rpartition(":")
    if not file.endswith(".py"):
        return load_system(path)
    name = f"{LOADED_AS}{Path(file).stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None or not Path(file).exists():
        raise NoApplication(f"there is no file {file!r}; write path/to/file.py:attribute")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = getattr(module, attribute, None)
    if not isinstance(found, System):
        raise NoApplication(f"{attribute} in {file} is no System; write {attribute} = System(...) there")
    return found
