"""What other engines took for the same work, as it was measured earlier on another machine of this kind; not measured here."""

from collections.abc import Sequence

import msgspec

LABEL = "measured earlier, other machine of this kind"


class Peer(msgspec.Struct, frozen=True):
    """One engine's figure."""

    name: str
    seconds: float | None
    """From the start of the process to the end of the run."""
    steps_again: int | None
    """Finished steps that ran once more; None where it was not noted."""


RESUME = (
    Peer("bare JetStream", 0.19, None),
    Peer("Restate", 0.67, None),
    Peer("LangGraph, SQLite", 2.2, 1_700),
    Peer("DBOS, SQLite", 3.0, None),
    Peer("Flyte 2, local", 5.5, None),
    Peer("Temporal, local activities", 10.4, 1_990),
)
"""2,000 steps, killed at step 1,990."""

IN_FLIGHT = (
    Peer("Restate", None, 2),
    Peer("DBOS", None, 46),
    Peer("LangGraph", None, 977),
    Peer("Temporal, local activities", None, 961),
)
"""100 runs in flight with 1,000 finished steps."""


def table(ours: Sequence[Peer], peers: Sequence[Peer]) -> str:
    """Ours, then the peers', one a line."""
    rows = [_row(each) for each in ours]
    return "\n".join([*rows, f"peers ({LABEL}):", *(_row(each) for each in peers)])


def _row(peer: Peer) -> str:
    seconds = "" if peer.seconds is None else f"{peer.seconds:.2f} s"
    steps = "" if peer.steps_again is None else f"{peer.steps_again:,} finished steps again"
    return f"  {peer.name:<28}{seconds:>8}  {steps}".rstrip()
