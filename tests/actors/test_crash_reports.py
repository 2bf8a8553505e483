"""Crash reports name what failed and where, never what was said, and many alike are one line."""

from collections.abc import MutableMapping
from typing import Any

import pytest

from regrow.actors import Actor, Kind, Message, Policy, System, command
from regrow.actors.crash_reports import Crash, CrashReports
from regrow.actors.errors import AskFailed
from regrow.bus import Address, MemoryBus
from regrow.supervisor import Backoff

pytestmark = pytest.mark.asyncio
SECRET = "4711"


class Pay(Message[int]):
    """Fails, and says too much."""

    card: str


class Till(Actor):
    """Raises what holds a secret."""

    @command
    async def pay(self, msg: Pay) -> int:
        raise ValueError(f"no such card: {msg.card}")


def crash(number: int, error: Exception | None = None, *, again: bool = True) -> Crash:
    return Crash(Address("till", str(number)), "Pay", error or ValueError(SECRET), 1, again)


def lines(logged: list[MutableMapping[str, Any]]) -> list[MutableMapping[str, Any]]:
    return [each for each in logged if each["event"] == "turn failed"]


async def test_the_first_is_said_at_once_and_those_like_it_are_counted(logged: list[MutableMapping[str, Any]]) -> None:
    reports = CrashReports()
    for number in range(1_000):
        reports.failed(crash(number))
    reports.failed(crash(1, KeyError()))
    reports.failed(crash(1, again=False))
    assert [(each["error"], each["again"], each.get("repeated")) for each in lines(logged)] == [
        ("ValueError", True, None),
        ("KeyError", True, None),
        ("ValueError", False, None),
    ]
    reports.close()
    assert [(each["actor"], each["repeated"]) for each in lines(logged)[3:]] == [("till/999", 999)]
    reports.failed(crash(2))
    assert len(lines(logged)) == 5
    reports.close()


async def test_a_report_says_where_and_never_what(logged: list[MutableMapping[str, Any]], app_name: str) -> None:
    kind = Kind(actor=Till, policy=Policy(attempts_max=2, backoff=Backoff(first_s=0)))
    async with System(app_name, [kind]).host(MemoryBus(app_name)) as node:
        with pytest.raises(AskFailed, match=SECRET):
            await node.ref(Till, "a").ask(Pay(card=SECRET))
    said = lines(logged)
    assert [(each["actor"], each["message"], each["error"], each["attempt"], each["again"]) for each in said] == [
        ("till/a", "Pay", "ValueError", 1, True),
        ("till/a", "Pay", "ValueError", 2, False),
    ]
    assert said[0]["frames"][-1].endswith(" pay")
    assert SECRET not in str(said)
