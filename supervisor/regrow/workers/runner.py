"""The process of a Python child: `python -m regrow.workers.runner module:function`.

It runs the function with what the environment says of the incarnation before, and tells its owner, on the pipe that
`REGROW_REPORT` numbers, when it is ready and which exception ended it. The traceback goes to standard error.
"""

import asyncio
import importlib
import inspect
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from regrow.workers.environment import Begun, begun, named
from regrow.workers.process import READY
from regrow.workers.program import REPORT


def main(path: str) -> None:
    """Run the function at this path (`module:function`); its exception is reported and raised."""
    report = int(os.environ.pop(REPORT))
    os.set_inheritable(report, False)
    start = begun(os.environ, lambda: _write(report, READY))
    try:
        module, _, attribute = path.partition(":")
        _run(getattr(importlib.import_module(module), attribute), start)
    except Exception as error:
        name, text = named(error)
        _write(report, json.dumps({"error": name, "message": text}, ensure_ascii=False))
        raise


def _run(function: Callable[[Begun], Any], start: Begun) -> None:
    if not inspect.iscoroutinefunction(function):
        function(start)
        return
    with suppress(asyncio.CancelledError):
        asyncio.run(_stoppable(function(start)))


async def _stoppable(work: Awaitable[object]) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await work


def _write(report: int, line: str) -> None:
    with suppress(BrokenPipeError):  # the owner is gone
        os.write(report, line.encode(errors="replace") + b"\n")


if __name__ == "__main__":
    main(sys.argv[1])
