"""One way for every record into a log, so that a test can watch, delay, refuse or double what is appended."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from regrow.bus import Address
from regrow.bus.port import Attempted

Append = Callable[..., Awaitable[int]]
"""Takes what ``Log.append`` takes."""


def replace_append(log: Any, append: Append) -> Callable[[], None]:
    """Appends to this log, from now on, by ``append`` only. What undoes it.

    A writer that has no task to wait in attempts an append first, and appends only what came of nothing: here every attempt does.
    """
    real = log.append, log.attempt

    def undo() -> None:
        log.append, log.attempt = real

    log.append, log.attempt = append, _attempt
    return undo


def _attempt(address: Address, data: bytes, *, rid: str, after: int, done: Attempted) -> None:
    asyncio.get_running_loop().call_soon(done, None)
