"""The model port and its providers. `OpenAIModel` needs the extra `openai` when it is made, not before."""

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
