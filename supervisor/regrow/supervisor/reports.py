"""Crash reports: one log line per death, and one for many that are alike.

A report names the class of an error and never its text: that may hold what a user wrote.
"""

import asyncio
from typing import Final

import structlog

from regrow.supervisor.exits import Crashed, Exit, is_clean
from regrow.supervisor.slot import Slot

WINDOW_S: Final = 1.0
"""For how long deaths like one that was reported are counted instead: one line a second says as much as thousands."""

_log: Final = structlog.get_logger(__name__)
_Key = tuple[str, type[Exit], type[BaseException] | None, str]


class _Repeats:
    """How often the same came again since the last line about it, and the last of them."""

    __slots__ = ("cause", "child", "count", "restarts")

    def __init__(self, child: str, cause: Exit) -> None:
        self.child = child
        self.cause = cause
        self.restarts = 0
        self.count = 0


class Reports:
    """The crash reports of one supervisor.

    Deaths are alike when the child's spec, the type of the cause, the type of the error and the action are the
    same. The first is logged at once; those that follow within `WINDOW_S` become one line with `repeated` in it.
    """

    def __init__(self, supervisor: str) -> None:
        self._supervisor = supervisor
        self._seen: dict[_Key, _Repeats] = {}
        self._timer: asyncio.TimerHandle | None = None

    def died(self, slot: Slot, cause: Exit, action: str) -> None:
        """Report this death, or count it; `slot` has it in its history already."""
        error = type(cause.error) if type(cause) is Crashed else None
        key = (slot.spec.id, type(cause), error, action)
        if (seen := self._seen.get(key)) is not None:
            seen.count += 1
            seen.child, seen.cause, seen.restarts = slot.name, cause, slot.restarts
            return
        self._seen[key] = _Repeats(slot.name, cause)
        if self._timer is None:
            self._arm()
        self._log(slot.name, cause, slot.restarts, action)

    def close(self) -> None:
        """Say what was counted, and set no timer any more."""
        self._flush()
        self._seen.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(WINDOW_S, self._round)

    def _round(self) -> None:
        self._timer = None
        self._flush()
        if self._seen:
            self._arm()

    def _flush(self) -> None:
        for key, seen in list(self._seen.items()):
            if seen.count:
                self._log(seen.child, seen.cause, seen.restarts, key[3], seen.count)
                seen.count = 0
            else:
                del self._seen[key]

    def _log(self, child: str, cause: Exit, restarts: int, action: str, repeated: int = 0) -> None:
        log = _log.warning if not is_clean(cause) else _log.debug if action == "remove" else _log.info
        error = type(cause.error).__name__ if isinstance(cause, Crashed) else None
        more = {"repeated": repeated} if repeated else {}
        log(
            "child_died",
            supervisor=self._supervisor,
            child=child,
            cause=type(cause).__name__,
            error=error,
            restarts=restarts,
            action=action,
            **more,
        )
