"""Task lineage: which task of a handler is which, said in a way that comes out the same when the handler runs again.

The handler's own task has the path ``""``; the n-th task that a task starts has its parent's path plus ``.n``. A task factory
hands the paths out, so that gather, TaskGroup and every other way to start a task are counted; a thread started by
``to_thread`` inherits the path of its caller with the context.
"""

import asyncio
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import Any

import msgspec

_current: ContextVar["Lineage | None"] = ContextVar("regrow_lineage", default=None)


class Lineage:
    """One task's place in its handler, and what it has counted so far."""

    def __init__(self, path: str = "") -> None:
        self.path = path
        self._children = 0
        self._calls: Counter[tuple[str, str]] = Counter()

    def child(self) -> "Lineage":
        """The place of the next task that this task starts."""
        self._children += 1
        return Lineage(f"{self.path}.{self._children - 1}")

    def next_key(self, tool: str, digest: str) -> "StepKey":
        """The key of this task's next call of a tool with these arguments."""
        ordinal = self._calls[tool, digest]
        self._calls[tool, digest] += 1
        return StepKey(self.path, tool, digest, ordinal)


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


@contextmanager
def tracked(lineage: Lineage | None) -> Generator[None]:
    """Runs a block, and every task it starts, under this lineage; None: untracked, as a tool's body is."""
    token = _current.set(lineage)
    try:
        yield
    finally:
        _current.reset(token)


def task_factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
    """Makes a task as asyncio does; one that is started under a lineage becomes its next child."""
    parent = _current.get()
    if parent is not None:
        context = options.pop("context", None) or copy_context()
        context.run(_current.set, parent.child())
        options["context"] = context
    return asyncio.Task(coro, loop=loop, **options)
