"""Behaviours of a local actor: classes below its own that handle the same messages in another way."""

from typing import Any

from regrow.actors.errors import DefinitionError


def check_behaviour(spawned: type[Any], behaviour: type[Any]) -> None:
    """Raises ``DefinitionError`` unless an actor of the one class can go on as the other, with all its mail and fields."""
    if not issubclass(behaviour, spawned):
        why = f"it is no class below {spawned.__name__}"
    elif behaviour.__methods__.keys() != spawned.__methods__.keys():
        differ = sorted(each.__name__ for each in behaviour.__methods__.keys() ^ spawned.__methods__.keys())
        why = f"only one of the two handles {', '.join(differ)}"
    elif fields := _other_fields(spawned, behaviour):
        why = f"the fields stay as they are, and it declares {', '.join(fields)}"
    else:
        return
    raise DefinitionError(f"{behaviour.__name__} is no behaviour of {spawned.__name__}: {why}")


def _other_fields(spawned: type[Any], behaviour: type[Any]) -> list[str]:
    known = spawned.__regrow__.fields
    return [
        name
        for name in behaviour.__regrow__.fields
        if name not in known or getattr(behaviour, name) is not getattr(spawned, name)
    ]
