"""A conversation in the words of each provider's API. Pure.

What a shorter conversation renders to, a longer one begins with, to the byte: a provider finds in its cache what it read before.
"""

from itertools import groupby
from typing import Any

import msgspec

from regrow.models.conversation import Assistant, Conversation, Message, ToolResult


def openai_messages(conversation: Conversation) -> list[dict[str, Any]]:
    """The `messages` of a chat completion, instructions first. Takes only what `check` has nothing against."""
    system = [{"role": "system", "content": conversation.system}] if conversation.system else []
    return [*system, *map(_for_openai, conversation.messages)]


def anthropic_messages(conversation: Conversation) -> list[dict[str, Any]]:
    """The `messages` of Anthropic's API, where instructions are `system` beside them. Takes only what `check` has nothing against."""
    rendered: list[dict[str, Any]] = []
    for is_result, group in groupby(conversation.messages, lambda message: isinstance(message, ToolResult)):
        if is_result:  # all results of an answer in one message
            rendered.append({"role": "user", "content": [block for each in group for block in _blocks(each)]})
        else:
            rendered += [{"role": _role(message), "content": _blocks(message)} for message in group]
    return rendered


def _for_openai(message: Message) -> dict[str, Any]:
    if isinstance(message, ToolResult):
        text = f"Error: {message.text}" if message.is_error else message.text  # the API has no place for it
        return {"role": "tool", "tool_call_id": message.call, "content": text}
    rendered: dict[str, Any] = {"role": _role(message), "content": message.text}
    if isinstance(message, Assistant) and message.calls:
        rendered["content"] = message.text or None
        rendered["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.tool, "arguments": call.arguments}}
            for call in message.calls
        ]
    return rendered


def _blocks(message: Message) -> list[dict[str, Any]]:
    if isinstance(message, ToolResult):
        return [
            {
                "type": "tool_result",
                "tool_use_id": message.call,
                "content": message.text,
                "is_error": message.is_error,
            }
        ]
    text = [{"type": "text", "text": message.text}] if message.text.strip() else []
    calls = message.calls if isinstance(message, Assistant) else ()
    return [
        *text,
        *({"type": "tool_use", "id": call.id, "name": call.tool, "input": _read(call.arguments)} for call in calls),
    ]


def _read(arguments: str) -> dict[str, Any]:
    return msgspec.json.decode(arguments, type=dict[str, Any])


def _role(message: Message) -> str:
    return "assistant" if isinstance(message, Assistant) else "user"
