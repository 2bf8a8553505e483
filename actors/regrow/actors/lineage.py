"""Task lineage: which task of a handler is which, said in a way that comes out the same when the handler runs again.

The handler's own task has the path ``""``; the n-th task that a task starts has its parent's path plus ``.n``. A task factory
hands the paths out, so that gather, TaskGroup and every other way to start a task are counted; a thread started by
``to_thread`` inherits the path of its caller with the context.
"""

import asyncio
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from typing import Any

import msgspec

_current: ContextVar["Lineage | None"] = ContextVar("regrow_lineage", default=None)


class Lineage:
    """One task's place in its handler, and what it has counted so far. ``Lineage()`` is the place of the handler's own."""

    def __init__(self, path: str = "", family: "set[asyncio.Task[Any]] | None" = None) -> None:
        self.path = path
        self.family: set[asyncio.Task[Any]] = set() if family is None else family
        """All tasks of the handler that run now, its own excepted."""
        self._ended = False
        self._children: list[Lineage] = []
        self._calls: Counter[tuple[str, str]] = Counter()

    def child(self) -> "Lineage":
        """The place of the next task that this task starts."""
        child = Lineage(f"{self.path}.{len(self._children)}", self.family)
        self._children.append(child)
        return child

    def follow(self, task: asyncio.Task[Any]) -> None:
        """Notes the task that has this place, until it ends."""
        self.family.add(task)
        task.add_done_callback(self._end)

    def is_over(self, path: str) -> bool:
        """Whether the task at this path below has ended, or can never start because one above it has."""
        node = self
        for position in path.split(".")[1:]:
            if int(position) >= len(node._children):
                break
            node = node._children[int(position)]
        return node._ended

    def next_key(self, tool: str, digest: str) -> "StepKey":
        """The key of this task's next call of a tool with these arguments."""
        ordinal = self._calls[tool, digest]
        self._calls[tool, digest] += 1
        return StepKey(self.path, tool, digest, ordinal)

    def _end(self, task: asyncio.Task[Any]) -> None:
        self._ended = True
        self.family.discard(task)


class StepKey(msgspec.Struct, frozen=True):
    """What identifies a step within its turn: task lineage, tool, hash of the arguments, ordinal among equal calls."""

    path: str
    tool: str
    digest: str
    ordinal: int

    def __str__(self) -> str:
        return f"{self.path}/{self.tool}/{self.digest}/{self.ordinal}"


def path_of(key: str) -> str:
    """The lineage path in a step key's text."""
    return key.partition("/")[0]


def current() -> Lineage:
    """The lineage of the running task; a fresh root where nothing tracks it."""
    return _current.get() or Lineage()


def rooted(lineage: Lineage) -> Context:
    """An empty context whose code runs under this lineage."""
    context = Context()
    context.run(_current.set, lineage)
    return context


@contextmanager
def untracked() -> Generator[None]:
    """Runs a block, and every task it starts, under no lineage, as a tool's body is run."""
    token = _current.set(None)
    try:
        yield
    finally:
        _current.reset(token)


def task_factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
    """Makes a task as asyncio does; one that is started under a lineage becomes its next child."""
    parent = _current.get()
    if parent is None:
        return asyncio.Task(coro, loop=loop, **options)
    child = parent.child()
    context = options.pop("context", None) or copy_context()
    context.run(_current.set, child)
    task = asyncio.Task(coro, loop=loop, context=context, **options)
    child.follow(task)
    return task
