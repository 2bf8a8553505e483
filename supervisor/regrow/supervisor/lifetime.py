"""A supervisor's own life: entered, looked after by a task, left; the same for all sorts of supervisors.

The tree runs in a task that the supervisor owns from entering to leaving; each child runs in one of its own,
and the death of one does not touch the others.
"""

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from regrow.supervisor.errors import AlreadyRunning, Died, NotRunning
from regrow.supervisor.exits import Crashed, Exit, Shutdown
from regrow.supervisor.info import ChildCounts, ChildInfo, ChildState, TreeInfo
from regrow.supervisor.mortal import Mortal
from regrow.supervisor.refusals import ChildNotFound, ChildNotRunning
from regrow.supervisor.slot import Slot
from regrow.supervisor.spec import ChildSpec, RestartRule, Start
from regrow.supervisor.tree import Rules, Tree


class Lifetime:
    """What every supervisor offers: to be entered and left, run as a child, stopped, waited for and looked at."""

    def __init__(self, name: str, specs: Sequence[ChildSpec], rules: Rules, draw: Callable[[], float]) -> None:
        self.name = name
        self._specs = tuple(specs)
        self._rules = rules
        self._draw = draw
        self._tree: Tree | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._task is not None and not self._task.done():
            raise AlreadyRunning(self.name)
        self._tree = tree = Tree(self.name, self._specs, self._rules, self._draw)
        self._task = asyncio.create_task(tree.run(), name=f"supervisor {self.name}")
        self._task.add_done_callback(lambda _: tree.settled.set())
        try:
            await tree.settled.wait()
        except asyncio.CancelledError:
            await self._finish()
            raise
        if tree.is_stopping:
            await self._finish()
            await self.wait_stopped()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._finish()
        if error is None:
            await self.wait_stopped()

    async def run(self, start: Start) -> None:
        """Run as a child: ready when all children are, gone when stopped, dead when it gave up.

        Its exit is `Shutdown` when its significant children ended it, as in OTP.
        """
        start.offer(self.tree)
        async with self:
            start.ready()
            await self.wait_stopped()
        if self._tree is not None and self._tree.verdict == "auto_shutdown":
            raise Died(Shutdown())

    def child_spec(self, *, restart: RestartRule = "permanent", significant: bool = False) -> ChildSpec:
        """This supervisor as a child of another, which gives it all the time its own children may take."""
        return ChildSpec(
            id=self.name,
            run=self.run,
            restart=restart,
            shutdown="infinity",
            # A second more than theirs, so that the timeout that is seen is the one of the child at fault.
            start_timeout_s=sum(spec.start_timeout_s for spec in self._specs) + 1.0,
            significant=significant,
            type="supervisor",
        )

    async def wait_stopped(self) -> None:
        """Return when all children have been stopped; raises what the supervisor gave up with."""
        task = self._started_task()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    async def stop(self) -> None:
        """Stop all children and return when that is done.

        May be called more than once, and by a child, which is then cancelled while it waits here. Raises
        nothing of what the supervisor may have given up with.
        """
        task = self._ask_to_stop()
        await asyncio.wait([task])

    def which_children(self) -> tuple[ChildInfo, ...]:
        """Every child in start order; a temporary one that has ended is no longer listed, as in OTP."""
        return tuple(slot.info() for slot in self._slots())

    def count_children(self) -> ChildCounts:
        """How many children there are, how many of them have an incarnation that lives, and how many of each type."""
        slots = self._slots()
        supervisors = sum(slot.spec.type == "supervisor" for slot in slots)
        active = sum(slot.state in ("starting", "running") for slot in slots)
        return ChildCounts(len(slots), active, supervisors, len(slots) - supervisors)

    def get_childspec(self, id: str) -> ChildSpec:  # noqa: A002 - OTP's word, and the spec's
        """The spec of a child; raises `ChildNotFound`."""
        return self._slot(id).spec

    def child(self, id: str) -> Mortal:  # noqa: A002
        """The incarnation of a child that lives now, to be linked, monitored or ended; its successor is another.

        Raises `ChildNotFound`, and `ChildNotRunning` for one that is stopped or waits for its restart.
        """
        child = self._slot(id).child
        if child is None or child.exit is not None:
            raise ChildNotRunning(self.name, id)
        return child

    def tree(self) -> TreeInfo:
        """This supervisor and everything below it, as it is now; may be asked for at any time."""
        return TreeInfo(
            name=self.name,
            type="supervisor",
            strategy=self._rules.strategy,
            state=self._state(),
            restarts=0,
            cause=self._cause(),
            since=0.0 if self._tree is None else self._tree.since,
            children=tuple(slot.tree() for slot in self._slots()),
        )

    def _slots(self) -> Sequence[Slot]:
        return () if self._tree is None else tuple(self._tree.slots.values())

    def _slot(self, id: str) -> Slot:  # noqa: A002
        slot = None if self._tree is None else self._tree.slots.get(id)
        if slot is None:
            raise ChildNotFound(self.name, id)
        return slot

    def _state(self) -> ChildState:
        if self._tree is None or self._task is None or self._task.done():
            return "stopped"
        return "running" if self._tree.settled.is_set() else "starting"

    def _cause(self) -> Exit | None:
        if self._task is None or not self._task.done():
            return None
        error = None if self._task.cancelled() else self._task.exception()
        return Shutdown() if error is None else Crashed(error)

    def _running_tree(self) -> Tree:
        if self._tree is None:
            raise NotRunning(self.name)
        return self._tree

    def _started_task(self) -> asyncio.Task[None]:
        if self._task is None:
            raise NotRunning(self.name)
        return self._task

    def _ask_to_stop(self) -> asyncio.Task[None]:
        task = self._started_task()
        # A second cancellation would interrupt the stopping itself.
        if self._tree is not None and not self._tree.is_stopping:
            self._tree.is_stopping = True
            task.cancel()
        return task

    async def _finish(self) -> None:
        """Stop, and wait for the end through any cancellation, which is passed on afterwards."""
        task = self._ask_to_stop()
        interrupted: asyncio.CancelledError | None = None
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                interrupted = error
        if not task.cancelled():
            task.exception()  # seen, also where an error of the body is the one that goes on
        if interrupted is not None:
            raise interrupted
