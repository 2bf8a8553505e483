"""Kinds of failures: what an exception means for whoever has to decide what to do next. They are part of the wire format."""

import msgspec

SEMANTIC = "semantic"
"""An answer came and does not fit what was asked for: say why, and ask again."""
INFRASTRUCTURE = "infrastructure"
"""What it ran on gave way: memory, disk, a process that was killed. No fault of the call."""
NETWORK = "network"
"""No whole answer came: connection, time-out, a server's own error. It may pass by itself."""
THROTTLED = "throttled"
"""The other side says: later. Whoever waits gets through."""
QUOTA = "quota"
"""What was paid for is used up: waiting does not help, somebody has to pay."""
REJECTED = "rejected"
"""The other side will never do this for this caller: a wrong request, a wrong key, nothing there."""
CORRUPT_CONTEXT = "corrupt_context"
"""What was said so far cannot be gone on from: it is too long, or broken."""


class Diagnosis(msgspec.Struct, frozen=True):
    """What an exception means."""

    kind: str
    """One of this module's, ``defect``, or one of the application's own."""
    retry_after_s: float | None = None
    """How long the other side asks to wait, seconds; None where it does not say."""
