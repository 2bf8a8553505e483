"""Groups: names that many share, after OTP's `pg` on one node. An object is what `pg` calls a scope.

Belongs to one event loop, and nothing here waits but who reads a monitor's changes.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from regrow.supervisor.exits import Exit
from regrow.supervisor.feed import Feed
from regrow.supervisor.mortal import Mortal

PENDING_MAX: Final = 1_000
"""Changes that wait for one who monitors a group."""


@dataclass(frozen=True, slots=True)
class Joined:
    """A member has joined, once more if it had before."""

    group: str
    member: Mortal


@dataclass(frozen=True, slots=True)
class Left:
    """One membership has ended; `cause` is how the member died, None when it left alive."""

    group: str
    member: Mortal
    cause: Exit | None


class Changes(Feed[Joined | Left]):
    """What happens to a group from `members` on, the members at the time when it was first monitored; see `Feed`."""

    def __init__(self, name: str, pending_max: int, members: tuple[Mortal, ...]) -> None:
        super().__init__(name, pending_max)
        self.members = members


class Groups:
    """Who is in which group. A group is there while it has members; they leave all groups when they die.

    As in `pg` one may join a group several times, counts as often, and has to leave as often.
    """

    def __init__(self) -> None:
        self._groups: dict[str, dict[Mortal, int]] = {}
        self._joined: dict[Mortal, dict[str, None]] = {}
        self._monitors: dict[str | None, dict[Changes, None]] = {}

    def join(self, group: str, *members: Mortal) -> None:
        """Adds members; one that is dead joins and leaves at once, which who monitors the group sees."""
        for member in members:
            counts = self._groups.setdefault(group, {})
            counts[member] = counts.get(member, 0) + 1
            self._tell(Joined(group, member))
            self._joined.setdefault(member, {})[group] = None
            member.watch(_Departed(self, member))

    def leave(self, group: str, *members: Mortal) -> bool:
        """Ends one membership of each; False when one of them had none, while the others have left."""
        left = [self._leave(group, member) for member in members]
        return all(left)

    def members(self, group: str) -> tuple[Mortal, ...]:
        """Those in it, in the order of their first joining, each as often as it has joined."""
        counts = self._groups.get(group, {})
        return tuple(member for member, count in counts.items() if member.exit is None for _ in range(count))

    def which_groups(self) -> tuple[str, ...]:
        """The groups that have members."""
        return tuple(group for group, counts in self._groups.items() if any(each.exit is None for each in counts))

    @contextmanager
    def monitor(self, group: str | None = None, *, pending_max: int = PENDING_MAX) -> Generator[Changes]:
        """Its members now, and every change from then on while the block runs; without a group the changes of all.

            with groups.monitor("workers") as changes:
                async for change in changes: ...

        Monitors are independent of each other. After the block what was not read can still be read.
        """
        title = "all groups" if group is None else f"group {group}"
        changes = Changes(title, pending_max, () if group is None else self.members(group))
        self._monitors.setdefault(group, {})[changes] = None
        try:
            yield changes
        finally:
            changes.close()
            del self._monitors[group][changes]
            if not self._monitors[group]:
                del self._monitors[group]

    def bury(self, member: Mortal, cause: Exit) -> None:
        """Takes the dead out of all groups; its death calls this."""
        for group in tuple(self._joined.get(member, ())):
            while self._leave(group, member, cause):
                pass

    def _leave(self, group: str, member: Mortal, cause: Exit | None = None) -> bool:
        counts = self._groups.get(group)
        if counts is None or member not in counts:
            return False
        counts[member] -= 1
        if not counts[member]:
            self._part(group, member, counts)
        self._tell(Left(group, member, cause))
        return True

    def _part(self, group: str, member: Mortal, counts: dict[Mortal, int]) -> None:
        del counts[member]
        if not counts:
            del self._groups[group]
        del self._joined[member][group]
        if not self._joined[member]:
            del self._joined[member]
            member.unwatch(_Departed(self, member))

    def _tell(self, change: Joined | Left) -> None:
        for about in (change.group, None):
            for changes in self._monitors.get(about, ()):
                changes.put(change)


@dataclass(frozen=True, slots=True)
class _Departed:
    """What groups want to be told of a member's death."""

    groups: Groups
    member: Mortal

    def __call__(self, cause: Exit) -> None:
        self.groups.bury(self.member, cause)
