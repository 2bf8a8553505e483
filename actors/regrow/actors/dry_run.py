"""A turn that was begun, run again with every side effect blocked: recorded steps answer, any other one never comes back.

What a handler does outside its steps it does here too, as in every replay: a thread that it starts runs, a port that it calls
beside a step is called.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn, cast

from regrow.actors.actor import Actor, Scope
from regrow.actors.attempt import attempt
from regrow.actors.dry_loop import DryLoop, Quiet
from regrow.actors.errors import DEFECT, DRIFT, UNDECODABLE, Drift, Failure, Refused, failure
from regrow.actors.image import Open
from regrow.actors.lineage import StepKey, task_factory
from regrow.actors.message import Message
from regrow.actors.records import Entry, Outcome
from regrow.actors.step import Call
from regrow.actors.turn import Office, RunningTurn
from regrow.bus import Address, Undecodable

Incarnate = Callable[[Scope], Actor]
"""Makes the working copy of a turn."""


class DryRuns:
    """Replays, one after the other, on an event loop of their own that one thread at a time may drive."""

    def __init__(self, port: Callable[[str], Any]) -> None:
        self._port = port
        self._loop = _loop()

    def misfit(self, cls: type[Actor], address: Address, incarnate: Incarnate, opened: Open) -> Failure | None:
        """Why an open turn does not fit this build; None when it fits so far."""
        definition = cls.__regrow__
        try:
            message = definition.decode_message(opened.letter.body)
        except Undecodable as unreadable:
            return failure(UNDECODABLE, f"the message of its open turn cannot be read: {unreadable}")
        if type(message) not in definition.commands:
            gone = f"{definition.name} has no @command for {type(message).__name__} any more"
            return failure(UNDECODABLE, f"{gone}, the message of its open turn")
        drift, error = self.replay(address, incarnate, opened, message) if opened.steps else (None, None)
        if drift is None:
            return None
        if error is None:
            return failure(DRIFT, drift.why)
        raised = f"the handler raises {type(error).__name__}: {error}"
        return failure(DEFECT, f"{raised}, where its record goes on; {drift.why}")

    def replay(
        self, address: Address, incarnate: Incarnate, opened: Open, message: Message[Any]
    ) -> tuple[Drift | None, Exception | None]:
        """Which recorded step could not be asked for again, and the handler's error that was the reason, if there was one."""
        self._loop.begin()
        turn = _DryTurn(cast(Office, _Blocked(address, self._port)), incarnate, opened.letter, opened)
        turn.journal.watchful = False
        running = self._loop.create_task(_attempt(turn, message))
        try:
            self._loop.run_until_complete(running)
            turn.conclude()
        except (Quiet, Refused):
            return _left(turn), None
        except Exception as error:  # whatever a user's handler raises: it matters where its record goes on
            drifted = turn.journal.drift is not None
            return _left(turn), None if drifted else error
        finally:
            self._end(turn, running)
        return None, None

    def close(self) -> None:
        """Ends the loop."""
        self._loop.close()

    def _end(self, turn: RunningTurn, running: asyncio.Task[Any]) -> None:
        """Whoever swallows his cancellation is left behind, and the loop with him."""
        turn.journal.close()
        if running.done():
            return
        running.cancel()
        self._loop.begin()
        try:
            with suppress(asyncio.CancelledError, Exception):
                self._loop.run_until_complete(running)
        finally:
            if not running.done():
                self._loop = _loop()


class _DryTurn(RunningTurn):
    """A turn whose steps come from the log or not at all."""

    async def _run(self, key: StepKey, call: Call) -> Outcome:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            await self._note_cancelled(key.text, call)
            raise
        raise AssertionError


class _Blocked:
    """The surroundings of an actor, through which nothing leaves."""

    def __init__(self, address: Address, port: Callable[[str], Any]) -> None:
        self.address = address
        self.port = port

    def submit(self, *entries: Entry, at_once: bool = False) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()

    def remote_tool(self, name: str) -> None:
        return None

    def count(self, what: str) -> None:
        """Nobody counts replays that change nothing."""

    def has_changed_fields(self) -> bool:
        return False

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a dry run has no {name}: nothing may leave it")


async def _attempt(turn: RunningTurn, message: Message[Any]) -> Any:
    handler = turn.actor.__regrow__.commands[type(message)]
    return await attempt(turn, handler.method(turn.actor, message), straight=handler.straight)


def _left(turn: RunningTurn) -> Drift | None:
    """The report on recorded steps that nobody has asked for, or the one that there was before."""
    try:
        turn.journal.check_asked()
    except Drift as drift:
        return drift
    return None


def _loop() -> DryLoop:
    loop = DryLoop()
    loop.set_task_factory(task_factory)
    return loop


def replay_once(
    port: Callable[[str], Any], address: Address, incarnate: Incarnate, opened: Open, message: Message[Any]
) -> tuple[Drift | None, Exception | None]:
    """One replay on a loop of its own; see ``DryRuns.replay``."""
    dry = DryRuns(port)
    try:
        return dry.replay(address, incarnate, opened, message)
    finally:
        dry.close()
