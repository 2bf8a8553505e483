"""A local cell: the place of one local actor and of its incarnations, until it is stopped.

It owns no task: a runner comes when there is mail, and an instance is made for the first message. An incarnation that fails is
dropped with its state; the mail waits for the next one. Everything is on one event loop.

What it is told beside its mailbox holds however much mail there is: an order to stop from the next message on, one to suspend
from the next batch on.
"""

import asyncio
from collections.abc import Mapping
from itertools import repeat, starmap
from typing import Any, Protocol

import structlog

from regrow.actors.errors import DefinitionError, Refused
from regrow.actors.local_end import LocalEnd
from regrow.actors.local_life import LocalLife, ends_message_alone
from regrow.actors.local_limit import limit_asks
from regrow.actors.local_mailbox import Asked, Entry, LocalMailbox, Plain, PostOffice, fail, message_of
from regrow.actors.local_policy import LocalLimits, LocalPolicy
from regrow.actors.local_restarts import LocalRestarts, told
from regrow.actors.local_stash import Stashed
from regrow.actors.local_timers import Tick
from regrow.actors.message import Message
from regrow.actors.runners import Runners
from regrow.actors.start import Start
from regrow.bus import Address
from regrow.supervisor import Crashed, Exit, describe

_log = structlog.get_logger(__name__)

QUANTUM = 16
"""About as many messages are handled before another actor that is ready has its turn."""
BATCH_MAX = 256
"""Messages handled without a look at the clock; batches grow to it, so that each takes about as long as all before it."""

_NOTHING = ()
_RAISED = (Exception, asyncio.CancelledError, Stashed, BaseExceptionGroup)
"""Whatever a handler may raise that ends its actor's incarnation and nothing else."""


class Surroundings(PostOffice, Protocol):
    """What a cell needs of its system."""

    runners: Runners

    def draw(self) -> float: ...
    def forget(self, address: Address) -> None: ...


