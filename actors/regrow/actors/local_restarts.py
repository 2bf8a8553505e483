"""The restarts of one local actor: how many there were, what for, and whether it may have another."""

import asyncio

from regrow.actors.local_policy import LocalPolicy
from regrow.supervisor import Exit, admit, decide


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

    def admit(self, cause: Exit, policy: LocalPolicy, now: float, draw: float) -> float | None:
        """Seconds until the next incarnation, for a jitter in [0, 1); None when there must be none."""
        self.cause = cause
        window = admit(self._window, now, policy.intensity) if decide(policy.restart, cause) == "restart" else None
        if window is None:
            return None
        self._window = window
        attempt = 0 if policy.backoff.is_over(now - self._since) else self._attempt
        self._attempt = attempt + 1
        return policy.backoff.delay_s(attempt, draw)

    def restarted(self, now: float) -> None:
        """The next incarnation lives."""
        self.timer = None
        self.count += 1
        self._since = now
