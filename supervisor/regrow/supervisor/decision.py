"""What a supervisor does about a death: OTP's table, pure."""

from collections.abc import Mapping
from typing import Literal

from regrow.supervisor.exits import Exit, is_clean
from regrow.supervisor.spec import Restart

Action = Literal["restart", "remove"]

# The six clauses of supervisor.erl's do_restart, by restart type and whether the end was clean.
_ACTIONS: Mapping[tuple[Restart, bool], Action] = {
    ("permanent", True): "restart",
    ("permanent", False): "restart",
    ("transient", True): "remove",
    ("transient", False): "restart",
    ("temporary", True): "remove",
    ("temporary", False): "remove",
}


def decide(restart: Restart, cause: Exit) -> Action:
    """What to do with a child of this restart type that ended so."""
    return _ACTIONS[restart, is_clean(cause)]
