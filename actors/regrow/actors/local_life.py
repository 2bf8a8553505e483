"""What one incarnation of a local actor holds beside its fields: messages put aside, timers, and how it behaves. One event loop.

Made when a handler first asks for any of it, and over with the incarnation, which leaves nothing behind but its mail.
"""

from collections.abc import Mapping
from typing import Any, NoReturn, Protocol

from regrow.actors.errors import Refused
from regrow.actors.local_behaviour import check_behaviour
from regrow.actors.local_mailbox import Entry, LocalMailbox, Plain, PostOffice, fail, message_of
from regrow.actors.local_stash import LocalStash, Stashed, StashFull
from regrow.actors.local_timers import LocalTimers
from regrow.actors.message import Message
from regrow.bus import Address


class Place(Protocol):
    """The cell that it lives in."""

    address: Address
    mailbox: LocalMailbox
    plain: Mapping[type, Plain]

    @property
    def system(self) -> PostOffice: ...
    def unhandled(self, message: Message[Any]) -> Exception: ...


class LocalLife:
    """One incarnation, as its handlers reach it."""

    __slots__ = ("_actor", "_cell", "_kind", "_stash", "_stash_max", "_timers")

    def __init__(self, cell: Place, actor: object, kind: type[Any], stash_max: int) -> None:
        self._cell = cell
        self._actor: Any = actor
        self._kind = kind
        self._stash = LocalStash(cell.mailbox)
        self._stash_max = stash_max
        self._timers = LocalTimers(cell.mailbox.put_tick)

    def stash(self, message: Message[Any]) -> NoReturn:
        """Ends the handler of this message, which is put aside. Raises ``StashFull``."""
        if len(self._stash) >= self._stash_max:
            raise StashFull(str(self._cell.address), self._stash_max)
        raise Stashed(message)

    def put_aside(self, entry: Entry) -> None:
        """Into the stash, for which ``stash`` has found room; what a timer brought is put aside like what was told."""
        if self._cell.mailbox.closed:
            self._cell.mailbox.refuse(entry)
        else:
            self._stash.add(entry if isinstance(entry, tuple) else message_of(entry))

    def end_message(self, error: BaseException, entry: Entry) -> None:
        """What an error of the stash says: the message is put aside, or, where there was no room, answered or a dead letter."""
        if isinstance(error, Stashed):
            self.put_aside(entry)
        elif isinstance(entry, tuple):
            fail(entry, error)
        else:
            self._cell.system.dead.add(self._cell.address, message_of(entry), "stash_full")

    def unstash_all(self) -> None:
        """Puts back what was put aside."""
        self._stash.put_back()

    def become(self, behaviour: type[Any]) -> None:
        """Handles with the handlers of that class from the next message on. Raises ``DefinitionError``."""
        check_behaviour(self._kind, behaviour)
        self._actor.__class__ = behaviour
        self._behave(behaviour)

    def set_timer(self, name: str, message: Message[Any], delay_s: float, every_s: float | None) -> None:
        """Sets a timer; without effect in an actor that is stopped. Raises what says that nothing handles the message."""
        if type(message) not in self._cell.mailbox.methods:
            raise self._cell.unhandled(message)
        if not self._cell.mailbox.closed:
            self._timers.set(name, message, delay_s, every_s)

    def cancel_timer(self, name: str) -> None:
        """The timer of that name is over, if there is one."""
        self._timers.cancel(name)

    def end(self) -> None:
        """It is over, or its actor is stopped: timers are cancelled, and what was put aside is mail again."""
        self._timers.cancel_all()
        self._stash.put_back()
        self._behave(self._kind)

    def _behave(self, behaviour: type[Any]) -> None:
        if self._cell.plain is not behaviour.__plain__:
            self._cell.plain = behaviour.__plain__
            self._cell.mailbox.behave(behaviour.__methods__)


def ends_message_alone(error: BaseException, message: Message[Any], actor: Address) -> bool:
    """Whether what this actor's handler of the message raised is no end of the incarnation."""
    match error:
        case Refused():
            return True
        case Stashed():
            return error.message is message
        case StashFull():  # of another, which it has asked, it is a failure like any
            return error.actor == str(actor)
        case _:
            return False
