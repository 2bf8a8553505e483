"""A conversation with a model as a value. Pure: every operation gives another conversation, and none waits.

A conversation is cut between turns only, so that a tool call is never parted from its result.
"""

from itertools import chain, pairwise
from typing import Self

import msgspec


class ToolCall(msgspec.Struct, frozen=True):
    """What the model wants to be called: `arguments` is JSON as the model wrote it, so that it can be said again to the byte."""

    id: str
    tool: str
    arguments: str = "{}"


class User(msgspec.Struct, frozen=True, tag="user"):
    """What was said to the model. It begins a turn."""

    text: str


class Assistant(msgspec.Struct, frozen=True, tag="assistant"):
    """What the model said, and the tools it wants called."""

    text: str = ""
    calls: tuple[ToolCall, ...] = ()


class ToolResult(msgspec.Struct, frozen=True, tag="result"):
    """What came of the call with the id `call`."""

    call: str
    text: str
    is_error: bool = False


Message = User | Assistant | ToolResult


class Compaction(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a conversation is kept: its last turns. The last one is kept whatever its size."""

    turns_max: int = 50
    chars_max: int = 200_000  # of text, arguments and results: about 50,000 tokens of English

    def __post_init__(self) -> None:
        if self.turns_max < 1 or self.chars_max < 1:
            raise ValueError("turns_max and chars_max must be 1 or more")


class Conversation(msgspec.Struct, frozen=True):
    """The instructions and all that was said. `regrow.models.check` tells whether a provider would take it."""

    system: str = ""
    messages: tuple[Message, ...] = ()

    @property
    def turns(self) -> tuple[tuple[Message, ...], ...]:
        """The messages by turn. Each turn begins with what the user said."""
        begins = [at for at, message in enumerate(self.messages) if isinstance(message, User) or at == 0]
        return tuple(self.messages[begin:end] for begin, end in pairwise([*begins, len(self.messages)]))

    def appended(self, *messages: Message) -> Self:
        """With more said. A turn that is appended whole, calls with their results, needs no repair after a crash."""
        return self._of((*self.messages, *messages))

    def rolled_back(self, turns: int) -> Self:
        """Without its last turns. Raises `ValueError` for less than 0; more than there are leave the instructions alone."""
        if turns < 0:
            raise ValueError(f"{turns} turns cannot be rolled back")
        return self.branched(max(0, len(self.turns) - turns))

    def branched(self, after: int) -> Self:
        """As it stood after so many turns, to go on otherwise. Raises `ValueError` if there are not so many."""
        turns = self.turns
        if not 0 <= after <= len(turns):
            raise ValueError(f"there are {len(turns)} turns, none to branch from after {after}")
        return self._of(tuple(chain.from_iterable(turns[:after])))

    def compacted(self, policy: Compaction) -> Self:
        """Without its oldest turns, as far as the policy says. What is left renders to other bytes: do it seldom, and by much."""
        turns = self.turns
        kept, chars = 0, 0
        for turn in reversed(turns):
            chars += sum(map(_chars, turn))
            if kept and (kept == policy.turns_max or chars > policy.chars_max):
                break
            kept += 1
        return self._of(tuple(chain.from_iterable(turns[len(turns) - kept :])))

    def _of(self, messages: tuple[Message, ...]) -> Self:
        return type(self)(self.system, messages)


def _chars(message: Message) -> int:
    calls = message.calls if isinstance(message, Assistant) else ()
    return len(message.text) + sum(len(call.tool) + len(call.arguments) for call in calls)
