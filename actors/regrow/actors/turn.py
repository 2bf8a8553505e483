"""A running turn: what a handler may do, and what it has decided so far."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Protocol

import msgspec

from regrow.actors.actor import Actor, apply
from regrow.actors.asking import TRANSIENT, ask, query
from regrow.actors.definition import definition_of
from regrow.actors.errors import DEFECT, TIMEOUT, ActorError, AskTimeout, WouldDeadlock, failure
from regrow.actors.handler import Handler
from regrow.actors.image import Open
from regrow.actors.journal import Journal, digest
from regrow.actors.lineage import StepKey, current
from regrow.actors.message import Event, Message
from regrow.actors.records import Begun, Cancelled, Cause, Entry, Letter, Outcome, Send, Step, Steps, Turn
from regrow.actors.ref import Ref
from regrow.actors.step import Call, StepContext, in_step
from regrow.actors.tool import Remote
from regrow.actors.wire import ask_id, chain_header
from regrow.bus import Address, Bus, encode, headers


class Office(Protocol):
    """What a turn needs of the actor's activation and its host."""

    address: Address
    bus: Bus

    def submit(self, entry: Entry) -> asyncio.Future[None]: ...
    def remote_tool(self, name: str) -> Remote | None: ...
    def port(self, name: str) -> Any: ...
    def away(self) -> AbstractAsyncContextManager[None]: ...
    def count_step(self, *, replayed: bool) -> None: ...


