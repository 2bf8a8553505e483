"""A Python function in an interpreter of its own, as a supervised child."""

import sys
from typing import Any

from regrow.supervisor import InvalidOption
from regrow.workers.process import Process


def python_process(name: str, function: str, **options: Any) -> Process:
    """A process that runs `function`, said as `module:function`, in a new interpreter.

    The function is like a child's: it takes a `Begun`, with the cause and the number of restarts, and calls its `ready()`;
    it may be a coroutine function or a plain one, and is found as `python -m` would find its module. Cancelled by
    SIGTERM if it is a coroutine function, ended by it if it is a plain one. What it raises arrives as a `ChildError`;
    a MemoryError, where a limit of memory was set, as `OutOfMemory`. The options are those of `Process`.
    """
    module, _, attribute = function.partition(":")
    if not module or not attribute:
        raise InvalidOption(f"process {name!r}: a function is said as 'module:function', not {function!r}")
    return Process(name, (sys.executable, "-m", "regrow.workers.runner", function), reports=True, **options)
