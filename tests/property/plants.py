"""Bugs to be found: each breaks one promise of the step core for as long as its block runs."""

import asyncio
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

from regrow.actors.journal import Journal
from regrow.actors.lineage import Lineage
from regrow.actors.records import Entry, Steps
from regrow.actors.writer import Writer


@contextmanager
def keys_by_content_only() -> Generator[None]:
    """Every task has the place of the handler's own: equal calls are told apart by the order in which they are made."""

    def child(self: Lineage) -> Lineage:
        return self

    def child_among(self: Lineage, given: object, coroutine: object) -> Lineage:
        return self

    with patch.object(Lineage, "child", child), patch.object(Lineage, "child_among", child_among):
        yield


@contextmanager
def outcomes_at_once() -> Generator[None]:
    """An outcome answers as soon as it is asked for, whatever came first."""

    async def arrive(self: Journal, position: int) -> None:
        self.give_up(position)

    with patch.object(Journal, "arrive", arrive):
        yield


@contextmanager
def shown_before_stored() -> Generator[None]:
    """A handler goes on while the record of what it has seen is still on its way."""
    submit = Writer.submit

    def early(self: Writer, *entries: Entry, **more: Any) -> asyncio.Future[None]:
        stored = submit(self, *entries, **more)
        if isinstance(entries[-1], Steps):
            stored = asyncio.get_running_loop().create_future()
            stored.set_result(None)
        return stored

    with patch.object(Writer, "submit", early):
        yield


PLANTS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "keys": keys_by_content_only,
    "order": outcomes_at_once,
    "early": shown_before_stored,
}
