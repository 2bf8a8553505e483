"""A stage: one event loop on which a server, its clients and processes that die play together.

Everything that a process starts belongs to it, however it is started. When it dies, nothing of it runs any more, not even a
``finally``: its tasks stay where they are, as if the loop had forgotten them, until the run is over and they are swept away.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager, suppress
from contextvars import Context
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary

from regrow.actors.step import Stepping, current_handler, serve
from regrow.testing.virtual_time import EndlessLoop, Stalled, VirtualLoop

T = TypeVar("T")
LeftOver = tuple[Callable[..., object], tuple[Any, ...], Context | None]


class Player(Protocol):
    """A process on the stage."""

    dead: bool
    left_over: "list[LeftOver]"
    """What it was about to run when it died."""

    def resumes(self) -> None:
        """A handler of it is about to go on after an await."""
        ...

    def watched(self, handler: Stepping) -> Stepping:
        """What the steps of a handler are given to, so that they are seen."""
        ...


class Stage(VirtualLoop):
    """A loop in virtual time that knows whose code runs. Outside of any process are the server and the clients."""

    def __init__(self) -> None:
        self._player: Player | None = None
        self._of_task: WeakKeyDictionary[asyncio.Task[Any], Player | None] = WeakKeyDictionary()
        self.swept = False
        """Whether the play is over, and the dead may end their tasks."""
        super().__init__()

    @contextmanager
    def playing(self, player: Player | None) -> Generator[None]:
        """What is started while the block runs belongs to that process; None: to nobody who dies."""
        before, self._player = self._player, player
        try:
            yield
        finally:
            self._player = before

    def is_over(self) -> None:
        """From now on the dead may end their tasks, and what goes wrong with that has no meaning."""
        self.swept = True
        self.set_exception_handler(lambda loop, context: None)

    async def sweep(self, player: Player, timeout_s: float) -> None:
        """Ends what a dead process has left lying, once nothing that it does can matter."""
        assert self.swept
        player.dead = True
        tasks = [task for task, owner in list(self._of_task.items()) if owner is player and not task.done()]
        for task in tasks:
            task.cancel()
        for callback, args, context in player.left_over:
            super().call_soon(callback, *args, context=context)
        player.left_over.clear()
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Runs a callback soon, if its process lives by then."""
        return super().call_soon(self._owned(callback, context), *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Runs a callback at that time, if its process lives by then."""
        return super().call_at(when, self._owned(callback, context), *args, context=context)

    def _owned(self, callback: Callable[..., object], context: Context | None) -> Callable[..., object]:
        owner: asyncio.Task[Any] | None = getattr(callback, "__self__", None)
        if isinstance(owner, asyncio.Task) and context is not None:
            handler = current_handler(context)
            if owner not in self._of_task:
                self._enrol(owner, handler, context)
            player = self._of_task[owner]
            return _Owned(self, player, callback, context, is_handler=handler is not None)
        return _Owned(self, self._player, callback, context)

    def _enrol(self, task: asyncio.Task[Any], handler: Stepping | None, context: Context) -> None:
        """A task begins: it belongs to whoever made it. (Where it is made is nothing to touch: its lineage is read off the stack.)"""
        player = self._of_task[task] = self._player
        if player is not None and handler is not None:
            serve(player.watched(handler), context)


class _Owned:
    """A callback of somebody: it runs as his, or not at all."""

    __slots__ = ("_callback", "_context", "_is_handler", "_player", "_stage")

    def __init__(
        self,
        stage: Stage,
        player: Player | None,
        callback: Callable[..., object],
        context: Context | None,
        *,
        is_handler: bool = False,
    ) -> None:
        self._stage = stage
        self._player = player
        self._callback = callback
        self._context = context
        self._is_handler = is_handler

    def __repr__(self) -> str:
        return repr(self._callback)

    def __call__(self, *args: Any) -> None:
        player, stage = self._player, self._stage
        if player is not None and not stage.swept:
            if not player.dead and self._is_handler:
                player.resumes()
            if player.dead:
                player.left_over.append((self._callback, args, self._context))
                return
        with stage.playing(player):
            self._callback(*args)


class Served(Generic[T]):
    """A call to the server out of a process's task: what the server starts meanwhile is not the process's, and outlives it."""

    def __init__(self, stage: Stage, call: Awaitable[T]) -> None:
        self._stage = stage
        self._call = call

    def __await__(self) -> Generator[Any, Any, T]:
        steps: Any = self._call.__await__()
        thrown: BaseException | None = None
        while True:
            try:
                with self._stage.playing(None):
                    waits_for = next(steps) if thrown is None else steps.throw(thrown)
            except StopIteration as end:
                value: T = end.value
                return value
            thrown = None
            try:
                yield waits_for
            except BaseException as error:
                thrown = error


def run_on_stage(main: Callable[[Stage], Coroutine[Any, Any, T]]) -> T:
    """The result of a play on a stage of its own; the calling thread must have no running loop.

    Tasks that will not end when they are swept away are left behind with the loop.
    """
    stage = Stage()
    try:
        return stage.run_until_complete(main(stage))
    finally:
        stage.is_over()
        left = asyncio.all_tasks(stage)
        for task in left:
            task.cancel()
        with suppress(EndlessLoop, Stalled):
            if left:
                stage.run_until_complete(asyncio.wait(left, timeout=1.0))
            stage.run_until_complete(stage.shutdown_asyncgens())
            stage.run_until_complete(stage.shutdown_default_executor())
        for task in asyncio.all_tasks(stage):
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is known, and nobody's fault
        stage.close()
