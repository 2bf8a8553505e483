"""Links: two that die together, unless one traps exits. After OTP's "Processes" (Error Handling: links, exit signals).

A link is nothing but a callback at each of the two, so there is no table of links anywhere. All is synchronous: a death
reaches the others in the same turn of the event loop, and they end at their next await.

Where it differs from OTP: linking with one that is dead gives its exit, not `noproc`, because it is still known here;
and an exit signal cannot interrupt code that does not await.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from signal import SIGKILL
from typing import Final

from regrow.supervisor.errors import SupervisorError
from regrow.supervisor.exits import Exit, Exited, Killed, Normal
from regrow.supervisor.feed import Feed
from regrow.supervisor.mortal import ExitSignal, Mortal

PENDING_MAX: Final = 1_000
"""Exit signals that wait for one who traps them."""


class AlreadyTrapping(SupervisorError):
    """Its exit signals go somewhere already; two readers would each see some of them."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name!r} traps exits already; leave that block before you enter another")
        self.name = name


def link(a: Mortal, b: Mortal) -> None:
    """When one dies other than normally, the other gets an exit signal of the same cause.

    Linking twice is linking once, with oneself nothing. With one that is dead already the other gets the signal at once.
    """
    if a is b:
        return
    for source, to in ((a, b), (b, a)):
        source.watch(_End(source, to))
        if source.exit is not None:
            return


def unlink(a: Mortal, b: Mortal) -> None:
    """From now on the death of one is nothing to the other; does nothing where there is no link."""
    a.unwatch(_End(a, b))
    b.unwatch(_End(b, a))


def send_exit(to: Mortal, cause: Exit, source: Mortal | None = None) -> None:
    """An exit signal, as OTP's `exit/2`: trapped it is only told; else a normal one is ignored, any other ends `to`."""
    if to.exit is not None:
        return
    if to.trap is not None:
        to.trap(ExitSignal(source, cause))
    elif not is_normal(cause):
        to.end(cause)


def kill(to: Mortal) -> None:
    """Ends it whether it traps exits or not; those linked to it get `Killed`, which they may trap (OTP's `kill`)."""
    to.end(Killed(int(SIGKILL)))


def is_normal(cause: Exit) -> bool:
    """True for an end that does not touch those linked: it returned, or its process did with code 0."""
    return isinstance(cause, Normal) or cause == Exited(0)


@contextmanager
def trap_exits(me: Mortal, *, pending_max: int = PENDING_MAX) -> Generator[Feed[ExitSignal]]:
    """While the block runs, exit signals to `me` are values to be read, normal ones too, and do not end it.

        with trap_exits(start.me) as exits:
            async for signal in exits: ...

    For what happens when more than `pending_max` wait see `Feed`. After the block what was not read can still be read.
    What is no signal is not trapped: `kill`, a supervisor that stops its child, a progress deadline.
    Raises `AlreadyTrapping` inside another such block of the same `me`.
    """
    if me.trap is not None:
        raise AlreadyTrapping(me.name)
    exits = Feed[ExitSignal](f"exits of {me.name}", pending_max)
    me.trap = exits.put
    try:
        yield exits
    finally:
        me.trap = None
        exits.close()


@dataclass(frozen=True, slots=True)
class _End:
    """One end of a link: what the death of `source` is to `to`. Equal ends are the same link."""

    source: Mortal
    to: Mortal

    def __call__(self, cause: Exit) -> None:
        self.to.unwatch(_End(self.to, self.source))
        send_exit(self.to, cause, self.source)
