"""A model that calls tools until it has its answer.

The tools of one reply run at once, each reply waits for all of them. Nothing is kept between calls: whoever is cancelled or
dies on the way still has the conversation that he began with, whole.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar, cast

import msgspec

from regrow.models.conversation import Assistant, Conversation, ToolCall, ToolResult, User
from regrow.models.conversation_rules import NO_ANSWER, check, repaired
from regrow.models.offer import Offer
from regrow.models.port import Completion, SemanticError
from regrow.models.schema import answer_type

T = TypeVar("T")

ANSWER = "answer"
"""The tool by which the model gives its answer; no other may have this name."""
CALL_IT = f"Give your answer by calling the tool `{ANSWER}`."

Function = Callable[..., Awaitable[Any]]


class Replies(Protocol):
    """A model that can be offered tools: `OpenAIModel` and `AnthropicModel` are such."""

    async def reply(self, conversation: Conversation, offers: Sequence[Offer]) -> Completion[Assistant]:
        """What the model says next, and which tools it wants called; raises a `ModelError`."""
        ...


class Ran(msgspec.Struct, Generic[T], frozen=True):
    """The value, the conversation with the whole turn in it, and what each reply was."""

    value: T
    conversation: Conversation
    replies: tuple[Completion[Assistant], ...]


async def run(
    model: Replies,
    conversation: Conversation,
    tools: Sequence[Function],
    returns: type[T],
    *,
    raises: tuple[type[Exception], ...] = (),
    replies_max: int = 20,
) -> Ran[T]:
    """The model's answer as a `returns`, after as many calls of the tools as it wants.

    What a tool raises of `raises` is told to the model as the result of its call, and so are the validator's words about
    arguments or an answer that do not fit; anything else that a tool raises is raised here. Raises `SemanticError` where
    `replies_max` replies have brought no answer, a `ModelError`, or `ValueError` for two tools of one name
    and for a conversation that is not whole or does not end with the user.
    """
    functions = {Offer.of(tool).name: tool for tool in tools}
    offers = [*map(Offer.of, tools), Offer(ANSWER, "Give the answer. Call it last.", answer_type(returns))]
    if len({offer.name for offer in offers}) != len(offers):
        raise ValueError(f"tools need names of their own, and none may be {ANSWER!r}")
    if check(conversation) or not isinstance(next(reversed(conversation.messages), None), User):
        raise ValueError("a run begins with what the user says, in a conversation that `check` has nothing against")
    types = {offer.name: offer.arguments for offer in offers}
    replies: list[Completion[Assistant]] = []
    while len(replies) < replies_max:
        replies.append(await model.reply(conversation, offers))
        conversation, calls = _with_reply(conversation, replies[-1].value)
        answers = [call for call in calls if call.tool == ANSWER]
        results = await _all_of(calls, functions, types, raises)
        conversation = conversation.appended(*results)
        taken = next(
            (call for call, result in zip(calls, results, strict=True) if call in answers and not result.is_error), None
        )
        if taken is not None:
            value: T = cast(Any, msgspec.json.decode(taken.arguments, type=types[ANSWER])).value
            return Ran(value, conversation.appended(Assistant(taken.arguments)), tuple(replies))
        if not calls:
            conversation = conversation.appended(User(CALL_IT))
    last = replies[-1]
    raise SemanticError(last.model, last.value.text, f"{replies_max} replies have brought no answer")


def _with_reply(conversation: Conversation, reply: Assistant) -> tuple[Conversation, tuple[ToolCall, ...]]:
    """With the reply as every provider takes it back, and its calls, whose results are still to come."""
    says = reply if reply.calls or reply.text.strip() else Assistant(NO_ANSWER)
    before = len(conversation.messages)
    said = repaired(conversation.appended(says)).messages[before]
    assert isinstance(said, Assistant)  # what came before was whole and ended with the user or with results
    return conversation.appended(said), said.calls


async def _all_of(
    calls: Sequence[ToolCall],
    functions: Mapping[str, Function],
    types: Mapping[str, type[msgspec.Struct]],
    raises: tuple[type[Exception], ...],
) -> list[ToolResult]:
    """The results in the order of the calls; the first failure that is nobody's to hear cancels the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_called(call, functions, types, raises)) for call in calls]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


async def _called(
    call: ToolCall,
    functions: Mapping[str, Function],
    types: Mapping[str, type[msgspec.Struct]],
    raises: tuple[type[Exception], ...],
) -> ToolResult:
    if call.tool not in types:
        return ToolResult(call.id, f"There is no tool {call.tool!r}; there are: {', '.join(types)}.", is_error=True)
    try:
        given = msgspec.json.decode(call.arguments, type=types[call.tool])
    except msgspec.DecodeError as error:
        return ToolResult(call.id, f"The arguments do not fit: {error}", is_error=True)
    if call.tool == ANSWER:
        return ToolResult(call.id, "Taken.")
    try:
        value = await functions[call.tool](**{name: getattr(given, name) for name in given.__struct_fields__})
    except raises as error:
        return ToolResult(call.id, f"{type(error).__name__}: {error}", is_error=True)
    return ToolResult(call.id, value if isinstance(value, str) else msgspec.json.encode(value).decode())
