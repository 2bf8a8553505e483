"""The proof that appends are fenced: the server, and whatever stands before it, is given one that must be refused.

A fence that is lost on its way, by a proxy that drops or rewrites headers, would let every append through, and two owners of
one actor would both write.
"""

import structlog

from regrow.bus.api import FENCED, ApiError
from regrow.bus.errors import AccessDenied, StoreUnavailable
from regrow.bus.headers import fence
from regrow.bus.publishing import publish_acked
from regrow.bus.replies import ReplyInbox
from regrow.bus.subjects import Address, Subjects

_log = structlog.get_logger(__name__)

PROBE = Address("rg_probe", "fence")
"""An actor that does not exist."""
NEVER = 2**62
"""A sequence that no log reaches."""
CHECK_TIMEOUT_S = 10.0


async def check_fence(replies: ReplyInbox, subjects: Subjects) -> None:
    """Returns when an append under a wrong fence was refused for that.

    Nothing is stored; where the fence was lost, the one record of an actor that does not exist. Another condition that cannot
    hold would keep it out too, but refusing an unfenced publish for one makes a replicated stream deaf (nats-server 2.15.1).
    Who may not write to logs has nothing to prove.

    Raises ``StoreUnavailable`` when the fence was not heeded, ``RequestTimeout``.
    """
    given = fence(NEVER, rollup=True)
    try:
        ack = await publish_acked(replies, subjects.log(PROBE), b"", given, timeout_s=CHECK_TIMEOUT_S)
    except AccessDenied:
        return
    if ack.error is None:
        raise StoreUnavailable("this server or a proxy before it drops the fence header: connect to the server itself")
    if ack.error.err_code not in FENCED:
        _log.warning("the fence could not be tried", error=str(ApiError("an append that must fail", ack.error)))
