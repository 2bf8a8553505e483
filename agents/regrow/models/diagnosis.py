"""What a provider's SDK raised, as the error of the port: the same for every provider."""

from regrow.actors import classify
from regrow.actors.failure_kind import CORRUPT_CONTEXT, QUOTA, REJECTED, THROTTLED
from regrow.models.port import (
    ContextUnusable,
    ModelError,
    ModelRefused,
    ModelThrottled,
    ModelUnreachable,
    QuotaUsedUp,
)

_FINAL = {REJECTED: ModelRefused, QUOTA: QuotaUsedUp, CORRUPT_CONTEXT: ContextUnusable}


def model_error(model: str, error: Exception) -> ModelError:
    """What to raise from it. What nobody knows is no answer: a page of HTML, half of some JSON."""
    found = classify(error)
    if found.kind == THROTTLED:
        return ModelThrottled(f"{model} asks to wait: {error}", found.retry_after_s)
    if found.kind in _FINAL:
        return _FINAL[found.kind](f"{model} refuses: {error}")
    return ModelUnreachable(f"{model} gave no answer: {error}")
