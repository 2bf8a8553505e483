"""What differs between the step that a handler wants and the one that its log has: tool, and path of the argument. Pure."""

from collections.abc import Iterator
from typing import Any, cast

import msgspec

from regrow.actors.errors import Drift
from regrow.actors.lineage import StepKey, path_of
from regrow.actors.records import Step

DIFFERENCES_MAX = 3
"""Arguments that one report names."""
VALUE_CHARS_MAX = 80
"""Of a value that a report shows."""

_ABSENT = object()


def another_step(actor: str, wanted: StepKey, arguments: bytes, recorded: Step) -> Drift:
    """The report on a step that runs where another one is recorded."""
    tool = wanted.call.partition("/")[0]
    if tool != recorded.tool:
        why = f"{recorded.tool} was recorded, {tool} is wanted"
    else:
        found = list(differences(bytes(recorded.arguments), arguments))
        shown = "; ".join(found[:DIFFERENCES_MAX])
        more = f"; and {len(found) - DIFFERENCES_MAX} more" if len(found) > DIFFERENCES_MAX else ""
        why = f"{tool} is called with other arguments: {shown}{more}" if found else f"{tool} is called at another place"
    return Drift(actor, wanted.text, recorded.key, f"{why}{_where(wanted.path)}")


def no_step(actor: str, recorded: Step) -> Drift:
    """The report on a recorded step that can be asked for no more: its task is over."""
    path = path_of(recorded.key)
    return Drift(actor, "", recorded.key, f"{recorded.tool} was recorded, nothing is wanted{_where(path)}")


def differences(recorded: bytes, wanted: bytes) -> Iterator[str]:
    """Where two calls' arguments differ: ``$.route.from: "FRA" was recorded, "MUC" is wanted``."""
    try:
        before, after = msgspec.json.decode(recorded), msgspec.json.decode(wanted)
    except msgspec.DecodeError:
        if recorded != wanted:
            yield f"{_shown(recorded.decode(errors='replace'))} was recorded"
        return
    yield from _compare("$", before, after)


def _compare(path: str, before: Any, after: Any) -> Iterator[str]:
    match before, after:
        case {**old}, {**new}:
            for name in dict.fromkeys((*old, *new)):
                yield from _compare(f"{path}.{name}", old.get(name, _ABSENT), new.get(name, _ABSENT))
        case [*_], [*_]:
            before, after = cast(list[Any], before), cast(list[Any], after)
            for index in range(max(len(before), len(after))):
                yield from _compare(f"{path}[{index}]", _at(before, index), _at(after, index))
        case _ if before is _ABSENT:
            yield f"{path}: nothing was recorded, {_shown(after)} is wanted"
        case _ if after is _ABSENT:
            yield f"{path}: {_shown(before)} was recorded, nothing is wanted"
        case _:
            if type(before) is not type(after) or before != after:
                yield f"{path}: {_shown(before)} was recorded, {_shown(after)} is wanted"


def _at(items: list[Any], index: int) -> Any:
    return items[index] if index < len(items) else _ABSENT


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= VALUE_CHARS_MAX else f"{text[: VALUE_CHARS_MAX - 1]}…"


def _where(path: str) -> str:
    """Which task of the handler it is, where it is not its own."""
    _, _, task = path.partition(".")
    return f" (in its task {task})" if task else ""
