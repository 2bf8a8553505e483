"""Finding an application: ``module:attribute`` as the command line and the processes of children name it."""

import importlib
import sys
from pathlib import Path

from regrow.actors.errors import ActorError
from regrow.actors.system import System


class NoApplication(ActorError):
    """There is no system at this path."""


def load_system(path: str) -> System:
    """The system at ``module:attribute``, imported with the current directory in reach, and told its own path.

    Raises ``NoApplication`` with one sentence that says what is missing.
    """
    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute:
        raise NoApplication(f"{path!r} does not name an application; write module:attribute, such as hello:app")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise NoApplication(f"there is no module {module_name!r} here or among the installed ones") from None
        raise
    found = getattr(module, attribute, None)
    if not isinstance(found, System):
        raise NoApplication(f"{module_name}.{attribute} is no System; write {attribute} = System(...) in {module_name}")
    found.path = path
    return found
