"""A running handler whose steps are seen from outside: when a tool's body starts, and when it has ended."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import msgspec

from regrow.actors.records import Outcome
from regrow.actors.step import Call, StepContext, Stepping

T = TypeVar("T")


class Counting(Protocol):
    """The process in which the handler runs."""

    async def around_step(self, about: str, body: Callable[[], Awaitable[T]]) -> T: ...


class Witnessing(Protocol):
    """Who notes what runs."""

    def executed(self, call: Call, context: StepContext) -> None: ...


class Observed:
    """Stands where tools look for the running handler; all but the run of a tool's body is the handler's own affair."""

    def __init__(self, handler: Stepping, life: Counting, witness: Witnessing) -> None:
        self._handler = handler
        self._life = life
        self._witness = witness

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handler, name)

    def remote_tool(self, name: str) -> Any:
        """How to call a tool that a tool agent serves."""
        return self._handler.remote_tool(name)

    def port(self, name: str) -> Any:
        """What the system was given under this name."""
        return self._handler.port(name)

    async def step(self, call: Call) -> Outcome:
        """The step's outcome."""

        async def run(context: StepContext) -> Outcome:
            async def body() -> Outcome:
                self._witness.executed(call, context)
                return await call.run(context)

            return await self._life.around_step(f"{context.actor} {call.tool}", body)

        return await self._handler.step(msgspec.structs.replace(call, run=run))
