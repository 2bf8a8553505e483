"""Conversations: whatever was done to one and wherever it was cut, after its repair both providers take it."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.models import (
    Assistant,
    Compaction,
    Conversation,
    ToolCall,
    ToolResult,
    User,
    anthropic_messages,
    check,
    openai_messages,
    repaired,
)
from regrow.models.conversation import Message
from regrow.models.conversation_rules import GO_ON, NO_ANSWER, NO_OUTCOME

ASKED = (
    User("What is in brie?"),
    Assistant("I look.", (ToolCall("a", "find", '{"food": "brie"}'), ToolCall("b", "find"))),
    ToolResult("b", "nothing"),
    ToolResult("a", "milk"),
    Assistant("Milk."),
)

ids = st.sampled_from(["a", "b", "call_0", "", "ü", "x" * 70])
texts = st.sampled_from(["", " ", "yes", "no\n", "ü"])
deep = '{"a":' * 5_000 + "1" + "}" * 5_000
arguments = st.sampled_from([deep, "{}", '{"n": 1}', "[]", "{", "", '{"n": 1e400}', '"{}"'])
calls = st.builds(ToolCall, ids, ids, arguments)
anything = st.one_of(
    st.builds(User, texts),
    st.builds(Assistant, texts, st.lists(calls, max_size=3).map(tuple)),
    st.builds(ToolResult, ids, texts, st.booleans()),
)


@st.composite
def whole(draw: st.DrawFn) -> Conversation:
    """A conversation of whole turns, each with some rounds of calls."""
    messages: list[Message] = []
    for turn in range(draw(st.integers(0, 4))):
        messages.append(User(f"question {turn}"))
        for round_ in range(draw(st.integers(0, 3))):
            made = tuple(ToolCall(f"{turn}-{round_}-{n}", "find") for n in range(draw(st.integers(1, 3))))
            messages.append(Assistant(draw(texts), made))
            messages += [ToolResult(call.id, draw(texts)) for call in draw(st.permutations(made))]
        messages.append(Assistant("an answer"))
    return Conversation(draw(texts), tuple(messages))


def refused_by_openai(messages: list[dict[str, Any]]) -> str:
    """What its server says of `tool` messages: each answers a call of the assistant's message before, and none is left out."""
    waiting: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            if message["tool_call_id"] not in waiting:
                return f"a tool message without its call: {message}"
            waiting.remove(message["tool_call_id"])
            continue
        if waiting:
            return f"calls without results: {waiting}"
        waiting = {call["id"] for call in message.get("tool_calls", ())}
        if len(waiting) != len(message.get("tool_calls", ())) or not (message["content"] or waiting):
            return f"no message: {message}"
    return f"calls without results: {waiting}" if waiting else ""


def refused_by_anthropic(messages: list[dict[str, Any]]) -> str:
    """What its server says: roles alternate, and the message after calls begins with exactly their results."""
    used: list[str] = []
    waiting: list[str] = []
    for at, message in enumerate(messages):
        if message["role"] != ("user", "assistant")[at % 2] or not message["content"]:
            return f"out of turn or empty: {message}"
        results = [block["tool_use_id"] for block in message["content"] if block["type"] == "tool_result"]
        if sorted(results) != sorted(waiting):
            return f"results {results} for calls {waiting}"
        if any(block["type"] == "text" and not block["text"].strip() for block in message["content"]):
            return f"blank text: {message}"
        waiting = [block["id"] for block in message["content"] if block["type"] == "tool_use"]
        used += waiting
    return f"calls without results: {waiting}" if waiting else "" if len(used) == len(set(used)) else "an id used twice"


def accepted(conversation: Conversation) -> bool:
    assert check(conversation) == []
    assert refused_by_openai(openai_messages(conversation)) == ""
    assert refused_by_anthropic(anthropic_messages(conversation)) == ""
    return True


# Repair


@given(st.lists(anything, max_size=12))
def test_whatever_was_said_is_accepted_after_its_repair(messages: list[Message]) -> None:
    found = repaired(Conversation("Be brief.", tuple(messages)))
    assert accepted(found)
    assert repaired(found) == found


@given(whole())
def test_a_whole_conversation_is_accepted_and_needs_no_repair(conversation: Conversation) -> None:
    assert accepted(conversation)
    assert repaired(conversation) == conversation


