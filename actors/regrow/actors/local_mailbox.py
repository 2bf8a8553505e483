"""The mailbox of one local actor: bounded, with a choice of what becomes of one message more. Everything is on one event loop.

While nothing waits in it, it owns no deque. What was told lies in it as it is, what was asked with the future of its reply, and
a timer that is due as its ``Tick``.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, cast

from regrow.actors.errors import ActorStopped
from regrow.actors.local_dead_letters import DeadLetterOffice
from regrow.actors.local_policy import Overflow
from regrow.actors.local_timers import Tick
from regrow.actors.message import Message
from regrow.bus import Address, MailboxFull

SPARE_MAX = 1_000
"""Empty deques kept for the next mailbox that needs one."""

Method = Callable[[Any, Any], Awaitable[object]]
"""A handler, called with the actor and the message."""
Plain = Callable[[Any, Any], object]
"""The plain form of a handler that never awaits."""
Reply = asyncio.Future[object]
Asked = tuple[Message[Any], Reply, float]
"""A message, where its reply goes, and when whoever asked gives up, by the loop's clock."""
Entry = Message[Any] | Asked | Tick
Mail = deque[Entry]
Senders = deque[tuple[Entry, asyncio.Future[Any]]]

_NO_MAIL: Mail = cast(Mail, ())
"""What an empty mailbox has instead of a deque: nobody appends to it, for ``room`` is 0."""


class PostOffice(Protocol):
    """What all mailboxes of a system share."""

    dead: DeadLetterOffice
    spare: list[Mail]


class Owner(Protocol):
    """The actor, as its mailbox sees it."""

    address: Address

    @property
    def system(self) -> PostOffice: ...
    def wake(self) -> None: ...
    def unhandled(self, message: Message[Any]) -> Exception: ...


