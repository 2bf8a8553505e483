"""What is chosen for a local actor when it is spawned: what its failures and its full mailbox mean."""

from typing import Literal

import msgspec

from regrow.supervisor import Backoff, Intensity
from regrow.supervisor.spec import Restart

Overflow = Literal["fail", "wait", "drop_newest", "drop_oldest"]
"""What a full mailbox does with one message more, after Pekko's ``OverflowStrategy``.

``fail``: ``MailboxFull`` at the sender. ``wait``: who asks, or uses ``tell_wait``, waits for room, in the order in which they
came; ``tell`` cannot wait and raises ``MailboxFull``. ``drop_newest`` and ``drop_oldest``: the new message, or the one that
has waited longest, becomes a dead letter; whoever asked with it gets ``MailboxFull``.
"""


class LocalPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What is done about a local actor whose handler raised."""

    restart: Restart = "permanent"
    """``temporary``: it is stopped instead. ``transient`` is the same as ``permanent``: a handler that raised is no clean end."""
    backoff: Backoff = Backoff()
    intensity: Intensity = Intensity()
    """Restarts of this one actor; one more and it is stopped."""
