"""Crash reports: one log line per death, and one for many that are alike.

A report names the class of an error and never its text: that may hold what a user wrote.
"""

from typing import Final

import structlog

from regrow.supervisor.exits import Crashed, Exit, is_clean
from regrow.supervisor.repeats import Repeats
from regrow.supervisor.slot import Slot

_log: Final = structlog.get_logger(__name__)
_Death = tuple[str, Exit, int, str]
"""The child's name, how it ended, how often it was restarted before, and what is done about it."""


class Reports:
    """The crash reports of one supervisor.

    Deaths are alike when the child's spec, the type of the cause, the type of the error and the action are the
    same. The first is logged at once; those that follow within a second become one line with `repeated` in it.
    """

    def __init__(self, supervisor: str) -> None:
        self._supervisor = supervisor
        self._repeats: Repeats[_Death] = Repeats(self._log)

    def died(self, slot: Slot, cause: Exit, action: str) -> None:
        """Report this death, or count it; `slot` has it in its history already."""
        error = type(cause.error) if type(cause) is Crashed else None
        self._repeats.add((slot.spec.id, type(cause), error, action), (slot.name, cause, slot.restarts, action))

    def close(self) -> None:
        """Say what was counted, and set no timer any more."""
        self._repeats.close()

    def _log(self, death: _Death, repeated: int) -> None:
        child, cause, restarts, action = death
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
