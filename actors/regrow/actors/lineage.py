"""Task lineage: which task of a handler is which, said in a way that comes out the same when the handler runs again.

The handler's own task has the path ``""`` (``"c2"`` behind its second checkpoint); the n-th task that a task starts has its parent's path plus ``.n``. A task factory
hands the paths out, so that gather, TaskGroup and every other way to start a task are counted; a thread started by
``to_thread`` inherits the path of its caller with the context.

Two functions of asyncio need a second look. ``as_completed`` starts its coroutines in the order of a set, which is chance: they
are numbered in the order in which they were given. ``wait_for`` makes a task up to Python 3.11 and none later: its task counts
as the one that waits for it, so that a journal can be read by another version.
"""

import asyncio
import inspect
import sys
from collections.abc import Iterable, Sequence
from contextvars import Context, ContextVar, Token, copy_context
from types import CodeType, FrameType
from typing import Any, cast

import msgspec

from regrow.actors.errors import ActorError

_current: ContextVar["Lineage | object | None"] = ContextVar("regrow_lineage", default=None)
"""The lineage of the running task, or what stands there in its place."""


_WAIT_FOR: CodeType | None = asyncio.wait_for.__code__ if sys.version_info < (3, 12) else None
_ITERATOR: Any = getattr(asyncio.tasks, "_AsCompletedIterator", None)  # from Python 3.13 on
_AS_COMPLETED: CodeType = (asyncio.as_completed if _ITERATOR is None else _ITERATOR.__init__).__code__


class Lineage:
    """One task's place in its handler, and what it has counted so far. ``Lineage()`` is the place of the handler's own."""

    __slots__ = (
        "_calls",
        "_children",
        "_ended",
        "_given",
        "family",
        "path",
    )

    def __init__(self, path: str = "", family: "dict[asyncio.Task[Any], None] | None" = None) -> None:
        self.path = path
        self.family: dict[asyncio.Task[Any], None] = {} if family is None else family
        """All tasks of the handler that run now, its own excepted."""
        self._ended = False
        self._children: list[Lineage] = []
        self._given: tuple[Sequence[object], int] = ((), 0)
        self._calls: dict[str, int] = {}

    def child(self) -> "Lineage":
        """The place of the next task that this task starts."""
        child = Lineage(f"{self.path}.{len(self._children)}", self.family)
        self._children.append(child)
        return child

    def child_among(self, given: Sequence[object], coroutine: object) -> "Lineage":
        """The place of a task that is one of several given together, whatever the order in which they start."""
        if self._given[0] is not given:
            self._given = given, len(self._children)
            for _ in given:
                self.child()
        position = next(index for index, each in enumerate(given) if each is coroutine)
        return self._children[self._given[1] + position]

    def follow(self, task: asyncio.Task[Any]) -> None:
        """Notes the task that has this place, until it ends."""
        self.family[task] = None
        task.add_done_callback(self._end)

    def forget(self, task: asyncio.Task[Any]) -> None:
        """A task has ended that counted as this one."""
        self.family.pop(task, None)

    def is_over(self, path: str) -> bool:
        """Whether the task at this path below has ended, or can never start because one above it has."""
        node = self
        for position in path.split(".")[1:]:
            if int(position) >= len(node._children):
                break
            node = node._children[int(position)]
        return node._ended

    def begin_anew(self, path: str) -> None:
        """From here on the task counts as one that has just begun, under this path."""
        self.path = path
        self._children, self._given, self._calls = [], ((), 0), {}

    def next_key(self, tool: str, digest: str) -> "StepKey":
        """The key of this task's next call of a tool with these arguments, or with what stands for them."""
        call = f"{tool}/{digest}"
        ordinal = self._calls.get(call, 0)
        self._calls[call] = ordinal + 1
        return StepKey(self.path, call, f"{self.path}/{call}/{ordinal}")

    def _end(self, task: asyncio.Task[Any]) -> None:
        self._ended = True
        self.family.pop(task, None)


def place_of(parent: Lineage, coroutine: object, factory: FrameType | None) -> Lineage:
    """The place of a task that the factory's caller starts: the parent's next child, except for what asyncio does by itself."""
    frame = factory and factory.f_back
    while frame is not None and str(frame.f_globals.get("__name__")).startswith("asyncio"):
        if frame.f_code is _WAIT_FOR:
            return parent
        if frame.f_code is _AS_COMPLETED:
            given: object = frame.f_locals.get("fs", frame.f_locals.get("aws"))
            if not isinstance(given, Sequence):
                for each in cast(Iterable[object], given):
                    if inspect.iscoroutine(each):
                        each.close()
                raise ActorError(
                    "in a handler give as_completed a list: it starts the coroutines of anything else by chance"
                )
            return parent.child_among(cast(Sequence[object], given), coroutine)
        frame = frame.f_back
    return parent.child()


class StepKey(msgspec.Struct, frozen=True, gc=False):
    """What identifies a step within its turn: task lineage, tool, hash of the arguments, ordinal among equal calls."""

    path: str
    call: str
    """Tool and hash: equal calls have the same."""
    text: str
    """All of it, as the log has it."""

    @staticmethod
    def of(path: str, tool: str, digest: str, ordinal: int) -> "StepKey":
        """The key with its text."""
        call = f"{tool}/{digest}"
        return StepKey(path, call, f"{path}/{call}/{ordinal}")


def root_path(checkpoints: int) -> str:
    """The path of the handler's own task behind so many checkpoints: what it does there is not what it did before."""
    return f"c{checkpoints}" if checkpoints else ""


def path_of(key: str) -> str:
    """The lineage path in a step key's text."""
    return key.partition("/")[0]


def current() -> Lineage:
    """The lineage of the running task; a fresh root where nothing tracks it."""
    found = _current.get()
    return found if isinstance(found, Lineage) else Lineage()


def rooted(lineage: Lineage) -> Context:
    """An empty context whose code runs under this lineage."""
    context = Context()
    context.run(_current.set, lineage)
    return context


def untrack(instead: object = None) -> Token["Lineage | object | None"]:
    """From here on, until ``track_again``, every task is started under no lineage, as a tool's body wants it."""
    return _current.set(instead)


def track_again(token: Token["Lineage | object | None"]) -> None:
    """Ends what ``untrack`` began."""
    _current.reset(token)


def untracked_by(context: Context | None = None) -> object:
    """What ``untrack`` was given here, or in that context; a lineage, or None, where nothing is untracked."""
    return _current.get() if context is None else context.get(_current)


def task_factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
    """Makes a task as asyncio does; one that is started under a lineage becomes its next child."""
    parent = _current.get()
    if not isinstance(parent, Lineage):
        return asyncio.Task(coro, loop=loop, **options)
    child = place_of(parent, coro, inspect.currentframe())
    context = options.pop("context", None) or copy_context()
    context.run(_current.set, child)
    task = asyncio.Task(coro, loop=loop, context=context, **options)
    if child is parent:
        parent.family[task] = None
        task.add_done_callback(parent.forget)
    else:
        child.follow(task)
    return task
