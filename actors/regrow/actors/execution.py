"""How a step with a policy is carried out: attempts that count across crashes, and tools that run once at most.

What must be known after a crash is in the log before a body runs, as ``Started``: each attempt behind the first, and the first of
a tool that may run only once. Whoever goes on with the turn finds it among what was started and has no outcome.
"""

import random
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from regrow.actors.errors import NOT_DONE, OUTCOME_UNKNOWN, TIMEOUT, Failure, OutcomeUnknown
from regrow.actors.records import Outcome, Started
from regrow.actors.step import Call, StepContext

DIED = "whoever ran it ended before its outcome was recorded"


class Desk(Protocol):
    """The running turn, as far as the execution of a step needs it."""

    def started(self, key: str) -> Started | None: ...
    async def note_started(self, entry: Started, wait_s: float = 0.0) -> None: ...
    async def wait_out(self, key: str) -> None: ...
    async def run_body(self, context: StepContext, body: Callable[[StepContext], Awaitable[Outcome]]) -> Outcome: ...
    def now_ms(self) -> int: ...


async def execute(desk: Desk, call: Call, context: StepContext) -> tuple[Outcome, int]:
    """The step's outcome, and the number of the attempt that had it."""
    assert call.care is not None
    once, retry = call.care.once, call.care.retry
    begun = desk.started(context.key)
    if once and begun is not None:
        outcome = await _found(desk, call, context, DIED)
        if not _is_failure(outcome, NOT_DONE):
            return outcome, begun.attempt
    if begun is None:
        begun = Started(context.key, call.tool, msgspec.Raw(call.arguments), 1, desk.now_ms(), once=once)
        if once:
            await desk.note_started(begun)
    else:
        await desk.wait_out(context.key)
    while True:
        outcome = await desk.run_body(msgspec.structs.replace(context, attempt=begun.attempt), call.run)
        if once and outcome.failure is not None and outcome.failure.kind == TIMEOUT:
            outcome = await _unanswered(desk, call, context, outcome, outcome.failure)
        failed = outcome.failure
        if failed is None or failed.kind == OUTCOME_UNKNOWN:
            return outcome, begun.attempt
        elapsed_s = (desk.now_ms() - begun.since_ms) / 1000
        wait_s = retry.wait_s(begun.attempt, failed, elapsed_s, random.random(), begun.apart)
        if wait_s is None:
            return outcome, begun.attempt
        apart = retry.counted(begun.apart, failed.kind)
        begun = msgspec.structs.replace(begun, attempt=begun.attempt + 1, failure=failed, apart=apart)
        await desk.note_started(begun, wait_s)


async def _unanswered(desk: Desk, call: Call, context: StepContext, outcome: Outcome, late: Failure) -> Outcome:
    """A tool agent that has not answered may have done it: its silence is no word that nothing happened."""
    found = await _found(desk, call, context, late.message)
    return outcome if _is_failure(found, NOT_DONE) else found


async def _found(desk: Desk, call: Call, context: StepContext, why: str) -> Outcome:
    """What ``verify`` knows of a call that may have been made: its result, that it was not, or that nobody can tell."""
    assert call.care is not None
    if call.care.verify is None:
        return outcome_unknown(call.tool, context.key, why)
    found = await desk.run_body(context, call.care.verify)
    if found.failure is None or _is_failure(found, NOT_DONE):
        return found
    failed = found.failure
    return outcome_unknown(call.tool, context.key, f"{why}, and verify failed ({failed.type}: {failed.message})")


def outcome_unknown(tool: str, key: str, why: str) -> Outcome:
    """The outcome that is raised as ``OutcomeUnknown``."""
    message = str(OutcomeUnknown(tool, key, why))
    return Outcome(failure=Failure(OUTCOME_UNKNOWN, 500, message, type="OutcomeUnknown", args=[tool, key, why]))


def _is_failure(outcome: Outcome, kind: str) -> bool:
    return outcome.failure is not None and outcome.failure.kind == kind