@given(whole())
def test_cut_at_every_place_it_is_accepted_after_its_repair_and_nothing_said_is_lost(
    conversation: Conversation,
) -> None:
    for end in range(len(conversation.messages) + 1):
        cut = Conversation(conversation.system, conversation.messages[:end])
        found = repaired(cut)
        assert accepted(found)
        assert found.messages[:end] == cut.messages
        added = found.messages[end:]
        assert all(isinstance(each, ToolResult) and each.is_error and each.text == NO_OUTCOME for each in added)


@given(whole(), st.data())
def test_cut_and_gone_on_with_it_is_accepted_after_its_repair(conversation: Conversation, data: st.DataObject) -> None:
    end = data.draw(st.integers(0, len(conversation.messages)))
    cut = Conversation(conversation.system, conversation.messages[:end])
    assert accepted(repaired(cut.appended(User("Are you there?"))))
    assert accepted(repaired(repaired(cut).appended(User("Are you there?"))))


@st.composite
def histories(draw: st.DrawFn) -> Conversation:
    """Any operations one after the other, cuts among them."""
    conversation = draw(whole())
    for _ in range(draw(st.integers(0, 6))):
        match draw(st.sampled_from(["append", "roll back", "branch", "compact", "cut", "repair"])):
            case "append":
                conversation = conversation.appended(*draw(st.lists(anything, max_size=3)))
            case "roll back":
                conversation = conversation.rolled_back(draw(st.integers(0, 3)))
            case "branch":
                conversation = conversation.branched(draw(st.integers(0, len(conversation.turns))))
            case "compact":
                policy = Compaction(turns_max=draw(st.integers(1, 3)), chars_max=draw(st.integers(1, 100)))
                conversation = conversation.compacted(policy)
            case "cut":
                end = draw(st.integers(0, len(conversation.messages)))
                conversation = Conversation(conversation.system, conversation.messages[:end])
            case _:
                conversation = repaired(conversation)
    return conversation


@given(histories())
def test_after_any_history_it_is_accepted_after_its_repair(conversation: Conversation) -> None:
    assert accepted(repaired(conversation))


@given(st.lists(anything, max_size=8))
def test_what_the_check_has_nothing_against_both_providers_accept(messages: list[Message]) -> None:
    conversation = Conversation("", tuple(messages))
    assert check(conversation) or accepted(conversation)


def test_a_call_whose_result_was_lost_gets_an_error_as_its_result() -> None:
    cut = Conversation("", ASKED[:3])
    assert repaired(cut).messages == (*ASKED[:3], ToolResult("a", NO_OUTCOME, is_error=True))


def test_a_turn_without_its_answer_is_said_to_be_interrupted_before_the_next_begins() -> None:
    found = repaired(Conversation("", (*ASKED[:3], User("Hello?"))))
    assert found.messages[3:] == (ToolResult("a", NO_OUTCOME, is_error=True), Assistant(NO_ANSWER), User("Hello?"))


def test_a_model_that_speaks_unasked_is_asked_to_go_on() -> None:
    found = repaired(Conversation("", (Assistant("Hello."), Assistant("Hello?"))))
    assert found.messages == (User(GO_ON), Assistant("Hello."), User(GO_ON), Assistant("Hello?"))


def test_ids_that_a_server_gives_again_are_told_apart_with_their_results() -> None:
    again = (
        User("And gouda?"),
        Assistant("", (ToolCall("a", "find"),)),
        ToolResult("a", "milk too"),
        Assistant("Too."),
    )
    found = repaired(Conversation("", (*ASKED, *again)))
    assert found.messages[6:8] == (Assistant("", (ToolCall("a_2", "find"),)), ToolResult("a_2", "milk too"))


@pytest.mark.parametrize(
    ("messages", "sentence"),
    [
        (ASKED[1:], "message 0 is not the user's: a conversation begins with the user"),
        ((User("a"), User("b")), "message 1 is the user's, and the model has not answered yet"),
        ((User("a"), Assistant("b"), Assistant("c")), "message 2 is the model's, and so was the one before"),
        ((User("a"), ToolResult("x", "b")), "message 1 is the result of 'x', which waits for none"),
        ((*ASKED[:3], ASKED[4]), "message 3 comes before the result of 'a'"),
        (ASKED[:3], "the conversation ends before the result of 'a'"),
        ((*ASKED, *ASKED), "message 6 has a call 'a', and there was one of that id"),
        ((User(" "),), "message 0 says nothing"),
        (
            (User("a"), Assistant("", (ToolCall("x", "a b"),)), ToolResult("x", "")),
            "message 1 calls 'a b' as 'x': names are 1 to 64 letters, digits, '_' and '-'",
        ),
        (
            (User("a"), Assistant("", (ToolCall("x", "f", "[]"),)), ToolResult("x", "")),
            "message 1 calls 'f' with arguments that are no JSON object",
        ),
    ],
)
def test_what_is_broken_is_said_in_a_sentence(messages: tuple[Message, ...], sentence: str) -> None:
    assert sentence in check(Conversation("", messages))


