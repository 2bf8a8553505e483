"""What an actor is told when it comes to life in a process, and what it may do then: look, and nothing else."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from regrow.actors.errors import ActorError
from regrow.bus import Address
from regrow.supervisor import Exit

UNKNOWN_NODE = "unknown"
"""The node of a ``NodeLost``: its mail tells that the process died which had the actor, not which one that was."""


@dataclass(frozen=True, slots=True)
class Start:
    """Why an actor begins to live once more.

    ``cause`` is how its life before ended, None where there was none or it ended in order (it was idle, its node was stopped):
    ``Crashed(error)`` after an attempt that failed, a log that could not be read, another writer that was first, or a kind
    that was restarted as a whole; ``Shutdown`` when its kind was stopped, alone or with its siblings; ``NodeLost`` when the
    process that had the actor died; ``Poison(deaths)`` when the message before was given up because processes died of it.
    ``restarts`` counts its deaths in this process, as long as it is in memory here. ``recovered``: its state comes from a log;
    a new actor, and a local one, has none.
    """

    cause: Exit | None
    restarts: int
    recovered: bool


class Starting:
    """What ``on_start`` may do: find the system's ports. Whatever would have to be recorded raises ``ActorError``."""

    def __init__(self, name: str, address: Address, port: Callable[[str], Any]) -> None:
        self.address = address
        self.port = port
        self._name = name

    def emit(self, event: object) -> None:
        self._refuse("emit")

    def send(self, to: Address, message: object) -> None:
        self._refuse("send")

    def set_timer(self, name: str, message: object, at_ms: int) -> None:
        self._refuse("set_timer")

    def cancel_timer(self, name: str) -> None:
        self._refuse("cancel_timer")

    def ref(self, kind: type[Any], key: str) -> NoReturn:
        self._refuse("ref")

    async def sleep(self, seconds: float) -> None:
        self._refuse("sleep")

    async def checkpoint(self, state: object) -> None:
        self._refuse("checkpoint")

    def checkpointed(self, kind: type[Any]) -> None:
        self._refuse("checkpointed")

    def _refuse(self, what: str) -> NoReturn:
        raise ActorError(f"{self._name}.on_start may only read: {what} belongs in a @command, where it is recorded")
