"""What a run has come to, and in what two runs differ."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import msgspec

from regrow.actors import DeadLetters, Policy, System
from regrow.actors.fold import state_json
from regrow.actors.recovered import recover
from regrow.bus import Address, Bus
from regrow.testing.ledger import Execution, told

SHOWN_CHARACTERS_MAX = 300

View = Callable[[str, Any], Any]
"""What of an actor's state is compared, given ``kind/key`` and the state as JSON."""


class Ending(msgspec.Struct, frozen=True):
    """All that is compared of a run."""

    result: Any
    """What the scenario returned, as JSON; ``{"raised": …}`` when it raised."""
    states: Mapping[str, Any]
    """By ``kind/key``; of a deleted actor ``deleted``."""
    replies: Mapping[str, Any]
    dead_letters: list[Any]
    ran: Mapping[Execution, int]
    """How often each step's body ran."""
    in_flight: Mapping[Execution, int]
    """Runs whose outcome was not recorded when their process died, and which may have been made once more."""
    again: list[str]
    """Steps that ran although the log had their outcome."""


def differences(expected: Ending, found: Ending, *, witness: bool = True) -> Iterator[str]:
    """In what a run with a death differs from the undisturbed one, a sentence each; ``witness``: also in how often what ran."""
    yield from found.again
    yield from _differing("the scenario's result", {"": expected.result}, {"": found.result})
    yield from _differing("the state of", expected.states, found.states)
    yield from _differing("the reply to", expected.replies, found.replies)
    if expected.dead_letters != found.dead_letters:
        yield f"the dead letters are {_shown(found.dead_letters)}, undisturbed {_shown(expected.dead_letters)}"
    for execution, times in found.ran.items() if witness else ():
        allowed = expected.ran.get(execution, 0) + found.in_flight.get(execution, 0)
        if times > allowed:
            yield (
                f"{execution[0]} ran {told(execution)} {times} times, undisturbed {expected.ran.get(execution, 0)}, "
                f"and {found.in_flight.get(execution, 0)} were in flight at the death"
            )


async def states_of(bus: Bus, system: System, view: View) -> dict[str, Any]:
    """Every actor's state as its log has it, and whether a turn of it is still open."""
    found: dict[str, Any] = {}
    for name, kind in system.kinds.items():
        for address in sorted(await bus.log.addresses(name)):
            found[str(address)] = view(str(address), await _state(bus, kind.actor, address, kind.policy))
    return found


async def dead_letters_of(bus: Bus) -> list[Any]:
    """Who they were for, what they said and why they were given up, in a fixed order."""
    return sorted(
        [each.kind, each.key, each.cause.kind, each.cause.type, msgspec.json.encode(each.message.body).decode()]
        for each in await DeadLetters(bus).list()
    )


def as_json(value: object) -> Any:
    """A value as it is compared."""
    try:
        return msgspec.json.decode(msgspec.json.encode(value))
    except (TypeError, ValueError, msgspec.MsgspecError):
        return repr(value)


async def _state(bus: Bus, cls: Any, address: Address, policy: Policy) -> Any:
    held = await recover(cls, address, bus.log, policy, _nobody_writes)
    if held.image.deleted:
        return "deleted"
    state = msgspec.json.decode(state_json(held.reader()))
    return state if held.image.opened is None else {"state": state, "open turn": str(held.image.opened.letter.id)}


def _nobody_writes(function: Callable[..., Awaitable[None]], *arguments: object) -> asyncio.Task[None]:
    raise AssertionError("whoever compares only reads")


def _differing(what: str, expected: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name, _Absent) != found.get(name, _Absent):
            label = f"{what} {name}".rstrip()
            yield f"{label} is {_shown(found.get(name, _Absent))}, undisturbed {_shown(expected.get(name, _Absent))}"


class _Absent:
    """What is not there."""


def _shown(value: Any) -> str:
    if value is _Absent:
        return "missing"
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= SHOWN_CHARACTERS_MAX else f"{text[:SHOWN_CHARACTERS_MAX]}... ({len(text)} characters)"