class LocalCell:
    """One local actor. While it is ``idle``, whoever asks it something of a type in ``plain`` may ``serve`` himself."""

    __slots__ = (
        "_actor",
        "_end",
        "_held",
        "_kind",
        "_life",
        "_policy",
        "_restarts",
        "_runner",
        "_stash_max",
        "_suspended",
        "address",
        "idle",
        "mailbox",
        "plain",
        "system",
    )

    def __init__(
        self,
        kind: type[Any],
        address: Address,
        system: Surroundings,
        limits: LocalLimits,
        policy: LocalPolicy,
    ) -> None:
        self.address = address
        self.system = system
        self.mailbox = LocalMailbox(self, kind.__methods__, limits.mailbox_max, limits.overflow)
        self.plain: Mapping[type, Plain] = kind.__plain__
        self.idle = True
        self._kind = kind
        self._policy = policy
        self._actor: Any = None
        self._suspended = False
        self._held = False  # suspended, and had something to do
        self._runner: asyncio.Task[Any] | None = None
        self._restarts: LocalRestarts | None = None
        self._stash_max = limits.stash_max
        self._life: LocalLife | None = None
        self._end: LocalEnd | None = None
        if kind.__has_hook__:
            self.wake()

    @property
    def restarts(self) -> int:
        """How often it has been restarted."""
        return self._restarts.count if self._restarts is not None else 0

    @property
    def exit(self) -> Exit | None:
        """How it ended; None while it lives."""
        return self._end.exit if self._end is not None else None

    @property
    def is_gone(self) -> bool:
        """Whether it is stopped and no handler of it runs any more."""
        return bool(self.mailbox.closed) and self._runner is None

    @property
    def ending(self) -> LocalEnd:
        """Its end, whether it has come or not."""
        if self._end is None:
            self._end = LocalEnd()
        return self._end

    @property
    def life(self) -> LocalLife:
        """What the incarnation that lives holds beside its fields."""
        if self._life is None:
            self._life = LocalLife(self, self._actor, self._kind, self._stash_max)
        return self._life

    def is_living(self, actor: object) -> bool:
        """Whether this is the incarnation that lives."""
        return self._actor is actor

    def wake(self) -> None:
        """Something is to be done, for an idle actor by a runner."""
        if self.idle:
            self.idle = False
            self.system.runners.activate(self)

    def unhandled(self, message: Message[Any]) -> Exception:
        """What a sender is told of a message that nothing handles."""
        try:
            self._kind.__regrow__.handler(message)
        except DefinitionError as error:
            return error
        raise AssertionError(f"{message} is handled")

    def serve(self, message: Message[Any], plain: Plain) -> Any:
        """The reply of an idle actor whose handler never awaits: handled at once, in the task of whoever asks.

        It is done as if the message had been the only one in the mailbox, in a context that is not the asker's. Raises what an
        ask raises, and ``Stashed`` when the actor wants it to be ``put_aside``.
        """
        self.idle = False
        if self._actor is None:
            self._actor = self._kind.__fresh__(self)
        try:
            value = self.system.runners.context.run(plain, self._actor, message)
        except _RAISED as error:  # the supervised edge, as in ``drain``
            if ends_message_alone(error, message, self.address):
                self._continue()
                raise
            raise self._failed(error) from error
        self._continue()
        return value

    def take_one(self) -> bool:
        """Handles the one message that waits, where it was told and its handler never awaits; False when that is not so.

        What a message to each of many actors costs is mostly what comes around it: this is ``drain`` without a coroutine.
        """
        mailbox, actor = self.mailbox, self._actor
        mail = mailbox.mail
        if len(mail) != 1 or actor is None or self._suspended or mailbox.senders is not None:
            return False
        entry = mail[0]
        plain = self.plain.get(type(entry))
        if plain is None:
            return False
        mail.popleft()
        try:
            plain(actor, entry)
        except _RAISED as error:  # the supervised edge, as in ``drain``
            if self._is_over(error, entry):
                return True
        if mailbox.mail:
            self.system.runners.activate(self)
        else:
            self._rest()
        return True

    async def drain(self, runner: "asyncio.Task[Any]") -> bool:
        """Handles messages until none is left or it is somebody else's turn; True when more are waiting.

        Raises only a cancellation of its runner.
        """
        self._runner = runner
        try:
            if self._suspended:
                self._held = True
                return False
            if self._actor is None and not await self._begin():
                return False
            actor, runners, mailbox = self._actor, self.system.runners, self.mailbox
            mail, methods, plains = mailbox.mail, mailbox.methods, self.plain
            known: type[Any] | None = None
            plain: Any = None
            size = 1
            while mail:
                batch = starmap(mail.popleft, repeat(_NOTHING, min(size, len(mail)))) if size > 1 else (mail.popleft(),)
                try:
                    for entry in batch:
                        try:
                            kind: type[Any] = type(entry)
                            if kind is known:  # the commonest comes first: what is told again and never awaits
                                plain(actor, entry)
                            elif kind is tuple:
                                # No cast, which would be a call for each message.
                                asked: Asked = entry  # type: ignore[assignment] # pyright: ignore[reportAssignmentType]
                                message, reply, due = asked
                                if reply.done():
                                    self.system.dead.add(self.address, message, "late")
                                    continue
                                kind = type(message)
                                if kind in plains:
                                    value = plains[kind](actor, message)
                                else:
                                    limit = limit_asks(due)
                                    try:
                                        value = await methods[kind](actor, message)
                                    finally:
                                        limit.clear()
                                try:
                                    reply.set_result(value)
                                    runners.answered = True
                                except asyncio.InvalidStateError:  # whoever asked has given up meanwhile
                                    self.system.dead.add(self.address, message, "late_reply")
                            elif kind in plains:
                                known, plain = kind, plains[kind]
                                plain(actor, entry)
                            elif kind is Tick:
                                tick: Tick = entry  # type: ignore[assignment] # pyright: ignore[reportAssignmentType]
                                taken = tick.take()
                                if taken is not None:
                                    await methods[type(taken)](actor, taken)
                            else:
                                await methods[kind](actor, entry)
                        except _RAISED as error:  # the supervised edge: decided on here
                            if self._is_over(error, entry):
                                return False
                except IndexError:  # the mail is not there any more
                    pass
                if mailbox.mail is not mail:  # stopped meanwhile, or from here on with other handlers
                    mail, methods, plains, known = mailbox.mail, mailbox.methods, self.plain, None
                if mailbox.senders is not None:
                    mailbox.let_in(mailbox.senders)
                if mail and (self._suspended or runners.is_due(enough=size >= QUANTUM)):
                    self._held = self._suspended
                    return not self._held
                size = min(2 * size, BATCH_MAX)
        finally:
            self._runner = None
            if self.mailbox.closed:
                if runner.cancelling():  # a handler has put up with its cancellation, which was not meant for the next
                    runner.uncancel()
                self.ending.come()
        self._rest()
        return False

    def suspend(self) -> None:
        """No message is handled until ``resume``, but those of the running batch; mail waits."""
        self._suspended = True
        if self.idle:
            self.idle, self._held = False, True

    def resume(self) -> None:
        """Goes on where it was suspended."""
        self._suspended = False
        if self._held:
            self._held = False
            self._continue()

    def end(self, why: str, cause: Exit) -> None:
        """From now on no message is taken, and what waits is answered with ``ActorStopped``. A running handler goes on."""
        if self.mailbox.closed:
            return
        self.idle = False
        if self._life is not None:
            self._life.end()
        if self._restarts is not None and self._restarts.timer is not None:
            self._restarts.timer.cancel()
        self.system.forget(self.address)
        self.mailbox.close(why)
        self.ending.near(cause)
        if self._runner is None:
            self.ending.come()

    def kill(self, cause: Exit) -> None:
        """Ends it of that cause, and cancels the handler that runs, unless that is who calls."""
        if self.mailbox.closed:
            return
        self.end(f"it was told to end: {describe(cause)}", cause)
        if self._runner is not None and self._runner is not asyncio.current_task():
            self._runner.cancel()

    async def wait_gone(self, grace_s: float) -> None:
        """Returns once the running handler has ended, which is cancelled after ``grace_s`` seconds."""
        running = self._runner
        if running is None or running is asyncio.current_task():
            return
        try:
            async with asyncio.timeout(grace_s):
                await self.ending.wait()
        except TimeoutError:
            if self._runner is not None and not self._runner.cancelling():
                _log.warning("handler cancelled", actor=str(self.address), waited_s=grace_s)
                self._runner.cancel()
            await self.ending.wait()

    def _continue(self) -> None:
        """Queues it for a runner if there is something to do."""
        if self.mailbox.mail or (self._actor is None and self._kind.__has_hook__):
            self.system.runners.activate(self)
        else:
            self._rest()

    def _rest(self) -> None:
        """Nothing is to be done."""
        if not self.mailbox.closed:
            self.mailbox.put_away()
            self._held = self._suspended
            self.idle = not self._held

    async def _begin(self) -> bool:
        """A fresh instance with the defaults of its fields; False when it did not live through its start, or is stopped."""
        if self.mailbox.closed:
            return False
        self._actor = actor = self._kind.__fresh__(self)
        if self._kind.__has_hook__:
            cause = self._restarts.cause if self._restarts is not None else None
            try:
                await actor.on_start(Start(cause, self.restarts, recovered=False))
            except _RAISED as error:  # the supervised edge: as with a handler
                return not self._is_over(error, None)
        return True

    def _is_over(self, error: BaseException, entry: Entry | None) -> bool:
        """Decides on what a handler raised; False when it only refused. Raises the cancellation of its runner."""
        if entry is not None and ends_message_alone(error, message_of(entry), self.address):
            if isinstance(error, Refused):
                fail(entry, error)
            else:
                self.life.end_message(error, entry)
            return False
        fail(entry, self._failed(error), error)
        if isinstance(error, asyncio.CancelledError):
            runner = asyncio.current_task()
            assert runner is not None
            # By ``wait_gone``, by something that the handler awaited, or with the whole system.
            if self.mailbox.closed:
                runner.uncancel()
            if runner.cancelling():
                raise error
        return True

    def _failed(self, error: BaseException) -> Exception:
        """An incarnation is over: what becomes of it is the supervisor's table to say. Returned is what whoever asked is told."""
        if self.mailbox.closed:
            return self.mailbox.stopped()
        if self._life is not None:
            self._life.end()
        self._actor = self._life = None
        if self._restarts is None:
            self._restarts = LocalRestarts()
        cause = Crashed(error)
        if not self._restarts.failed(cause, self.address, self._policy, self.system.draw(), self._restart):
            self.end(f"it {describe(cause)}, and is not restarted", cause)
        return told(error)

    def _restart(self) -> None:
        assert self._restarts is not None
        self._restarts.restarted()
        if self.mailbox.senders is not None:
            self.mailbox.let_in(self.mailbox.senders)
        self._continue()
