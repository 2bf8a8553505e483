"""The end of one local actor: of what cause, and who is to be told, so that monitors, links and groups can hold it. One event loop."""

import asyncio
from collections.abc import Callable

from regrow.supervisor import Exit
from regrow.supervisor.mortal import Trap


class LocalEnd:
    """Made when somebody wants to know of it, or when it comes: most actors have none. A restart is no end."""

    __slots__ = ("_cause", "_gone", "_watching", "exit", "trap")

    def __init__(self) -> None:
        self.exit: Exit | None = None
        """How it ended, once no handler of it runs any more."""
        self.trap: Trap | None = None
        self._cause: Exit | None = None
        self._gone: asyncio.Event | None = None
        self._watching: dict[Callable[[Exit], None], None] = {}

    def watch(self, callback: Callable[[Exit], None]) -> None:
        """See ``Mortal.watch``."""
        if self.exit is not None:
            callback(self.exit)
        else:
            self._watching[callback] = None

    def unwatch(self, callback: Callable[[Exit], None]) -> None:
        """See ``Mortal.unwatch``."""
        self._watching.pop(callback, None)

    def near(self, cause: Exit) -> None:
        """The actor takes no messages any more, of this cause."""
        self._cause = cause

    def come(self) -> None:
        """And no handler of it runs any more: everybody is told."""
        if self.exit is not None:
            return
        self.exit = self._cause
        assert self.exit is not None
        if self._gone is not None:
            self._gone.set()
        for callback in tuple(self._watching):
            if callback in self._watching:  # no callback before it has taken it back
                del self._watching[callback]
                callback(self.exit)

    async def wait(self) -> None:
        """Returns once it has come."""
        if self.exit is None:
            if self._gone is None:
                self._gone = asyncio.Event()
            await self._gone.wait()
