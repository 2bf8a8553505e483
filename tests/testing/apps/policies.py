"""An actor whose tools run once, are tried again and have keys, and whose handler puts down where it is."""

import asyncio
from typing import Any

import msgspec

from regrow.actors import (
    Actor,
    Event,
    Kind,
    Message,
    NotDone,
    Policy,
    Retry,
    StepFailed,
    System,
    command,
    current_step,
    event,
    tool,
)
from regrow.supervisor import Backoff
from regrow.testing import Outside

BANK: dict[str, int] = {}
"""The outside: what was paid, by order; no process takes it along when it dies."""


class Order(Message[list[int]]):
    parts: int


class Bought(Event):
    cents: list[int]


class Progress(msgspec.Struct):
    cents: list[int]


async def look_up(order: str) -> int:
    if order not in BANK:
        raise NotDone("no such payment")
    return BANK[order]


@tool(effect="once", verify=look_up)
async def pay(order: str) -> int:
    BANK[order] = BANK.get(order, 0) + 5
    await asyncio.sleep(0)
    return BANK[order]


@tool(retry=Retry(attempts=4, backoff=Backoff(first_s=1.0)))
async def weigh(part: int) -> int:
    context = current_step()
    if context is None or context.attempt < 2:
        raise ConnectionError("try again")
    if context.attempt == 2:
        raise StepFailed("throttled", "Busy", "later", retry_after_s=3.0)
    return part


@tool(approve=True, redact=("token",))
async def pack(part: int, token: str) -> int:
    return part


class Buyer(Actor):
    bought: list[int] = []

    @command
    async def order(self, msg: Order) -> list[int]:
        at = self.checkpointed(Progress) or Progress([])
        for part in range(len(at.cents), msg.parts):
            paid = await pay(f"{self.key}-{part}")
            one, other = await asyncio.gather(weigh.using(key="one")(part), weigh.using(key="other")(part))
            at.cents.append(paid + one + other + await pack(part, token="secret"))
            await self.checkpoint(at)
        last = await pay(f"{self.key}-last")
        self.emit(Bought(cents=[*at.cents, last]))
        return [*at.cents, last]

    @event
    def on_bought(self, fact: Bought) -> None:
        self.bought += fact.cents


class Human:
    async def approve(self, tool: str, arguments: dict[str, Any], actor: str) -> bool:
        assert arguments["token"] == "***"
        return True


app = System(
    "policies",
    [Kind(actor=Buyer, policy=Policy(backoff=Backoff(first_s=0.0), deaths_max=1_000))],
    ports={"human": Human()},
)


async def scenario(outside: Outside) -> Any:
    BANK.clear()
    answer = await outside.ref(Buyer, "a").ask(Order(parts=2))
    return answer, dict(BANK)
