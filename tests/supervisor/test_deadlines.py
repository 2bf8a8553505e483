"""The one timer for all that are starting."""

import asyncio

import pytest
from tests.supervisor.puppet import now

from regrow.supervisor.deadlines import Deadlines

pytestmark = pytest.mark.asyncio


class Late:
    """Notes when it was told that it is late."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def overdue(self) -> None:
        self.at.append(now())


async def test_each_is_told_at_its_own_time() -> None:
    deadlines, a, b, c = Deadlines(), Late(), Late(), Late()
    for who, at in ((b, 2.0), (a, 1.0), (c, 2.0)):
        deadlines.put(who, at)
    await asyncio.sleep(5.0)
    assert (a.at, b.at, c.at) == ([1.0], [2.0], [2.0])


async def test_who_was_dropped_is_not_told() -> None:
    deadlines, a, b = Deadlines(), Late(), Late()
    deadlines.put(a, 1.0)
    deadlines.put(b, 2.0)
    deadlines.drop(a)
    deadlines.drop(a)
    await asyncio.sleep(5.0)
    assert (a.at, b.at) == ([], [2.0])


async def test_the_same_one_may_be_put_again() -> None:
    deadlines, a = Deadlines(), Late()
    deadlines.put(a, 1.0)
    deadlines.put(a, 3.0)
    await asyncio.sleep(5.0)
    assert a.at == [3.0]


async def test_nobody_is_told_after_the_close() -> None:
    deadlines, a = Deadlines(), Late()
    deadlines.put(a, 1.0)
    deadlines.close()
    await asyncio.sleep(5.0)
    assert a.at == []
