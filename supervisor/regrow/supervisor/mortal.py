"""What links, monitors, names and groups need of anything that lives and dies; one event loop, nothing here waits."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from regrow.supervisor.exits import Exit


class Mortal(Protocol):
    """Something with a name that dies once, of a cause: a supervisor's child, a lone process, an actor.

    Two mortals are the same only when they are the same object: a restarted child is another one.
    """

    @property
    def trap(self) -> "Trap | None":
        """Where exit signals go instead of ending it. Whoever implements this has None here and leaves the rest to `trap_exits`."""
        ...

    @trap.setter
    def trap(self, trap: "Trap | None") -> None: ...

    @property
    def name(self) -> str:
        """What logs call it."""
        ...

    @property
    def exit(self) -> Exit | None:
        """How it ended; None while it lives."""
        ...

    def watch(self, callback: Callable[[Exit], None]) -> None:
        """Calls back once, when it dies; at once, before this returns, when it is dead already.

        Callbacks must not raise, and are called in the order in which they came. One that equals an earlier one
        takes its place: it is called once. Adding and removing take the same time however many there are.
        """
        ...

    def unwatch(self, callback: Callable[[Exit], None]) -> None:
        """Forgets an equal callback; does nothing when there is none."""
        ...

    def end(self, cause: Exit) -> None:
        """Makes it die of this cause: it is cancelled, and this is its exit unless it raises something else on its way.

        Cannot be trapped. The first cause counts; the dead do not notice.
        """
        ...


@dataclass(frozen=True, slots=True)
class ExitSignal:
    """What a mortal that traps exits is told instead of being ended: who died or sent it, and of what cause."""

    source: Mortal | None
    cause: Exit


Trap = Callable[[ExitSignal], None]
"""Takes an exit signal; must not raise or wait."""
