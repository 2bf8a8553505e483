"""A local cell: the place of one local actor, its mailbox and its incarnations, until it is stopped.

It owns no task: a runner comes when there is mail. An incarnation that fails is dropped with its state; the mail waits for
the next one. Everything is on one event loop.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec
import structlog

from regrow.actors.errors import DEFECT, ActorStopped, AskFailed, Refused, failure
from regrow.actors.message import Message
from regrow.actors.runners import Runners
from regrow.actors.start import Start
from regrow.bus import Address, MailboxFull
from regrow.supervisor import Backoff, Crashed, Exit, Intensity, admit, decide, describe
from regrow.supervisor.spec import Restart

_log = structlog.get_logger(__name__)

QUANTUM = 16
"""Messages that an actor handles before the next one has its turn."""

Method = Callable[[Any, Any], Awaitable[object]]
"""A handler, called with the actor and the message."""
Reply = asyncio.Future[object]
Mail = tuple[Method, Message[Any], Reply | None]


class LocalPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What is done about a local actor whose handler raised."""

    restart: Restart = "permanent"
    """``temporary``: it is stopped instead. ``transient`` is the same as ``permanent``: a handler that raised is no clean end."""
    backoff: Backoff = Backoff()
    intensity: Intensity = Intensity()
    """Restarts of this one actor; one more and it is stopped."""


class Surroundings(Protocol):
    """What a cell needs of its system."""

    runners: Runners

    def draw(self) -> float: ...
    def forget(self, address: Address) -> None: ...


