"""The model port and its providers. `OpenAIModel` and `AnthropicModel` need their extras when they are made, not before."""

from regrow.models.anthropic import AnthropicModel, AnthropicOptions
from regrow.models.conversation import Assistant, Compaction, Conversation, ToolCall, ToolResult, User
from regrow.models.conversation_rules import check, repaired
from regrow.models.offer import Offer
from regrow.models.openai import OpenAIModel
from regrow.models.port import (
    AnswerCut,
    Completion,
    ContextUnusable,
    Model,
    ModelError,
    ModelRefused,
    ModelThrottled,
    ModelUnreachable,
    Prompt,
    QuotaUsedUp,
    SemanticError,
    UnknownTask,
    Usage,
)
from regrow.models.rendering import anthropic_messages, openai_messages
from regrow.models.rules import RulesModel
from regrow.models.tool_loop import Ran, Replies, run

__all__ = [
    "AnswerCut",
    "AnthropicModel",
    "AnthropicOptions",
    "Assistant",
    "Compaction",
    "Completion",
    "ContextUnusable",
    "Conversation",
    "Model",
    "ModelError",
    "ModelRefused",
    "ModelThrottled",
    "ModelUnreachable",
    "Offer",
    "OpenAIModel",
    "Prompt",
    "QuotaUsedUp",
    "Ran",
    "Replies",
    "RulesModel",
    "SemanticError",
    "ToolCall",
    "ToolResult",
    "UnknownTask",
    "Usage",
    "User",
    "anthropic_messages",
    "check",
    "openai_messages",
    "repaired",
    "run",
]
