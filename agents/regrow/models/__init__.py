"""The model port and its providers. `OpenAIModel` and `AnthropicModel` need their extras when they are made, not before."""

from regrow.models.anthropic import AnthropicModel, AnthropicOptions
from regrow.models.openai import OpenAIModel
from regrow.models.port import (
    AnswerCut,
    Completion,
    Model,
    ModelError,
    ModelRefused,
    ModelThrottled,
    ModelUnreachable,
    Prompt,
    SemanticError,
    UnknownTask,
    Usage,
)
from regrow.models.rules import RulesModel

__all__ = [
    "AnswerCut",
    "AnthropicModel",
    "AnthropicOptions",
    "Completion",
    "Model",
    "ModelError",
    "ModelRefused",
    "ModelThrottled",
    "ModelUnreachable",
    "OpenAIModel",
    "Prompt",
    "RulesModel",
    "SemanticError",
    "UnknownTask",
    "Usage",
]
