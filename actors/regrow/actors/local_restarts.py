"""The restarts of one local actor: how many there were, what for, and whether it may have another."""

import asyncio
from collections.abc import Callable

import structlog

from regrow.actors.errors import DEFECT, AskFailed, failure
from regrow.actors.local_policy import LocalPolicy
from regrow.bus import Address
from regrow.supervisor import Crashed, Exit, admit, decide

_log = structlog.get_logger(__name__)


class LocalRestarts:
    """Made at the first failure: most actors never have one. Times are seconds of the loop's clock."""

    __slots__ = ("_attempt", "_since", "_window", "cause", "count", "timer")

    def __init__(self) -> None:
        self.count = 0
        self.cause: Exit | None = None
        """What the last incarnation died of."""
        self.timer: asyncio.TimerHandle | None = None
        """Set while the next one is waited for."""
        self._since = 0.0
        self._window: tuple[float, ...] = ()
        self._attempt = 0

    def failed(
        self, cause: Crashed, actor: Address, policy: LocalPolicy, draw: float, again: Callable[[], None]
    ) -> bool:
        """Calls for the next incarnation after its backoff, for a jitter in [0, 1); False when there must be none."""
        loop = asyncio.get_running_loop()
        delay_s = self._admit(cause, policy, loop.time(), draw)
        error = type(cause.error).__name__
        _log.warning("actor failed", actor=str(actor), error=error, again=delay_s is not None)
        if delay_s is not None:
            self.timer = loop.call_later(delay_s, again)
        return delay_s is not None

    def restarted(self) -> None:
        """The next incarnation lives."""
        self.timer = None
        self.count += 1
        self._since = asyncio.get_running_loop().time()

    def _admit(self, cause: Exit, policy: LocalPolicy, now: float, draw: float) -> float | None:
        self.cause = cause
        window = admit(self._window, now, policy.intensity) if decide(policy.restart, cause) == "restart" else None
        if window is None:
            return None
        self._window = window
        attempt = 0 if policy.backoff.is_over(now - self._since) else self._attempt
        self._attempt = attempt + 1
        return policy.backoff.delay_s(attempt, draw)


def told(error: BaseException) -> AskFailed:
    """What whoever asked is told of what a handler raised."""
    failed = failure(DEFECT, f"{type(error).__name__}: {error}")
    return AskFailed(failed.kind, failed.code, failed.message)