class LocalCell:
    """One local actor."""

    def __init__(
        self, kind: type[Any], address: Address, system: Surroundings, mailbox_max: int, policy: LocalPolicy
    ) -> None:
        self.name = str(address)
        self.address = address
        self.system = system
        self.restarts = 0
        self._kind = kind
        self._methods: Mapping[type, Method] = kind.__methods__
        self._mail: deque[Mail] = deque()
        self._mailbox_max = mailbox_max
        self._policy = policy
        self._scheduled = False  # queued, running, or waiting for its restart
        self._stopped = ""  # why, once it is
        self._runner: asyncio.Task[Any] | None = None
        self._gone = asyncio.Event()
        self._window: tuple[float, ...] = ()
        self._attempt = 0
        self._restart_timer: asyncio.TimerHandle | None = None
        self._cause: Exit | None = None
        self._incarnate()
        if self._to_begin:
            self._scheduled = True
            system.runners.activate(self)

    @property
    def is_gone(self) -> bool:
        """Whether it is stopped and no handler of it runs any more."""
        return self._gone.is_set()

    def put(self, message: Message[Any], reply: Reply | None = None) -> None:
        """Adds to the mailbox. Raises ``MailboxFull``, ``ActorStopped``, and ``DefinitionError`` when nothing handles it."""
        method = self._methods.get(type(message))
        if method is None:
            method = self._kind.__regrow__.handler(message).method
        if len(self._mail) >= self._mailbox_max:
            self._refuse()
        self._mail.append((method, message, reply))
        if not self._scheduled:
            self._scheduled = True
            self.system.runners.activate(self)

    async def drain(self) -> bool:
        """Handles up to ``QUANTUM`` messages; True when more are waiting. Raises only a cancellation of its runner."""
        mail, actor = self._mail, self._actor
        self._runner = asyncio.current_task()
        try:
            if self._to_begin and not await self._begin(actor):
                return False
            for _ in range(QUANTUM):
                if not mail:
                    break
                method, message, reply = mail.popleft()
                try:
                    value = await method(actor, message)
                except Refused as refused:
                    _fail(reply, refused)
                except Exception as error:  # the supervised edge: whatever a handler raises is decided on here
                    self._failed(error, reply)
                    return False
                except asyncio.CancelledError as error:
                    self._cancelled(error, reply)
                    return False
                else:
                    if reply is not None and not reply.done():
                        reply.set_result(value)
        finally:
            self._runner = None
            if self._stopped:
                self._gone.set()
        self._scheduled = bool(mail)
        return self._scheduled

    def end(self, why: str) -> None:
        """From now on no message is taken, and what waits is answered with ``ActorStopped``. A running handler goes on."""
        if self._stopped:
            return
        self._stopped = why
        self._mailbox_max = 0
        if self._restart_timer is not None:
            self._restart_timer.cancel()
        self.system.forget(self.address)
        self._empty()
        if self._runner is None:
            self._gone.set()

    async def wait_gone(self, grace_s: float) -> None:
        """Returns once the running handler has ended, which is cancelled after ``grace_s`` seconds."""
        if self._runner is asyncio.current_task():
            return
        try:
            async with asyncio.timeout(grace_s):
                await self._gone.wait()
        except TimeoutError:
            if self._runner is not None:
                _log.warning("handler cancelled", actor=self.name, waited_s=grace_s)
                self._runner.cancel()
            await self._gone.wait()

    def _empty(self) -> None:
        told = 0
        while self._mail:
            _, _, reply = self._mail.popleft()
            told += reply is None
            _fail(reply, ActorStopped(self.name, self._stopped))
        if told:
            _log.warning("messages to a stopped actor dropped", actor=self.name, count=told)

    def _refuse(self) -> None:
        if self._stopped:
            raise ActorStopped(self.name, self._stopped)
        raise MailboxFull(self.name)

    def _incarnate(self) -> None:
        """A fresh instance with the defaults of its fields."""
        state = self._kind.__regrow__.state_type()
        self._actor: Any = object.__new__(self._kind)
        vars(self._actor).update({name: getattr(state, name) for name in state.__struct_fields__}, _cell=self)
        self._since = asyncio.get_running_loop().time()
        self._to_begin: bool = self._kind.__has_hook__

    async def _begin(self, actor: Any) -> bool:
        """Tells an incarnation that it lives; False when it did not live through that, or has been stopped before."""
        self._to_begin = False
        if self._stopped:
            return False
        try:
            await actor.on_start(Start(self._cause, self.restarts, recovered=False))
        except Exception as error:  # the supervised edge: as with a handler
            self._failed(error, None)
            return False
        except asyncio.CancelledError as error:
            self._cancelled(error, None)
            return False
        return True

    def _cancelled(self, error: asyncio.CancelledError, reply: Reply | None) -> None:
        """The handler was cancelled: by ``wait_gone``, by something it awaited, or with the whole system."""
        runner = asyncio.current_task()
        assert runner is not None
        self._failed(error, reply)
        if self._stopped:
            runner.uncancel()
        if runner.cancelling():
            raise error

    def _failed(self, error: BaseException, reply: Reply | None) -> None:
        """An incarnation is over: what becomes of it is the supervisor's table to say."""
        if self._stopped:
            _fail(reply, ActorStopped(self.name, self._stopped), error)
            return
        self._cause = cause = Crashed(error)
        failed = failure(DEFECT, f"{type(error).__name__}: {error}")
        _fail(reply, AskFailed(failed.kind, failed.code, failed.message), error)
        now = asyncio.get_running_loop().time()
        action = decide(self._policy.restart, cause)
        window = admit(self._window, now, self._policy.intensity) if action == "restart" else None
        _log.warning("actor failed", actor=self.name, error=type(error).__name__, again=window is not None)
        if window is None:
            self.end(f"it {describe(cause)}, and is not restarted")
            return
        self._window = window
        attempt = 0 if self._policy.backoff.is_over(now - self._since) else self._attempt
        self._attempt = attempt + 1
        delay_s = self._policy.backoff.delay_s(attempt, self.system.draw())
        self._restart_timer = asyncio.get_running_loop().call_later(delay_s, self._restart)

    def _restart(self) -> None:
        self._restart_timer = None
        self.restarts += 1
        self._incarnate()
        if self._mail or self._to_begin:
            self.system.runners.activate(self)
        else:
            self._scheduled = False


def _fail(reply: Reply | None, error: Exception, cause: BaseException | None = None) -> None:
    if reply is not None and not reply.done():
        error.__cause__ = cause
        reply.set_exception(error)
