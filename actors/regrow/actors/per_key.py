"""Restart intensity per actor, and when the failing ones of a kind are too many: pure decisions over values.

OTP counts the restarts of all children of a supervisor together, which suits a handful that depend on each other. Of thousands
of virtual actors some always fail; each is counted for itself, and the kind as a whole is at fault only when a share of those
at work is failing.
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from regrow.actors.errors import BUSY, STORE, ActorError
from regrow.actors.failure_kind import THROTTLED
from regrow.bus import BusError, Undecodable
from regrow.supervisor import Intensity, admit

K = TypeVar("K", bound=Hashable)

WAITING_ENDS = frozenset((THROTTLED, BUSY, STORE))
"""Kinds of failures that end by waiting: no actor is to blame, and none gets better by a restart."""
FAILING_MIN = 10
"""Fewer failing actors than this are never the kind's fault: of a few at work, a few bad messages fail a large share."""
KEYS_MAX = 10_000
"""Keys of which failures are kept in mind; the one whose last failure is longest ago is forgotten first."""


@dataclass(frozen=True, slots=True)
class PerKey(Intensity):
    """At most ``limit`` restarts of one actor within ``per_s`` seconds: ``PerKey(3, per_s=5.0)``. One more, and it is failing."""


class KindFailing(ActorError):
    """More than the allowed share of a kind's actors is failing: all are dropped and come back from their logs."""

    def __init__(self, kind: str, failing: int, of: int) -> None:
        super().__init__(
            f"{failing} of {of} actors of kind {kind} that are at work are failing: look at what they have in common"
        )
        self.kind = kind
        self.failing = failing
        self.of = of
        """At work now, or within the time for which a failing actor counts as one."""


def counts(error: BaseException) -> bool:
    """Whether a failure speaks against its actor: not one that ends by waiting. A group counts when one of its members does."""
    if isinstance(error, BaseExceptionGroup):
        return any(map(counts, cast(BaseExceptionGroup[BaseException], error).exceptions))
    if isinstance(error, BusError):
        return isinstance(error, Undecodable)
    return getattr(error, "kind", None) not in WAITING_ENDS and getattr(error, "retry_after_s", None) is None


def verdict(failing: int, of: int, max_ratio: float) -> bool:
    """Whether so many failing ones of those at work are the kind's fault: ``FAILING_MIN`` or more, and above the share."""
    return failing >= FAILING_MIN and failing > max_ratio * of


class Failures(Generic[K]):
    """Who is failing now. Holds only keys that failed within ``calm_s`` seconds, ``KEYS_MAX`` at most.

    A key is failing when it failed more often than ``per_key`` allows, or was given up once, until it does well or has not
    failed for ``calm_s``. Times are seconds of one clock that never goes back.
    """

    def __init__(self, per_key: PerKey, calm_s: float) -> None:
        self._per_key = per_key
        self._calm_s = max(calm_s, per_key.per_s)
        self._windows: OrderedDict[K, tuple[float, ...]] = OrderedDict()
        """When the others have failed. Both have the key that failed last at the end."""
        self._failing: OrderedDict[K, tuple[float, int]] = OrderedDict()
        """When each of them failed last, and how often since it began to."""

    def __len__(self) -> int:
        """Keys that are kept in mind."""
        return len(self._windows) + len(self._failing)

    def __contains__(self, key: K) -> bool:
        """Whether it is failing, by the time that was named last."""
        return key in self._failing

    def add(self, key: K, now_s: float, *, given_up: bool = False) -> int:
        """Notes a failure: how many the key has had since it is failing, 0 while it is not."""
        self.failing(now_s)
        window = admit(self._windows.pop(key, ()), now_s, self._per_key)
        if given_up or window is None or key in self._failing:
            _, before = self._failing.pop(key, (now_s, 0))
            self._failing[key] = now_s, before + 1
        else:
            before = -1
            self._windows[key] = window
        if len(self) > KEYS_MAX:
            oldest: OrderedDict[K, Any] = self._windows or self._failing
            oldest.popitem(last=False)
        return before + 1

    def well(self, key: K) -> None:
        """Nothing speaks against it any more."""
        self._windows.pop(key, None)
        self._failing.pop(key, None)

    def failing(self, now_s: float) -> int:
        """How many are failing; forgets whoever has been quiet for long enough."""
        while self._windows and now_s - next(iter(self._windows.values()))[-1] > self._calm_s:
            self._windows.popitem(last=False)
        while self._failing and now_s - next(iter(self._failing.values()))[0] > self._calm_s:
            self._failing.popitem(last=False)
        return len(self._failing)

    def clear(self) -> None:
        """Forgets all."""
        self._windows.clear()
        self._failing.clear()
