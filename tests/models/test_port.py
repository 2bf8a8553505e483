import msgspec
import pytest

from regrow.models import (
    AnswerCut,
    ContextUnusable,
    ModelError,
    ModelRefused,
    ModelThrottled,
    ModelUnreachable,
    Prompt,
    QuotaUsedUp,
    SemanticError,
    UnknownTask,
)


class Food(msgspec.Struct, frozen=True):
    name: str
    amounts: dict[str, float]


def test_the_text_of_a_prompt_does_not_depend_on_the_order_of_its_inputs() -> None:
    one = Prompt("t", " Judge it.\n", {"b": 1, "a": {"y": 1, "x": 2}})
    other = Prompt("t", "Judge it.", {"a": {"x": 2, "y": 1}, "b": 1})
    assert one.render() == other.render() == 'Judge it.\n\n{"a":{"x":2,"y":1},"b":1}'


def test_the_text_of_a_prompt_is_the_same_after_it_was_recorded() -> None:
    prompt = Prompt("t", "Judge it.", {"food": Food("Brie", {"Zinc": 1.5, "Iron": 2.0}), "raw": msgspec.Raw(b"[1]")})
    again = msgspec.json.decode(msgspec.json.encode(prompt), type=Prompt)
    assert again.render() == prompt.render()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (SemanticError("m", "said", "why"), "semantic"),
        (AnswerCut("m", "said", "why"), "semantic"),
        (ModelUnreachable("x"), "network"),
        (ModelThrottled("x", 1.0), "throttled"),
        (ModelRefused("x"), "rejected"),
        (QuotaUsedUp("x"), "quota"),
        (ContextUnusable("x"), "corrupt_context"),
        (UnknownTask("x"), "defect"),
    ],
)
def test_every_error_is_a_model_error_of_a_kind(error: ModelError, kind: str) -> None:
    assert isinstance(error, ModelError)
    assert error.kind == kind
