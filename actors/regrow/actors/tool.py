"""Tools: module-level functions that are steps inside a handler and plain functions everywhere else."""

import asyncio
import inspect
import random
from collections.abc import Awaitable, Callable, Coroutine
from functools import cached_property, partial, update_wrapper
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, get_type_hints, overload

import msgspec

from regrow.actors.errors import DefinitionError
from regrow.actors.records import Outcome
from regrow.actors.step import DECLARED, Call, StepContext, Stepping, current_handler, failure_of, in_step, value_of
from regrow.bus import encode
from regrow.supervisor import Backoff

P = ParamSpec("P")
R = TypeVar("R")

Remote = Callable[["Tool[..., Any]", bytes, StepContext], Awaitable[Outcome]]
"""Calls a tool that a tool agent serves; the arguments are the JSON of a dict by parameter name."""


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """How often a failing tool runs again before its failure is the step's outcome. Declared errors are never retried."""

    attempts: int = 3
    """1 or more, the first one included."""
    backoff: Backoff = Backoff()

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"Retry(attempts={self.attempts}): a tool runs at least once")


_ONCE = Retry(attempts=1)


class Tool(Generic[P, R]):
    """A function with a policy. Await it: in a handler it is a step, elsewhere it just runs."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        retry: Retry,
        raises: tuple[type[Exception], ...],
        pure: bool,
        timeout_s: float,
    ) -> None:
        update_wrapper(self, function)
        self.name: str = function.__name__
        self.retry = retry
        self.raises = raises
        self.pure = pure
        self.timeout_s = timeout_s
        self._function = function
        self._signature = inspect.signature(function)
        self._names = () if _has_keyword_only(self._signature) else tuple(self._signature.parameters)
        """Of parameters that may all be given by position."""
        self._is_async = inspect.iscoroutinefunction(function)
        if "." in function.__qualname__:
            raise DefinitionError(f"the tool {function.__qualname__} must be a module-level function")
        for parameter in self._signature.parameters.values():
            if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                raise DefinitionError(
                    f"the tool {self.name} takes {parameter}: its calls are recorded by parameter name, so give each one a name"
                )

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        handler = current_handler.get()
        if handler is None:
            return self._plain(args, kwargs)
        return self._step(handler, args, kwargs)

    async def _step(self, handler: Stepping, args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
        arguments = self.encode_arguments(args, kwargs)
        outcome = await handler.step(Call(self.name, arguments, self._runner(arguments, handler), self.pure))
        result: R = value_of(outcome, self.returns, self.name, self.raises)
        return result

    def _runner(self, arguments: bytes, handler: Stepping) -> Callable[[StepContext], Awaitable[Outcome]]:
        remote: Remote | None = handler.remote_tool(self.name)
        once = partial(self.run, arguments) if remote is None else partial(remote, self, arguments)
        return once if self.retry.attempts == 1 else partial(self._with_retry, once)

    def encode_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """The call as the JSON of a dict by parameter name. Raises TypeError naming the tool for what is no JSON."""
        if kwargs or len(args) != len(self._names):
            bound = self._signature.bind(*args, **kwargs)
            bound.apply_defaults()
            arguments = bound.arguments
        else:
            arguments = dict(zip(self._names, args, strict=True))
        try:
            return encode(arguments)
        except (TypeError, msgspec.MsgspecError) as error:
            raise TypeError(f"an argument of {self.name} cannot be recorded: {error}") from None

    async def execute(self, arguments: bytes, context: StepContext) -> Outcome:
        """Runs the body once, here, for a step of somewhere else."""
        return await in_step(context, partial(self.run, arguments, context))

    async def run(self, arguments: bytes, context: StepContext) -> Outcome:
        """Runs the body once from recorded arguments, inside its step."""
        try:
            values = self._arguments.decode(arguments)
            kwargs = {name: getattr(values, name) for name in values.__struct_fields__}
            return Outcome(value=msgspec.Raw(encode(await self._plain((), kwargs))))
        except Exception as error:  # the edge between a user's tool and the runtime: its failure becomes data
            return Outcome(failure=failure_of(error, self.raises))

    @cached_property
    def returns(self) -> Any:
        """The type of the result."""
        kind = self._hints.get("return", Any)
        return type(None) if kind is None else kind

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return get_type_hints(self._function, include_extras=True)

    @cached_property
    def _arguments(self) -> "msgspec.json.Decoder[msgspec.Struct]":
        hints = self._hints
        fields = [(name, hints.get(name, Any)) for name in self._signature.parameters]
        return msgspec.json.Decoder(msgspec.defstruct(f"{self.name}_arguments", fields))

    async def _plain(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._is_async:
            return await self._function(*args, **kwargs)
        return await asyncio.to_thread(self._function, *args, **kwargs)

    async def _with_retry(self, attempt: Callable[[StepContext], Awaitable[Outcome]], context: StepContext) -> Outcome:
        number = 1
        while True:
            numbered = msgspec.structs.replace(context, attempt=number)
            outcome = await in_step(numbered, partial(attempt, numbered))
            failed = outcome.failure
            if failed is None or failed.kind == DECLARED or number >= self.retry.attempts:
                return outcome
            await asyncio.sleep(self.retry.backoff.delay_s(number - 1, random.random()))
            number += 1


def _has_keyword_only(signature: inspect.Signature) -> bool:
    return any(each.kind is each.KEYWORD_ONLY for each in signature.parameters.values())


@overload
def tool(function: Callable[P, Awaitable[R]], /) -> Tool[P, R]: ...
@overload
def tool(function: Callable[P, R], /) -> Tool[P, R]: ...
@overload
def tool(
    *, retry: Retry = ..., raises: tuple[type[Exception], ...] = ..., pure: bool = ..., timeout_s: float = ...
) -> "_Decorator": ...
def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    retry: Retry = _ONCE,
    raises: tuple[type[Exception], ...] = (),
    pure: bool = False,
    timeout_s: float = 60.0,
) -> Any:
    """Makes a module-level function, async or plain, a tool. A plain one runs in a thread.

    ``raises``: the exceptions that are part of its contract, raised in the handler as they are; their arguments must be JSON.
    Any other exception reaches the handler as ``StepFailed`` after ``retry``. ``pure``: equal calls may run side by side.
    ``timeout_s``: how long a call waits for a tool agent to answer, 60 s by default.
    """

    def make(decorated: Callable[..., Any]) -> Tool[..., Any]:
        return Tool(decorated, retry=retry, raises=raises, pure=pure, timeout_s=timeout_s)

    return make if function is None else make(function)


class _Decorator(Protocol):
    """The type of ``tool(...)``: keeps the signature of an async and of a plain function alike."""

    @overload
    def __call__(self, function: Callable[P, Awaitable[R]], /) -> Tool[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Tool[P, R]: ...
