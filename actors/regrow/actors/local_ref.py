"""A reference to a local actor: what its senders hold. Everything is on one event loop."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from regrow.actors.deadlines import Deadlines
from regrow.actors.local_cell import LocalCell
from regrow.actors.local_stash import Stashed
from regrow.actors.message import Message
from regrow.actors.ref import ASK_TIMEOUT_S
from regrow.bus import Address
from regrow.supervisor import Exit, Shutdown
from regrow.supervisor.mortal import Trap

R = TypeVar("R")

GRACE_S = 5.0
"""Seconds that a running handler has when its actor is stopped, as an OTP child has."""


class LocalRef:
    """A local actor, through all its incarnations. Equal to every other reference to it.

    It is a ``regrow.supervisor.Mortal``: monitors, links and groups take it. A restart is no death; it dies when it is stopped,
    fails too often, or is ended by a link, once its last handler has ended.
    """

    __slots__ = ("_cell", "_deadlines", "_loop", "_mailbox")

    def __init__(self, cell: LocalCell, deadlines: Deadlines) -> None:
        self._cell = cell
        self._mailbox = cell.mailbox
        self._deadlines = deadlines
        self._loop = asyncio.get_running_loop()

    def __repr__(self) -> str:
        return f"LocalRef({self.address})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LocalRef) and other._cell is self._cell

    def __hash__(self) -> int:
        return hash(self._cell)

    @property
    def name(self) -> str:
        """Kind and key, as logs call it."""
        return str(self._cell.address)

    @property
    def exit(self) -> Exit | None:
        """How it ended; None while it lives."""
        return self._cell.exit

    @property
    def trap(self) -> Trap | None:
        """Where exit signals go instead of ending it; for ``trap_exits``."""
        return self._cell.ending.trap

    @trap.setter
    def trap(self, trap: Trap | None) -> None:
        self._cell.ending.trap = trap

    @property
    def address(self) -> Address:
        """Kind and key."""
        return self._cell.address

    @property
    def restarts(self) -> int:
        """How often it has been restarted."""
        return self._cell.restarts

    async def ask(self, message: Message[R], *, timeout_s: float = ASK_TIMEOUT_S) -> R:
        """The actor's reply, typed by the message.

        Raises ``Refused`` when the actor says no, ``AskFailed`` (from the handler's exception) when its handler failed,
        ``AskTimeout`` when no reply came within ``timeout_s`` seconds, ``ActorStopped``. When no room is left: ``MailboxFull``,
        at once, or what the mailbox's ``overflow`` says. Two actors that wait for each other both end in ``AskTimeout``.

        In a handler that serves an ask itself, it ends with that ask at the latest, and the error says the seconds that were
        left. What is still in the mailbox when whoever asked has given up is not handled: it is a dead letter (``late``). Of
        what is being handled then, the reply is one (``late_reply``).

        In a handler of a durable actor this is no step and would be asked again after a crash: ask in a tool there.
        """
        cell = self._cell
        if cell.idle and type(message) in cell.plain and cell.system.runners.is_free():
            try:
                served: R = cell.serve(message, cell.plain[type(message)])
                return served
            except Stashed:
                aside = True
        else:
            aside = False
        reply: asyncio.Future[Any] = asyncio.Future(loop=self._loop)
        due = self._deadlines.add(reply, timeout_s, cell.address)
        mailbox = self._mailbox
        if aside:
            cell.life.put_aside((message, reply, due))
        elif type(message) in mailbox.methods and len(mailbox.mail) < mailbox.room:
            mailbox.mail.append((message, reply, due))
        else:
            try:
                mailbox.put_asked((message, reply, due))
            except BaseException:
                reply.cancel()  # or its deadline would find it open
                raise
        value: R = await reply
        return value

    def tell(self, message: Message[Any]) -> None:
        """Leaves a message; nobody learns what became of it, a failure is logged and restarts the actor.

        Raises ``ActorStopped``, and ``MailboxFull`` when no room is left, unless the mailbox's ``overflow`` says which message
        goes: then nothing was left, and the sender decides what to do.
        """
        mailbox = self._mailbox
        if type(message) in mailbox.methods and len(mailbox.mail) < mailbox.room:
            mailbox.mail.append(message)
        else:
            mailbox.put(message)

    async def tell_wait(self, message: Message[Any]) -> None:
        """Leaves a message once there is room, where the mailbox's ``overflow`` is ``wait``; elsewhere it is ``tell``.

        Those who wait are let in in the order in which they came, before whoever comes later. Cancelled while it waits, nothing
        was left. Raises ``ActorStopped``, also when the actor is stopped meanwhile.
        """
        await self._mailbox.put_wait(message)

    def suspend(self) -> None:
        """Holds the actor's mail back until ``resume``; the handler that runs goes on, as may its batch (256 messages at most).

        Messages are taken until the mailbox is full. Asks wait, within their deadlines. A suspended actor can be stopped.
        """
        self._cell.suspend()

    def resume(self) -> None:
        """Lets a suspended actor go on."""
        self._cell.resume()

    async def stop(self, *, grace_s: float = GRACE_S) -> None:
        """Stops the actor for good; returns once it is gone.

        What waits in its mailbox is answered with ``ActorStopped``; what was only told becomes dead letters. A handler that
        runs has ``grace_s`` seconds to end, then it is cancelled; one that ignores that is waited for. An actor that stops
        itself does not wait.
        """
        self._cell.end("it was asked to stop", Shutdown())
        await self._cell.wait_gone(grace_s)

    def watch(self, callback: Callable[[Exit], None]) -> None:
        """Calls back once, when it dies; see ``Mortal.watch``. For people there is ``monitor``."""
        self._cell.ending.watch(callback)

    def unwatch(self, callback: Callable[[Exit], None]) -> None:
        """Forgets an equal callback."""
        self._cell.ending.unwatch(callback)

    def end(self, cause: Exit) -> None:
        """Stops it for good, of this cause, without waiting; for ``send_exit`` and ``kill``.

        What runs is cancelled; only the handler that calls this itself goes on to its end.
        """
        self._cell.kill(cause)
