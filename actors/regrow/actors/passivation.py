"""Which actors of a kind leave memory: the idle ones, and those whose turns only wait. Decisions; nothing is dropped here."""

from collections.abc import Container, Iterable, Iterator, Mapping
from itertools import islice
from typing import Protocol

from regrow.actors.kind import Kind
from regrow.actors.turn import RunningTurn
from regrow.bus import Address

PASSIVATED_AT_ONCE = 16
"""Logs of one kind that are made short at once because their actors were idle."""
LOOKED_AT = PASSIVATED_AT_ONCE * 64
"""Idle actors of which it is looked for how long they have been, each time."""
PRESSED_S = 1.0
"""How long a turn must only have waited before it is suspended where memory is short."""


class Seated(Protocol):
    """An actor in memory."""

    address: Address
    pinned: bool
    idle_since_s: float

    @property
    def idle(self) -> bool: ...
    @property
    def waiting_turn(self) -> RunningTurn | None: ...


def going(
    kind: Kind, cells: Mapping[Address, Seated], acting: Container[Address], excess: int, now_s: float
) -> list[Address]:
    """The idle actors that are to be dropped, the longest unused first: so many, and who has been idle for too long.

    ``cells`` has the longest unused first.
    """
    before_s = now_s - kind.idle_after_s
    idle = (each for each in cells.values() if each.idle and not each.pinned and each.address not in acting)
    found = [each.address for each in islice(idle, max(excess, 0))]
    found += (each.address for each in islice(idle, LOOKED_AT) if each.idle_since_s < before_s)
    return found


def waiting(kind: Kind, acting: Iterable[Seated], share: float) -> Iterator[tuple[Address, float]]:
    """The actors whose turns are to be suspended, and how long each must have waited: by the policy's time, or a moment where
    memory is short (``share`` of them) or more than the kind's limit wait."""
    after_s = kind.policy.suspend_after_s
    turns = ((each.waiting_turn, each.address) for each in acting)
    quiet = sorted(((turn.waits.quiet_s() or 0.0, each) for turn, each in turns if turn is not None), reverse=True)
    many = max(len(quiet) - kind.idle_max, int(share * len(quiet)))
    for number, (quiet_s, address) in enumerate(quiet):
        wanted_s = min(PRESSED_S, after_s) if number < many else after_s
        if quiet_s >= wanted_s:
            yield address, wanted_s
