"""Which event loop an application runs on: asyncio's own, or uvloop where it is installed."""

import asyncio
import importlib
from collections.abc import Callable
from typing import Literal, NamedTuple

from regrow.cli.failures import CommandFailed

Choice = Literal["auto", "asyncio", "uvloop"]


class Loop(NamedTuple):
    """An event loop that can be had here."""

    name: Literal["asyncio", "uvloop"]
    factory: Callable[[], asyncio.AbstractEventLoop] | None
    """None: asyncio's own choice."""
    advice: str = ""

    @property
    def said(self) -> str:
        """What is told of it, as one line."""
        return f"  on the event loop of {self.name}{self.advice}"


def chosen_loop(choice: Choice) -> Loop:
    """The loop of this choice; ``auto`` is uvloop where it is installed. Raises ``CommandFailed`` where it is asked for and missing."""
    if choice == "asyncio":
        return Loop("asyncio", None)
    try:
        factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
    except ModuleNotFoundError as missing:
        if missing.name != "uvloop":
            raise
        if choice == "auto":
            return Loop("asyncio", None, "; uvloop is faster: pip install 'regrow[fast]'")
        raise CommandFailed(
            "uvloop is not installed; get it with: pip install 'regrow[fast]', or leave it out with --loop asyncio"
        ) from None
    return Loop("uvloop", factory)
