"""A tool loop inside a handler: the tools are steps, and so are the model's replies where its `reply` is one."""

from collections.abc import Sequence

import pytest

from regrow.actors import Actor, Kind, Message, System, command, step, tool
from regrow.actors.records import Record, Steps
from regrow.bus import Address, MemoryBus, decode
from regrow.models import Assistant, Completion, Conversation, Offer, ToolCall, Usage, User, run
from regrow.testing import in_memory


@tool
async def milk(food: str) -> int:
    """Grams of milk in a food."""
    return len(food)


SAYS = (
    Assistant(calls=(ToolCall("a", "milk", '{"food":"brie"}'), ToolCall("b", "milk", '{"food":"gouda"}'))),
    Assistant(calls=(ToolCall("c", "answer", '{"value":9}'),)),
)


class Recorded:
    """A model whose replies are steps."""

    async def reply(self, conversation: Conversation, offers: Sequence[Offer]) -> Completion[Assistant]:
        async def said() -> Completion[Assistant]:
            return Completion(SAYS[0 if len(conversation.messages) == 1 else 1], Usage(), "scripted")

        completion: Completion[Assistant] = await step("model.reply", conversation, said, Completion[Assistant])
        return completion


class Ask(Message[int]):
    pass


class Cook(Actor):
    @command
    async def ask(self, msg: Ask) -> int:
        return (await run(Recorded(), Conversation("", (User("How much?"),)), [milk], int)).value


@pytest.mark.asyncio
async def test_in_a_handler_the_tools_and_the_replies_are_steps() -> None:
    bus = MemoryBus("cooking")
    async with in_memory(System("cooking", [Kind(actor=Cook)]).checked(), bus=bus) as node:
        assert await node.ref(Cook, "a").ask(Ask()) == 9
    records = [decode(each.data, Record, "record") for each in await bus.log.read(Address("cook", "a"))]
    steps = [each for record in records for entry in record.entries if isinstance(entry, Steps) for each in entry.steps]
    assert [each.tool for each in steps] == ["model.reply", "milk", "milk", "model.reply"]
