"""What the operations of the chaos run do to an actor, in as few words as a checker needs. Pure.

A new kind of operation is a branch in ``fold``, one in ``effects_of`` when its turn sends or asks something, a handler in
``chaos_app`` and a line in ``chaos_client``. A timer is an effect too: one that is not ``ordered``.
"""

from typing import Any, Literal

import msgspec

QUERIES = frozenset({"peek"})
"""Verbs that change nothing, not even the list."""

Outcome = Literal["acked", "unknown", "refused"]


class Reply(msgspec.Struct, frozen=True):
    """What an actor answers: the operation's result, and how many operations it has applied with it."""

    result: int
    version: int


class Operation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that a client wanted, as it noted it."""

    id: str
    client: str
    actor: str
    """``kind/key``."""
    verb: str
    argument: Any = None
    invoked_s: float
    """When it was first sent."""
    ended_s: float | None = None
    """When it was acknowledged: stored, for a tell; answered, for an ask."""
    outcome: Outcome = "unknown"
    reply: Reply | None = None
    tries: int = 1


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """An operation that another operation's turn brings about."""

    id: str
    actor: str
    verb: str
    argument: Any = None
    ordered: bool = True
    """Whether it arrives in the order of the turns that caused it."""
    asked: bool = False
    """Whether it happens inside the turn, and so perhaps without it."""


def is_query(verb: str) -> bool:
    """Whether operations of this verb only look."""
    return verb in QUERIES


def fold(verb: str, argument: Any, value: int) -> tuple[int, int | None]:
    """The value after an operation, and its result; None when another actor decides on that."""
    match verb:
        case "add":
            return value + argument, value + argument
        case "write":
            return argument, value
        case "read" | "forward" | "later":
            return value, value
        case "arrive":
            return value + 1, value + 1
        case "fetch":
            return value, None
        case _:
            raise ValueError(f"no operation is called {verb!r}")


def effects_of(operation: Operation) -> tuple[Effect, ...]:
    """What the turn of this operation sends, asks and sets: ``forward`` takes the keys of its receivers, ``fetch`` the one it asks,
    ``later`` the milliseconds after which its actor hears from itself."""
    kind = operation.actor.partition("/")[0]
    match operation.verb:
        case "forward":
            return tuple(
                Effect(id=f"{operation.id}>{at}", actor=f"{kind}/{key}", verb="arrive")
                for at, key in enumerate(operation.argument)
            )
        case "fetch":
            asked = f"{kind}/{operation.argument}"
            return (Effect(id=f"{operation.id}?", actor=asked, verb="add", argument=1, asked=True),)
        case "later":
            return (Effect(id=f"{operation.id}@", actor=operation.actor, verb="arrive", ordered=False),)
        case _:
            return ()
