"""The smallest program found that still shows a fault, and its death."""

from collections.abc import Iterator
from typing import cast

import msgspec
from tests.property.programs import Node, Part, Raise, Sequence, Ticks
from tests.property.trial import Trial, every_point, run


async def shrunk(failed: Trial, *, tries: int = 400) -> Trial:
    """Takes parts away for as long as some death still goes wrong."""
    best = failed
    while tries > 0:
        for program in smaller(best.program):
            tries -= 1
            found = await _first_fault(program) if is_sound(program) else None
            if found is not None:
                best = found
                break
            if tries <= 0:
                break
        else:
            break
    return best


async def _first_fault(program: Node) -> Trial | None:
    undisturbed = Trial(program)
    await run([undisturbed])
    trials = [undisturbed, *every_point(undisturbed)]
    await run(trials[1:])
    return next((trial for trial in trials if trial.wrong), None)


def smaller(node: Node) -> Iterator[Node]:
    """Programs with a part less, for whoever looks for the smallest that still shows a fault."""
    for field in node.__struct_fields__:
        value = getattr(node, field)
        if isinstance(value, tuple):
            yield from _with_fewer(node, field, cast("tuple[Node, ...]", value))
        elif field == "undo" or field == "end":
            continue
        elif isinstance(value, Part):
            part = cast(Node, value)
            yield part
            for each in smaller(part):
                yield msgspec.structs.replace(node, **{field: each})
        elif field in ("ticks", "emit", "refused") and value:
            yield msgspec.structs.replace(node, **{field: type(value)(0)})


def _with_fewer(node: Node, field: str, parts: tuple[Node, ...]) -> Iterator[Node]:
    yield from parts
    for index, part in enumerate(parts):
        if len(parts) > 1:
            yield msgspec.structs.replace(node, **{field: (*parts[:index], *parts[index + 1 :])})
        for each in smaller(part):
            yield msgspec.structs.replace(node, **{field: (*parts[:index], each, *parts[index + 1 :])})


def is_sound(node: Node) -> bool:
    """Whether every part of a program that may be raced has a step, and ends with one."""
    match node:
        case Ticks() | Raise():
            return False
        case Sequence(parts):
            return not isinstance(parts[-1], Ticks) and any(_is_step_or_more(part) for part in parts) and _inner(parts)
        case _:
            fields = (getattr(node, field) for field in node.__struct_fields__)
            parts = tuple(
                cast(Node, part)
                for value in fields
                for part in (cast("tuple[object, ...]", value) if isinstance(value, tuple) else (value,))
                if isinstance(part, Part)
            )
            return all(is_sound(part) for part in parts)


def _is_step_or_more(part: Node) -> bool:
    return not isinstance(part, Ticks | Raise)


def _inner(parts: tuple[Node, ...]) -> bool:
    return all(is_sound(part) for part in parts if _is_step_or_more(part))