class RunningTurn:
    """One attempt at one message. Its decisions are lost with it unless ``record`` is appended."""

    def __init__(self, office: Office, actor: Actor, letter: Letter, opened: Open | None) -> None:
        self.address = office.address
        self.letter = letter
        steps, kept = (opened.steps, opened.kept) if opened is not None else ([], [])
        self.journal = Journal(str(office.address), steps, kept=kept)
        self.cancel: Callable[[], object] = _nothing_runs
        """Cancels the handler."""
        self.events: list[msgspec.Raw] = []
        self._office = office
        self._actor = actor
        self._begun = opened is not None
        self._sends: list[Send] = []
        self._spoiled: Exception | None = None

    def emit(self, fact: Event) -> None:
        """Applies an event at once and keeps it for the record, as it will be read from there."""
        self._check_open("emit")
        definition = self._actor.__regrow__
        if type(fact) not in definition.events:
            raise ActorError(f"{definition.name} has no @event method for {type(fact).__name__}")
        recorded = msgspec.Raw(encode(fact))
        read = definition.decode_event(recorded)
        try:
            apply(self._actor, read)
        except Exception as error:
            self._spoiled = error
            raise
        self.events.append(recorded)

    def send(self, to: Address, message: Message[Any]) -> None:
        """Keeps a message for the record."""
        self._check_open("send")
        self._sends.append(Send(to.kind, to.key, msgspec.Raw(encode(message))))

    def ref(self, kind: type[Actor], key: str) -> Ref:
        """A reference whose asks are steps of this turn."""
        return Ref(definition_of(kind), key, self)

    def port(self, name: str) -> Any:
        """What the system was given under this name."""
        return self._office.port(name)

    def remote_tool(self, name: str) -> Remote | None:
        """How to call a tool that a tool agent serves; None for one that runs here."""
        return self._office.remote_tool(name)

    async def step(self, call: Call) -> Outcome:
        """The recorded outcome of this call, or that of running it now, which is recorded before it is returned.

        Cancelled, it records that before the cancellation goes on: a replay takes the same branch and never runs it again.
        """
        if self.journal.closed:
            await asyncio.sleep(0)  # a handler that swallows its cancellation in a loop must not stop the process
            raise asyncio.CancelledError
        key = current().next_key(call.tool, digest(call.arguments))
        with self.journal.running(key, pure=call.pure):
            recorded = self.journal.recorded(key)
            try:
                if recorded is None:
                    return await self._run(key, call)
                await self.journal.replay(recorded)
            except asyncio.CancelledError:
                if recorded is None or not recorded.cancelled:
                    await self._note_cancelled(key, call)
                raise
            self._office.count_step(replayed=True)
            return recorded.outcome

    async def ask(self, to: Address, handler: Handler, body: bytes, timeout_s: float) -> Outcome:
        """An ask as a step. The ask's id is the step's, so that an ask repeated after a crash finds the first one's reply."""
        chain = (*self.letter.chain, str(self.address))
        if str(to) in chain and handler.role == "command":
            raise WouldDeadlock(str(to), chain)
        arguments = encode({"to": str(to), "message": msgspec.Raw(body)})
        bus = self._office.bus

        async def run(context: StepContext) -> Outcome:
            try:
                async with self._office.away():
                    if handler.role == "query":
                        return await query(bus, to, body, timeout_s)
                    asked = ask_id(context.actor, f"{self.letter.box}{self.letter.sequence}", context.key)
                    given = {headers.ID: asked, headers.CHAIN: chain_header(chain)}
                    return await ask(bus, "act", to, body, given, timeout_s)
            except (AskTimeout, *TRANSIENT) as late:
                return Outcome(failure=failure(TIMEOUT, str(late)))

        outcome = await self.step(Call("ask", arguments, run))
        if outcome.failure is not None and outcome.failure.kind == TIMEOUT:
            raise AskTimeout(str(to), timeout_s)
        return outcome

    async def tell(self, to: Address, body: bytes) -> None:
        """Not offered inside a handler: ``self.send`` sends with the turn's record, once."""
        raise ActorError(
            f"inside a handler use self.send(ref, message) to tell {to}: it leaves with the turn's record, once"
        )

    def abort(self) -> None:
        """Ends the handler where it stands; nothing that it does from now on is recorded."""
        self.journal.close()
        self.cancel()

    def conclude(self) -> None:
        """Raises what makes a handler's result worthless although it returned one."""
        if self._spoiled is not None:
            raise ActorError("an event failed half-way and the handler went on") from self._spoiled
        self.journal.check_done()

    def record(self, reply: Outcome, position: tuple[int, int]) -> Turn:
        """All that this turn decided, as the entry of its record."""
        return closing(self.letter, reply, position, tuple(self.events), tuple(self._sends))

    async def _run(self, key: StepKey, call: Call) -> Outcome:
        context = StepContext(str(self.address), str(key))
        outcome = await self._call(context, call)
        position = self.journal.place()
        try:
            await self._submit(Steps((Step(str(key), call.tool, msgspec.Raw(call.arguments), outcome),)))
        except BaseException as error:
            self.journal.give_up(position)
            if self.journal.closed:
                raise asyncio.CancelledError from error
            raise
        await self.journal.arrive(position)
        self._office.count_step(replayed=False)
        return outcome

    async def _call(self, context: StepContext, call: Call) -> Outcome:
        """A call that was cancelled although its task was not has failed; a replay would wait for its cancellation in vain."""
        try:
            return await in_step(context, partial(call.run, context))
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if self.journal.closed or task is None or task.cancelling():
                raise
            return Outcome(failure=msgspec.structs.replace(failure(DEFECT, str(error)), type=type(error).__name__))

    async def _note_cancelled(self, key: StepKey, call: Call) -> None:
        """Records a cancellation, through further ones; not one that comes from the runtime, for then the step is to run again."""
        if self.journal.closed:
            return
        position = self.journal.place()
        stored = self._submit(Cancelled(Step(str(key), call.tool, msgspec.Raw(call.arguments), cancelled=True)))
        try:
            while not stored.done() and not self.journal.closed:
                try:
                    await asyncio.wait((stored,))
                except asyncio.CancelledError:
                    continue
        finally:
            self.journal.give_up(position)

    def _submit(self, entry: Entry) -> asyncio.Future[None]:
        """Hands an entry to the writer, after the turn's beginning where that is not in the log yet."""
        if self.journal.closed:
            raise asyncio.CancelledError
        if not self._begun:
            self._begun = True
            self._office.submit(Begun(self.letter))
        return self._office.submit(entry)

    def _check_open(self, what: str) -> None:
        if self.journal.closed:
            raise asyncio.CancelledError(f"{what} after the turn of {self.address} ended")


def closing(
    letter: Letter,
    reply: Outcome,
    position: tuple[int, int],
    events: tuple[msgspec.Raw, ...] = (),
    sends: tuple[Send, ...] = (),
) -> Turn:
    """The entry that ends a turn."""
    return Turn(Cause(letter.box, letter.id, letter.sender, letter.mark), *position, reply, events, sends)


def _nothing_runs() -> None:
    """A turn can only be cancelled while its handler runs."""
