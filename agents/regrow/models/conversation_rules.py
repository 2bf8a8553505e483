"""What providers ask of a conversation, and how a broken one is made whole. Pure.

The rules are those that OpenAI's chat completions and Anthropic's messages have together, so that a conversation that keeps
them can go on with either.
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import msgspec

from regrow.models.conversation import Assistant, Conversation, Message, ToolCall, ToolResult, User

NO_OUTCOME = "This call was interrupted. Whether it had an effect is not known."
"""The result that a call gets whose own was lost: cancelled, or crashed before it was recorded."""
NO_ANSWER = "(This turn was interrupted before its answer.)"
"""What the model is taken to have said where it was not heard to its end."""
GO_ON = "Go on."
"""What the user is taken to have said where the model speaks without having been asked."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_OUTSIDE_NAME = re.compile(r"[^A-Za-z0-9_-]")


def check(conversation: Conversation) -> list[str]:
    """One sentence for each rule that is broken; empty: a provider takes it."""
    return [*_wrong_order(conversation.messages), *_wrong_results(conversation.messages), *_wrong_words(conversation)]


def repaired(conversation: Conversation) -> Conversation:
    """The same conversation in a form that `check` has nothing against; one that is whole comes back equal.

    Calls without a result get an error as theirs, results without a call are dropped, and so is what says nothing.
    Nothing before the first broken place changes, so what a provider has cached stays cached.
    """
    repair = _Repair()
    for message in conversation.messages:
        repair.take(message)
    repair.close_calls()
    return Conversation(conversation.system, tuple(repair.messages))


class _Repair:
    """The messages made whole so far, and the calls among them that wait for their results."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._ids: set[str] = set()
        self._open: list[tuple[str, str]] = []  # as the model named the call, as it is named here

    def take(self, message: Message) -> None:
        if isinstance(message, ToolResult):
            self._result(message)
        elif not _says_nothing(message):
            self.close_calls()
            self._fill_before(message)
            self.messages.append(self._with_calls(message) if isinstance(message, Assistant) else message)

    def close_calls(self) -> None:
        self.messages += [ToolResult(call, NO_OUTCOME, is_error=True) for _, call in self._open]
        self._open.clear()

    def _result(self, result: ToolResult) -> None:
        found = next((each for each in self._open if each[0] == result.call), None)
        if found is not None:
            self._open.remove(found)
            self.messages.append(msgspec.structs.replace(result, call=found[1]))

    def _fill_before(self, message: User | Assistant) -> None:
        last = self.messages[-1] if self.messages else None
        if isinstance(message, User) and isinstance(last, User | ToolResult):
            self.messages.append(Assistant(NO_ANSWER))
        if isinstance(message, Assistant) and (last is None or isinstance(last, Assistant)):
            self.messages.append(User(GO_ON))

    def _with_calls(self, message: Assistant) -> Assistant:
        calls = tuple(
            ToolCall(self._fresh(call.id), _name(call.tool), _object(call.arguments)) for call in message.calls
        )
        self._open = [(was.id, call.id) for was, call in zip(message.calls, calls, strict=True)]
        return Assistant(message.text, calls)

    def _fresh(self, given: str) -> str:
        """The id, or one like it if it is taken: some servers begin again at `call_0` with each answer."""
        fresh, number = _name(given), 1
        while fresh in self._ids:
            number += 1
            fresh = f"{_name(given)[:50]}_{number}"
        self._ids.add(fresh)
        return fresh


def _wrong_order(messages: tuple[Message, ...]) -> Iterator[str]:
    if messages and not isinstance(messages[0], User):
        yield "message 0 is not the user's: a conversation begins with the user"
    for at, (one, other) in enumerate(pairwise(messages), 1):
        if isinstance(other, User) and not isinstance(one, Assistant):
            yield f"message {at} is the user's, and the model has not answered yet"
        if isinstance(other, Assistant) and isinstance(one, Assistant):
            yield f"message {at} is the model's, and so was the one before"


def _wrong_results(messages: tuple[Message, ...]) -> Iterator[str]:
    seen: set[str] = set()
    waiting: list[str] = []
    for at, message in enumerate(messages):
        if isinstance(message, ToolResult):
            if message.call in waiting:
                waiting.remove(message.call)
            else:
                yield f"message {at} is the result of {message.call!r}, which waits for none"
            continue
        yield from (f"message {at} comes before the result of {call!r}" for call in waiting)
        waiting = [call.id for call in message.calls] if isinstance(message, Assistant) else []
        for call in waiting:
            if call in seen:
                yield f"message {at} has a call {call!r}, and there was one of that id"
            seen.add(call)
    yield from (f"the conversation ends before the result of {call!r}" for call in waiting)


def _wrong_words(conversation: Conversation) -> Iterator[str]:
    for at, message in enumerate(conversation.messages):
        if not isinstance(message, ToolResult) and _says_nothing(message):
            yield f"message {at} says nothing"
        for call in message.calls if isinstance(message, Assistant) else ():
            if not _NAME.fullmatch(call.id) or not _NAME.fullmatch(call.tool):
                yield f"message {at} calls {call.tool!r} as {call.id!r}: names are 1 to 64 letters, digits, '_' and '-'"
            if _object(call.arguments) != call.arguments:
                yield f"message {at} calls {call.tool!r} with arguments that are no JSON object"


def _says_nothing(message: User | Assistant) -> bool:
    return not message.text.strip() and not (isinstance(message, Assistant) and message.calls)


def _name(given: str) -> str:
    return _OUTSIDE_NAME.sub("_", given)[:64] or "unnamed"


def _object(arguments: str) -> str:
    """The arguments, or those of a call without any where they are no JSON object."""
    try:
        msgspec.json.decode(arguments, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return "{}"
    return arguments