# Turns


@given(whole(), st.data())
def test_a_whole_conversation_stays_whole_rolled_back_branched_or_compacted(
    conversation: Conversation, data: st.DataObject
) -> None:
    turns = conversation.turns
    back = data.draw(st.integers(0, len(turns) + 1))
    policy = Compaction(turns_max=data.draw(st.integers(1, 5)), chars_max=data.draw(st.integers(1, 200)))
    short = conversation.rolled_back(back)
    compact = conversation.compacted(policy)
    assert accepted(short)
    assert accepted(compact)
    assert short.turns == turns[: max(0, len(turns) - back)]
    assert conversation.branched(len(short.turns)) == short
    assert compact.turns == turns[len(turns) - len(compact.turns) :]
    assert min(1, len(turns)) <= len(compact.turns) <= policy.turns_max
    assert compact.compacted(policy) == compact


def test_compaction_keeps_the_last_turn_whatever_its_size_and_drops_the_older_ones() -> None:
    conversation = Conversation("Be brief.", (User("a"), Assistant("b"), *ASKED))
    assert conversation.compacted(Compaction(chars_max=1)) == Conversation("Be brief.", ASKED)
    assert conversation.compacted(Compaction(turns_max=1)) == Conversation("Be brief.", ASKED)
    assert conversation.compacted(Compaction()) == conversation


def test_there_is_nothing_before_the_first_turn_and_nothing_after_the_last() -> None:
    conversation = Conversation("", ASKED)
    assert conversation.rolled_back(9) == Conversation()
    with pytest.raises(ValueError, match="-1 turns cannot be rolled back"):
        conversation.rolled_back(-1)
    with pytest.raises(ValueError, match="there are 1 turns, none to branch from after 2"):
        conversation.branched(2)


@pytest.mark.parametrize("wrong", [{"turns_max": 0}, {"chars_max": 0}])
def test_a_compaction_keeps_something(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be 1 or more"):
        Compaction(**wrong)


# On the wire


@given(whole())
def test_a_conversation_that_was_recorded_is_read_again_as_the_same(conversation: Conversation) -> None:
    assert msgspec.json.decode(msgspec.json.encode(conversation), type=Conversation) == conversation


@given(whole())
def test_what_a_shorter_conversation_renders_to_a_longer_one_begins_with_to_the_byte(
    conversation: Conversation,
) -> None:
    for render in (openai_messages, anthropic_messages):
        longer = msgspec.json.encode(render(conversation))
        for end in range(len(conversation.messages) + 1):
            shorter = Conversation(conversation.system, conversation.messages[:end])
            if not check(shorter):
                assert longer.startswith(
                    msgspec.json.encode(render(shorter))[:-1]
                )  # but for the bracket that closes the list


def test_a_conversation_is_told_to_openai_in_its_words() -> None:
    failed = ToolResult("b", "no such food", is_error=True)
    assert openai_messages(Conversation("Be brief.", (*ASKED[:2], failed, *ASKED[3:]))) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is in brie?"},
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "find", "arguments": '{"food": "brie"}'}},
                {"id": "b", "type": "function", "function": {"name": "find", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "b", "content": "Error: no such food"},
        {"role": "tool", "tool_call_id": "a", "content": "milk"},
        {"role": "assistant", "content": "Milk."},
    ]


def test_a_conversation_is_told_to_anthropic_in_its_words() -> None:
    failed = ToolResult("b", "no such food", is_error=True)
    assert anthropic_messages(Conversation("Be brief.", (*ASKED[:2], failed, *ASKED[3:]))) == [
        {"role": "user", "content": [{"type": "text", "text": "What is in brie?"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "a", "name": "find", "input": {"food": "brie"}},
                {"type": "tool_use", "id": "b", "name": "find", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "b", "content": "no such food", "is_error": True},
                {"type": "tool_result", "tool_use_id": "a", "content": "milk", "is_error": False},
            ],
        },
        {"role": "assistant", "content": [{"type": "text", "text": "Milk."}]},
    ]
