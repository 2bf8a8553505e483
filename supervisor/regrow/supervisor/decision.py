"""What a supervisor does about a death: OTP's table, pure."""

from collections.abc import Mapping
from typing import Literal

from regrow.supervisor.backoff import Backoff
from regrow.supervisor.exits import Exit, is_clean
from regrow.supervisor.spec import BackoffRule, Restart, RestartRule

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


def decide(restart: RestartRule, cause: Exit) -> Action:
    """What to do with a child of this restart type, or of this rule, that ended so."""
    kind = restart_type(restart, cause)
    return "restart" if kind == "permanent" else _ACTIONS[kind, is_clean(cause)]


def restart_type(restart: RestartRule, cause: Exit) -> Restart:
    """The restart type that holds for a death of this cause."""
    return restart(cause) if callable(restart) else restart


def backoff_for(backoff: BackoffRule, cause: Exit) -> Backoff:
    """The backoff that holds after a death of this cause."""
    return backoff if isinstance(backoff, Backoff) else backoff(cause)
