"""The one_for_one supervisor: it starts children in order, restarts those that die, stops them in reverse.

The tree runs in a task that the supervisor owns from entering to leaving; each child runs in one of its own,
and the death of one does not touch the others.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NoReturn, Self

from regrow.supervisor.errors import AlreadyRunning, NotRunning
from regrow.supervisor.intensity import Intensity
from regrow.supervisor.spec import ChildSpec, Restart, Start, check_children
from regrow.supervisor.tree import ChildInfo, Tree


class Supervisor:
    """Children that are restarted when they die, each on its own (one_for_one).

        async with Supervisor("root", children=[ChildSpec(id="gateway", run=serve)]) as tree:
            await tree.wait_stopped()

    Entering starts the children in order, each after the one before it is ready; when one fails, those
    already started are stopped in reverse and `StartFailed` is raised. Leaving stops all in reverse. When
    children die more often than `intensity` allows, the others are stopped in reverse and
    `RestartIntensityReached` is raised by `wait_stopped` and by leaving, with the last child's error as its
    cause.

    A supervisor whose children are all gone goes on, as in OTP. One that has stopped may be started again and
    begins afresh, which is how `child_spec()` makes it a child of another. `draw` gives the backoff's jitter.
    """

    def __init__(
        self,
        name: str,
        *,
        children: Sequence[ChildSpec],
        intensity: Intensity = Intensity(),  # noqa: B008 - a frozen value
        draw: Callable[[], float] = random.random,
    ) -> None:
        check_children(children)
        self.name = name
        self._specs = tuple(children)
        self._intensity = intensity
        self._draw = draw
        self._tree: Tree | None = None
        self._task: asyncio.Task[NoReturn] | None = None

    async def __aenter__(self) -> Self:
        if self._task is not None and not self._task.done():
            raise AlreadyRunning(self.name)
        self._tree = tree = Tree(self.name, self._specs, self._intensity, self._draw)
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
        """Run as a child: ready when all children are, gone when stopped, dead when it gave up."""
        async with self:
            start.ready()
            await self.wait_stopped()

    def child_spec(self, *, restart: Restart = "permanent") -> ChildSpec:
        """This supervisor as a child of another, which gives it all the time its own children may take."""
        return ChildSpec(
            id=self.name,
            run=self.run,
            restart=restart,
            shutdown="infinity",
            # A second more than theirs, so that the timeout that is seen is the one of the child at fault.
            start_timeout_s=sum(spec.start_timeout_s for spec in self._specs) + 1.0,
        )

    async def wait_stopped(self) -> None:
        """Return when all children have been stopped; raises what the supervisor gave up with."""
        task = self._started_task()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    async def stop(self) -> None:
        """Stop all children in reverse and return when that is done.

        May be called more than once, and by a child, which is then cancelled while it waits here. Raises
        nothing of what the supervisor may have given up with.
        """
        task = self._ask_to_stop()
        await asyncio.wait([task])

    def which_children(self) -> tuple[ChildInfo, ...]:
        """Every child in start order; a temporary one that has ended is no longer listed, as in OTP."""
        return () if self._tree is None else self._tree.which_children()

    def _started_task(self) -> asyncio.Task[NoReturn]:
        if self._task is None:
            raise NotRunning(self.name)
        return self._task

    def _ask_to_stop(self) -> asyncio.Task[NoReturn]:
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
