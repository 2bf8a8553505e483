"""A plain function in a thread of its own, as a supervised child.

The function owns its thread and is asked to end by an event: a thread can be neither cancelled nor killed. One that
does not end within the child's shutdown time is abandoned by the supervisor and reported as `Hung`; the thread is a
daemon, so that it does not keep the process.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from regrow.supervisor import ChildSpec, Start

Service = Callable[[threading.Event], object]


@dataclass(frozen=True, slots=True)
class Thread:
    """A function that runs until it is done or its event is set; `run` is the coroutine of a child.

    It is ready once its thread runs. What the function raises is the child's crash.
    """

    name: str
    function: Service

    async def run(self, start: Start) -> None:
        """Run the function; cancelled, set its event and wait for its end. A second cancellation abandons it."""
        stop = threading.Event()
        end = _End(asyncio.get_running_loop())
        thread = threading.Thread(target=end.of, args=(self.function, stop), name=self.name, daemon=True)
        thread.start()
        start.ready()
        try:
            await end.reached.wait()
        except asyncio.CancelledError:
            stop.set()
            await end.reached.wait()
            if end.error is None:
                raise
        thread.join()
        if end.error is not None:
            raise end.error


def thread_child(name: str, function: Service, **options: Any) -> ChildSpec:
    """The function as a supervisor's child; the options are those of `ChildSpec`."""
    return ChildSpec(id=name, run=Thread(name, function).run, **options)


class _End:
    """The end of a function in another thread, for the loop of this one."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.reached = asyncio.Event()
        self.error: BaseException | None = None
        self._loop = loop

    def of(self, function: Service, stop: threading.Event) -> None:
        """Run it."""
        try:
            function(stop)
        except BaseException as error:  # the edge of the thread: the supervisor judges it
            self.error = error
        with suppress(RuntimeError):  # abandoned, and the loop is closed
            self._loop.call_soon_threadsafe(self.reached.set)
