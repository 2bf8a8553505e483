"""The place of one child in its supervisor, through all its incarnations."""

import asyncio

from regrow.supervisor.child import Child
from regrow.supervisor.exits import Exit
from regrow.supervisor.info import ChildInfo, ChildState, Detail, TreeInfo
from regrow.supervisor.spec import ChildSpec


class Slot:
    """A spec, the child that runs by it now, and what became of those before; changed by the tree alone.

    `child` is None between a death and the next start. `restarting` says that there will be one: `due` is then the
    timer it waits for, or None when only the supervisor has to get to it. `leaving`: it is terminated, and will
    be forgotten when the child has gone.
    """

    __slots__ = ("attempt", "child", "due", "last", "leaving", "name", "restarting", "restarts", "since", "spec")

    def __init__(self, spec: ChildSpec, name: str, now: float) -> None:
        self.spec = spec
        self.name = name
        self.child: Child | None = None
        self.restarts = 0
        self.last: Exit | None = None
        self.attempt = 0
        self.restarting = False
        self.due: asyncio.TimerHandle | None = None
        self.leaving = False
        self.since = now

    @property
    def state(self) -> ChildState:
        if self.restarting:
            return "restarting"
        if self.child is None or self.child.exit is not None:
            return "stopped"
        return "running" if self.child.ready_at is not None else "starting"

    @property
    def lives(self) -> bool:
        """It has a child, though that may have died a moment ago and wait for its burial, or it will have one."""
        return self.restarting or self.child is not None

    def settle(self) -> None:
        """It waits for no restart any more."""
        self.restarting = False
        if self.due is not None:
            self.due.cancel()
            self.due = None

    def bury(self, cause: Exit, now: float) -> None:
        """Its child has ended."""
        self.child, self.last, self.since = None, cause, now

    def info(self) -> ChildInfo:
        return ChildInfo(self.name, self.state, self.restarts, self.last)

    def tree(self) -> TreeInfo:
        """Itself, and what its child offers to be shown."""
        child, seen = self.child, None
        if child is not None and child.insight is not None and child.exit is None:
            seen = child.insight()
        inner, detail = (seen, _NOTHING) if isinstance(seen, TreeInfo) else (None, seen or _NOTHING)
        return TreeInfo(
            name=self.name,
            type=self.spec.type,
            strategy=inner.strategy if inner else None,
            state=self.state,
            restarts=self.restarts,
            cause=self.last,
            since=child.ready_at if child is not None and child.ready_at is not None else self.since,
            children=inner.children if inner else (),
            detail=detail,
        )


_NOTHING: Detail = {}
