"""What is chosen for a local actor when it is spawned: its limits, and what its failures and its full mailbox mean."""

from typing import Literal, get_args

import msgspec

from regrow.supervisor import Backoff, Intensity
from regrow.supervisor.spec import Restart

MAILBOX_MAX = 1_000
"""Messages that may wait for one local actor when nothing else is said."""
STASH_MAX = 1_000
"""Messages that one local actor may put aside when nothing else is said: as many as may wait."""

Overflow = Literal["fail", "wait", "drop_newest", "drop_oldest"]
"""What a full mailbox does with one message more, after Pekko's ``OverflowStrategy``.

``fail``: ``MailboxFull`` at the sender. ``wait``: who asks, or uses ``tell_wait``, waits for room, in the order in which they
came; ``tell`` cannot wait and raises ``MailboxFull``. ``drop_newest`` and ``drop_oldest``: the new message, or the one that
has waited longest, becomes a dead letter; whoever asked with it gets ``MailboxFull``.
"""

_OVERFLOWS = get_args(Overflow)


class LocalLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much waits for one local actor."""

    mailbox_max: int
    overflow: Overflow
    stash_max: int

    def __post_init__(self) -> None:
        if self.mailbox_max < 1:
            raise ValueError(f"mailbox_max must be 1 or more, not {self.mailbox_max}")
        if self.overflow not in _OVERFLOWS:
            raise ValueError(f"overflow is one of {', '.join(_OVERFLOWS)}, not {self.overflow!r}")
        if self.stash_max < 0:
            raise ValueError(f"stash_max must be 0 or more, not {self.stash_max}")


class LocalPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What is done about a local actor whose handler raised."""

    restart: Restart = "permanent"
    """``temporary``: it is stopped instead. ``transient`` is the same as ``permanent``: a handler that raised is no clean end."""
    backoff: Backoff = Backoff()
    intensity: Intensity = Intensity()
    """Restarts of this one actor; one more and it is stopped."""
