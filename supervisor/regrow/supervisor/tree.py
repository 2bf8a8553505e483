"""One run of a supervisor, from the first start to the last stop.

One task owns the tree. Deaths, due restarts and requests reach it one at a time, so a restart that fails is just
the next death, and a request to stop, which cancels that task, comes between any two of them, as in OTP's
supervisor.erl. While the owner has nothing to do, a death that needs no waiting is dealt with on the spot, in
the turn of the loop that brought it. Unlike in OTP nobody waits for a child that was restarted alone to be
ready, so a slow one does not hold up its siblings.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Literal, TypeVar

import structlog

from regrow.supervisor.child import Child
from regrow.supervisor.deadlines import Deadlines
from regrow.supervisor.decision import backoff_for, decide, restart_type
from regrow.supervisor.errors import RestartIntensityReached, StartFailed, SupervisorError
from regrow.supervisor.exits import Exit, Shutdown, error_of
from regrow.supervisor.frames import forget_frames
from regrow.supervisor.intensity import Intensity, Window
from regrow.supervisor.refusals import SupervisorStopped
from regrow.supervisor.reports import Reports
from regrow.supervisor.slot import Slot
from regrow.supervisor.spec import ChildSpec
from regrow.supervisor.strategy import AutoShutdown, Strategy, Waves, affected, ends_all, one_by_one

_log: Final = structlog.get_logger(__name__)
_ASKED: Final = Shutdown()
T = TypeVar("T")

Work = Callable[[], Coroutine[Any, Any, None] | None]
"""Something for the owner to do, at once or by waiting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a tree does about deaths; `waves`: who is stopped together; `keeps`: which specs outlive their children."""

    intensity: Intensity = field(default_factory=Intensity)
    strategy: Strategy = "one_for_one"
    auto_shutdown: AutoShutdown = "never"
    waves: Waves[Slot] = one_by_one
    keeps: Callable[[ChildSpec, Exit], bool] = lambda spec, cause: restart_type(spec.restart, cause) != "temporary"


class Tree:
    """The children of one supervisor while it runs: made when it starts, never started twice.

    `verdict` is why it ends when nobody asked it to: what it gave up with, or that its significant children have
    ended. After `is_stopping` is set nothing is started any more.
    """

    def __init__(self, name: str, specs: Sequence[ChildSpec], rules: Rules, draw: Callable[[], float]) -> None:
        self.is_stopping = False
        self.settled = asyncio.Event()  # all children have started, or the tree has ended
        self.verdict: Exception | Literal["auto_shutdown"] | None = None
        self._loop = asyncio.get_running_loop()
        self.since = self._loop.time()
        self.slots: dict[str, Slot] = {spec.id: Slot(spec, spec.id, self.since) for spec in specs}
        self._name = name
        self._rules = rules
        self._draw = draw
        self._window = Window(rules.intensity)
        self._reports = Reports(name)
        self._deadlines = Deadlines()
        # One item at most for each child and each caller that waits: a child runs, or waits for its restart.
        self._inbox: deque[Work] = deque()
        self._replies: set[asyncio.Future[Any]] = set()
        self._parked: asyncio.Future[None] | None = None  # the owner waits here while it has nothing to do
        # Children belong to the supervisor, not to whoever asked for one or saw one die.
        self._context = copy_context()

    async def run(self) -> None:
        """Start the children in order and look after them; however that ends, stop them in reverse."""
        try:
            for slot in tuple(self.slots.values()):
                await self.launch(slot).wait_started()
            self.settled.set()
            await self._supervise()
        finally:
            self.is_stopping = True
            await self._stop_all()

    async def request(self, work: Callable[[], Awaitable[T]]) -> T:
        """What `work` gives, done by the owner when its turn comes; raises what it refuses with.

        It is done also when the caller is cancelled after it was begun. Raises `SupervisorStopped`.
        """
        if self.is_stopping:
            raise SupervisorStopped(self._name)
        reply: asyncio.Future[T | SupervisorError] = self._loop.create_future()
        self._replies.add(reply)
        self._put(partial(self._answer, work, reply))
        try:
            answer = await reply
        finally:
            self._replies.discard(reply)
        if isinstance(answer, SupervisorError):
            raise answer
        return answer

    def add(self, spec: ChildSpec, name: str) -> Slot:
        """A new last place, under a name that is free."""
        slot = self.slots[name] = Slot(spec, name, self._loop.time())
        return slot

    def launch(self, slot: Slot) -> Child:
        """Start a child in its slot."""
        now = self._loop.time()
        slot.settle()
        slot.since = now
        slot.child = child = Child(slot.spec, slot.name, partial(self._died, slot), self._deadlines, slot)
        child.launch(slot.last, slot.restarts, now, self._context)
        return child

    async def stop(self, slots: Sequence[Slot]) -> None:
        """Stop them, in the order of the rules; temporary ones are forgotten.

        A cancellation leaves those that still go to whoever stops the whole tree.
        """
        for wave in self._rules.waves(slots):
            for slot in wave:
                slot.settle()
                if slot.child is not None:
                    slot.child.end(_ASKED)
            for slot in wave:
                if slot.child is not None:
                    await slot.child.wait_gone()
                self.close(slot)

    def close(self, slot: Slot) -> None:
        """It is stopped: its child has gone, if it had one, and it waits for no restart."""
        slot.settle()
        child = slot.child
        if child is not None and child.exit is not None:
            slot.bury(child.exit, self._loop.time())
            if error_of(child.exit) is not None:
                self._reports.died(slot, child.exit, "stop")
        self._drop(slot, _ASKED)

    def _drop(self, slot: Slot, cause: Exit) -> None:
        if slot.leaving or not self._keeps(slot, cause):
            self.slots.pop(slot.name, None)

    def _keeps(self, slot: Slot, cause: Exit) -> bool:
        try:
            return self._rules.keeps(slot.spec, cause)
        except (
            Exception
        ) as error:  # the supervised edge: a rule of the user's that raised; the others still have to stop
            _log.error("restart_rule_raised", supervisor=self._name, child=slot.name, error=type(error).__name__)
            self._end_with(error)
            return True

    async def _supervise(self) -> None:
        while self.verdict is None:
            if self._inbox:
                work = self._inbox.popleft()()
                if work is not None:
                    await work
            else:
                self._parked = self._loop.create_future()
                await self._parked
        if isinstance(self.verdict, Exception):
            raise self.verdict

    async def _stop_all(self) -> None:
        """Stop all through any cancellation; the first one to come is passed on by whoever runs this."""
        while any(slot.child is not None for slot in self.slots.values()):
            try:
                await self.stop(tuple(self.slots.values()))
            except asyncio.CancelledError:
                continue
        for slot in self.slots.values():
            slot.settle()
        self._deadlines.close()
        self._reports.close()
        for reply in self._replies:
            if not reply.done():
                reply.set_result(SupervisorStopped(self._name))

    async def _answer(self, work: Callable[[], Awaitable[T]], reply: "asyncio.Future[T | SupervisorError]") -> None:
        if reply.done():  # the caller has gone
            return
        answer: T | SupervisorError
        try:
            answer = await work()
        except SupervisorError as refusal:
            answer = refusal
        if not reply.done():
            reply.set_result(answer)

    @property
    def _is_idle(self) -> bool:
        return self._parked is not None and not self._parked.done()

    def _put(self, work: Work, *, first: bool = False) -> None:
        if first:
            self._inbox.appendleft(work)
        else:
            self._inbox.append(work)
        self._unpark()

    def _unpark(self) -> None:
        if self._parked is not None and not self._parked.done():
            self._parked.set_result(None)

    def _died(self, slot: Slot, cause: Exit) -> None:
        if self._is_idle:
            try:
                self._bury(slot, slot.child)
            except Exception as error:  # the supervised edge: a rule of the user's that raised
                self._end_with(error)
        elif not self.is_stopping:
            self._put(partial(self._bury, slot, slot.child))

    def _bury(self, slot: Slot, child: Child | None) -> None:
        if child is None or slot.child is not child or child.exit is None:
            return  # it was stopped or replaced before its turn came
        cause, now = child.exit, self._loop.time()
        if slot.last is not None:
            forget_frames(error_of(slot.last))
        slot.bury(cause, now)
        if slot.leaving or (not slot.restarts and child.has_failed_to_start):
            self.slots.pop(slot.name, None)  # who started or terminates it waits for this, and is told
            return
        action = decide(slot.spec.restart, cause)
        self._reports.died(slot, cause, action)
        if action == "restart":
            self._schedule(slot, cause, now, 0.0 if child.ready_at is None else now - child.ready_at)
            return
        self._drop(slot, cause)
        others_live = any(other.spec.significant and other.lives for other in self.slots.values())
        if ends_all(self._rules.auto_shutdown, slot.spec.significant, others_live):
            self._end_with("auto_shutdown")

    def _schedule(self, slot: Slot, cause: Exit, now: float, ran_s: float) -> None:
        if not self._window.admit(now):
            _log.error("restart_intensity_reached", supervisor=self._name, child=slot.name)
            error = RestartIntensityReached(self._name, slot.name, cause)
            error.__cause__ = error_of(cause)
            self._end_with(error)
            return
        backoff = backoff_for(slot.spec.backoff, cause)
        attempt = 0 if backoff.is_over(ran_s) else slot.attempt
        slot.attempt = attempt + 1
        delay_s = backoff.delay_s(attempt, self._draw()) if backoff.first_s else 0.0
        slot.restarting = True
        if self._rules.strategy != "one_for_one":
            self._put(partial(self._clear, slot, delay_s), first=True)
        elif delay_s:
            self._wait(slot, delay_s)
        else:
            self._restart(slot)

    async def _clear(self, slot: Slot, delay_s: float) -> None:
        """Stop the siblings that this death concerns, then start them all, at once or after the backoff."""
        await self.stop([sibling for sibling in self._concerned(slot) if sibling is not slot])
        if delay_s:
            self._wait(slot, delay_s)
        else:
            await self._restart_all(slot)

    def _wait(self, slot: Slot, delay_s: float) -> None:
        slot.due = self._loop.call_later(delay_s, self._due, slot)

    def _due(self, slot: Slot) -> None:
        slot.due = None
        if self._rules.strategy != "one_for_one":
            self._put(partial(self._restart_all, slot))
        elif self._is_idle:
            self._restart(slot)
        else:
            self._put(partial(self._restart, slot))

    def _restart(self, slot: Slot) -> None:
        if slot.restarting and slot.due is None:  # else it was terminated meanwhile
            slot.restarts += 1
            self.launch(slot)

    async def _restart_all(self, dead: Slot) -> None:
        if not dead.restarting or dead.due is not None:
            return
        group = self._concerned(dead)
        await self.stop([slot for slot in group if slot.child is not None])
        for slot in group:
            slot.restarts += 1
            child = self.launch(slot)
            if slot is not group[-1] and not await self._came(slot, child):
                return  # its death is the next one in the inbox, and begins all this again

    async def _came(self, slot: Slot, child: Child) -> bool:
        try:
            await child.wait_started()
        except StartFailed as failed:
            return decide(slot.spec.restart, failed.cause) != "restart"
        return True

    def _concerned(self, slot: Slot) -> Sequence[Slot]:
        return affected(self._rules.strategy, tuple(self.slots.values()), slot)

    def _end_with(self, verdict: Exception | Literal["auto_shutdown"]) -> None:
        self.verdict = verdict
        self._unpark()