class LocalMailbox:
    """What waits for one local actor.

    ``mail``, ``room`` and ``methods`` are there for whoever tells it something: a message of a type in ``methods`` may be
    appended to ``mail`` while that is shorter than ``room``; everything else is for ``put``.
    """

    __slots__ = ("_max", "_overflow", "_owner", "closed", "mail", "methods", "room", "senders")

    def __init__(self, owner: Owner, methods: Mapping[type, Method], mailbox_max: int, overflow: Overflow) -> None:
        self.mail: Mail = _NO_MAIL
        self.room = 0
        self.methods = methods
        self.closed = ""
        """Why nothing is taken any more, once it is so."""
        self._owner = owner
        self._max = mailbox_max
        self._overflow: Overflow = overflow
        self.senders: Senders | None = None
        """Those who wait for room, while there are any."""

    def put(self, message: Message[Any]) -> None:
        """Adds a message. Raises ``MailboxFull``, ``ActorStopped``, and ``DefinitionError`` when nothing handles it."""
        if self._admits(message):
            self.mail.append(message)
        else:
            self._overflows(message)

    def put_asked(self, asked: Asked) -> None:
        """The same for an ask, which waits for room where senders do."""
        if self._admits(asked[0]):
            self.mail.append(asked)
        elif self._overflow == "wait":
            self._line_up(asked, asked[1])
        else:
            self._overflows(asked)

    async def put_wait(self, message: Message[Any]) -> None:
        """Adds a message once there is room, where senders wait for that. Raises as ``put`` does."""
        if self._admits(message):
            self.mail.append(message)
        elif self._overflow == "wait":
            admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._line_up(message, admitted)
            await admitted
        else:
            self._overflows(message)

    def put_tick(self, tick: Tick) -> None:
        """Adds a timer that is due. One for which there is no room becomes a dead letter, and is over like any that was taken."""
        if self._admits(tick.message):
            self.mail.append(tick)
        elif self._overflow in ("drop_newest", "drop_oldest"):
            self._overflows(tick)
        else:
            self._drop(tick, "timer")

    def put_back(self, entries: Sequence[Entry]) -> None:
        """Puts messages in front of all others, in their order, whether there is room or not."""
        if self.mail is _NO_MAIL:
            self._admits(message_of(entries[0]))  # the first of an empty mailbox, which has a deque then
        self.mail.extendleft(reversed(entries))

    def behave(self, methods: Mapping[type, Method]) -> None:
        """Other handlers from now on. The mail is in another deque then: by that whoever empties it knows."""
        self.methods = methods
        if self.mail is not _NO_MAIL:
            before, self.mail = self.mail, deque(self.mail)
            before.clear()  # and never used again: somebody may still take from it

    def let_in(self, senders: Senders) -> None:
        """Takes as many of those who wait as there is room for; whoever has given up is passed over."""
        while senders and len(self.mail) < self._max:
            entry, future = senders.popleft()
            if not future.done():
                self.mail.append(entry)
                if type(entry) is not tuple:
                    future.set_result(None)
        if not senders:
            self.senders = None
            self.room = self._max

    def put_away(self) -> None:
        """Gives the deque, which is empty, to whoever needs one next."""
        if self.mail is not _NO_MAIL:
            spare = self._owner.system.spare
            if len(spare) < SPARE_MAX:
                spare.append(self.mail)
            self.mail = _NO_MAIL
            self.room = 0

    def close(self, why: str) -> None:
        """Takes nothing any more. Whoever asked, or waits for room, is told; what was only told becomes dead letters."""
        self.closed = why
        mail, senders = self.mail, self.senders or ()
        self.mail, self.room, self.senders = _NO_MAIL, 0, None
        while mail:
            entry = mail.popleft()
            self.refuse(entry)
        for _, future in senders:
            if not future.done():
                future.set_exception(self.stopped())

    def refuse(self, entry: Entry) -> None:
        """What becomes of a message when the actor is stopped; its timers are over then."""
        if isinstance(entry, Message):
            self._owner.system.dead.add(self._owner.address, entry, "stopped")
        else:
            fail(entry, self.stopped())

    def stopped(self) -> ActorStopped:
        """What is said to those who come too late."""
        return ActorStopped(str(self._owner.address), self.closed)

    def _admits(self, message: Message[Any]) -> bool:
        """Whether there is room for it; the owner is awake then."""
        if type(message) not in self.methods:
            raise self._owner.unhandled(message)
        if self.mail is _NO_MAIL:
            if self.closed:
                raise self.stopped()
            spare = self._owner.system.spare
            self.mail = spare.pop() if spare else deque()
            self.room = self._max
            self._owner.wake()
            return True
        return self.senders is None and len(self.mail) < self._max

    def _overflows(self, entry: Entry) -> None:
        full = MailboxFull(str(self._owner.address))
        if self._overflow == "drop_oldest":
            oldest = self.mail.popleft()
            self.mail.append(entry)
            fail(oldest, full)
            self._drop(oldest, "drop_oldest")
            return
        if self._overflow == "drop_newest":
            self._drop(entry, "drop_newest")
            if type(entry) is not tuple:
                return
        raise full

    def _drop(self, entry: Entry, reason: Literal["drop_newest", "drop_oldest", "timer"]) -> None:
        if isinstance(entry, Tick) and entry.take() is None:
            return
        self._owner.system.dead.add(self._owner.address, message_of(entry), reason)

    def _line_up(self, entry: Entry, future: "asyncio.Future[Any]") -> None:
        """One more who waits: with the reply to an ask, or with what ``put_wait`` awaits."""
        if self.senders is None:
            self.senders = deque()
        self.senders.append((entry, future))
        self.room = 0


def message_of(entry: Entry) -> Message[Any]:
    """The message itself."""
    if isinstance(entry, tuple):
        return entry[0]
    return entry.message if isinstance(entry, Tick) else entry


def fail(entry: Entry | None, error: BaseException, cause: BaseException | None = None) -> None:
    """Whoever asked gets the error, if he still waits."""
    if isinstance(entry, tuple):
        reply = entry[1]
        if not reply.done():
            error.__cause__ = cause
            reply.set_exception(error)
