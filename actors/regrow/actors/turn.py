"""A running turn: what a handler may do, and what it has decided so far."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from regrow.actors.actor import Actor, apply
from regrow.actors.client import query
from regrow.actors.errors import TIMEOUT, ActorError, AskTimeout, WouldDeadlock, failure
from regrow.actors.handler import Handler
from regrow.actors.journal import Journal, digest
from regrow.actors.lineage import current
from regrow.actors.message import Event, Message
from regrow.actors.records import Begun, Cause, Entry, Letter, Outcome, Send, Step, Steps, Turn
from regrow.actors.ref import Ref
from regrow.actors.step import Call, StepContext
from regrow.actors.tool import Remote
from regrow.actors.wire import chain_header, outcome_of
from regrow.bus import Address, Bus, Request, encode, escape, headers

RESEND_FIRST_S = 5.0
"""An ask without a reply is sent again after this time, then after twice as long each time: a reply goes by plain NATS and
may be lost, and the receiver knows the ask by its id."""


class Office(Protocol):
    """What a turn needs of the actor's activation and its host."""

    address: Address
    bus: Bus

    async def write(self, *entries: Entry) -> None: ...
    def remote_tool(self, name: str) -> Remote | None: ...
    def port(self, name: str) -> Any: ...
    def count_step(self, *, replayed: bool) -> None: ...


class RunningTurn:
    """One attempt at one message. Its decisions are lost with it unless ``record`` is appended."""

    def __init__(self, office: Office, actor: Actor, letter: Letter, recorded: list[Step], *, begun: bool) -> None:
        self.address = office.address
        self.letter = letter
        self.journal = Journal(str(office.address), recorded)
        self._office = office
        self._actor = actor
        self._begun = begun
        self._events: list[msgspec.Raw] = []
        self._sends: list[Send] = []

    def emit(self, fact: Event) -> None:
        """Applies an event at once and keeps it for the record."""
        self._check_open("emit")
        apply(self._actor, fact)
        self._events.append(msgspec.Raw(encode(fact)))

    def send(self, to: Address, message: Message[Any]) -> None:
        """Keeps a message for the record."""
        self._check_open("send")
        self._sends.append(Send(to.kind, to.key, msgspec.Raw(encode(message))))

    def ref(self, kind: type[Actor], key: str) -> Ref:
        """A reference whose asks are steps of this turn."""
        return Ref(kind, key, self)

    def port(self, name: str) -> Any:
        """What the system was given under this name."""
        return self._office.port(name)

    def remote_tool(self, name: str) -> Remote | None:
        """How to call a tool that a tool agent serves; None for one that runs here."""
        return self._office.remote_tool(name)

    async def step(self, call: Call) -> Outcome:
        """The recorded outcome of this call, or that of running it now, which is recorded before it is returned."""
        key = current().next_key(call.tool, digest(call.arguments))
        with self.journal.running(key, pure=call.pure):
            recorded = await self.journal.replay(key)
            if recorded is not None:
                self._office.count_step(replayed=True)
                return recorded.outcome
            outcome = await call.run(StepContext(str(self.address), str(key)))
            if self.journal.closed:
                raise asyncio.CancelledError
            await self._write_step(Step(str(key), call.tool, msgspec.Raw(call.arguments), outcome))
            self._office.count_step(replayed=False)
            return outcome

    async def ask(self, to: Address, handler: Handler, body: bytes, timeout_s: float) -> Outcome:
        """An ask as a step. The ask's id is the step's, so that an ask repeated after a crash finds the first one's reply."""
        chain = (*self.letter.chain, str(self.address))
        if str(to) in chain and handler.role == "command":
            raise WouldDeadlock(str(to), chain)
        arguments = encode({"to": str(to), "message": msgspec.Raw(body)})

        async def run(context: StepContext) -> Outcome:
            try:
                if handler.role == "query":
                    return await query(self._office.bus, to, body, timeout_s)
                return await self._ask(
                    to, body, f"{escape(str(self.address))}:{self._turn_id}:{context.key}", chain, timeout_s
                )
            except AskTimeout as late:
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

    def record(self, reply: Outcome, position: tuple[int, int]) -> tuple[Entry, ...]:
        """All that this turn decided, as the entries of one record."""
        self.journal.close()
        letter = self.letter
        cause = Cause(letter.box, letter.id, letter.sender, letter.mark)
        return (Turn(cause, *position, reply, tuple(self._events), tuple(self._sends)),)

    @property
    def _turn_id(self) -> str:
        return f"{self.letter.box}{self.letter.sequence}"

    async def _write_step(self, step: Step) -> None:
        entry = Steps((step,))
        if self._begun:
            await self._office.write(entry)
            return
        self._begun = True
        await self._office.write(Begun(self.letter), entry)

    async def _ask(self, to: Address, body: bytes, ask_id: str, chain: tuple[str, ...], timeout_s: float) -> Outcome:
        answer: asyncio.Future[Request] = asyncio.get_running_loop().create_future()
        async with self._office.bus.expect_reply(_settle(answer)) as subject:
            given = {headers.ID: ask_id, headers.REPLY: subject, headers.CHAIN: chain_header(chain)}
            pause_s = RESEND_FIRST_S
            try:
                async with asyncio.timeout(timeout_s):
                    while not answer.done():
                        await self._office.bus.mail.post("act", to, body, given)
                        await asyncio.wait((answer,), timeout=pause_s)
                        pause_s *= 2
            except TimeoutError:
                raise AskTimeout(str(to), timeout_s) from None
        return outcome_of(answer.result())

    def _check_open(self, what: str) -> None:
        if self.journal.closed:
            raise asyncio.CancelledError(f"{what} after the turn of {self.address} ended")


def _settle(answer: asyncio.Future[Request]) -> Callable[[Request], None]:
    def settle(reply: Request) -> None:
        if not answer.done():
            answer.set_result(reply)

    return settle
