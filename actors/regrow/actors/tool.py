"""Tools: module-level functions that are steps inside a handler and plain functions everywhere else."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from copy import copy
from functools import cached_property, partial, update_wrapper
from typing import Any, Generic, Literal, ParamSpec, Protocol, TypeVar, get_type_hints, overload

import msgspec

from regrow.actors.arguments import encode_arguments, redacted
from regrow.actors.cache import Cache
from regrow.actors.errors import NOT_DONE, DefinitionError, Failure, NotApproved, NotDone
from regrow.actors.records import Outcome
from regrow.actors.retry import NO_RETRY, Retry
from regrow.actors.step import (
    Call,
    Care,
    StepContext,
    Stepping,
    checked,
    current_handler,
    failure_of,
    in_step,
    outcome_of,
    sharing,
    value_of,
)
from regrow.bus import decode, encode

P = ParamSpec("P")
R = TypeVar("R")

Remote = Callable[["Tool[..., Any]", bytes, StepContext], Awaitable[Outcome]]
"""Calls a tool that a tool agent serves; the arguments are the JSON of a dict by parameter name."""


Effect = Literal["repeatable", "once"]
"""``repeatable``: what was in flight at a crash runs again. ``once``: it never does."""


class Human(Protocol):
    """The port ``human``, as far as tools with ``approve=True`` need it."""

    async def approve(self, tool: str, arguments: dict[str, Any], actor: str) -> bool: ...


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """A tool's policy; ``tool`` says what each of them means."""

    retry: Retry = NO_RETRY
    raises: tuple[type[Exception], ...] = ()
    pure: bool = False
    timeout_s: float = 60.0
    effect: Effect = "repeatable"
    verify: Callable[..., Awaitable[Any]] | None = None
    approve: bool = False
    redact: tuple[str, ...] = ()
    cache: Cache | None = None

    def check(self, function: Callable[..., Any]) -> None:
        """Raises ``DefinitionError`` for what could not work with this function."""
        name, parameters = function.__name__, list(inspect.signature(function).parameters)
        if self.effect not in ("repeatable", "once"):
            raise DefinitionError(f'the tool {name} has effect={self.effect!r}: write "repeatable" or "once"')
        if self.effect == "once" and self.pure:
            raise DefinitionError(f'the tool {name} is pure and effect="once": choose one, what is pure has no effect')
        if self.cache is not None:
            self.cache.check(name)
            if self.effect == "once":
                raise DefinitionError(
                    f'the tool {name} has a cache and effect="once": choose one, what comes out of a cache has no effect'
                )
        for unknown in (each for each in self.redact if each not in parameters):
            raise DefinitionError(f"the tool {name} redacts {unknown!r} and has no such parameter: {parameters}")
        if self.verify is None:
            return
        if self.effect != "once":
            raise DefinitionError(
                f'the tool {name} has verify= and can be repeated: give it effect="once" or leave it away'
            )
        if not inspect.iscoroutinefunction(self.verify):
            raise DefinitionError(f"verify= of the tool {name} must be an async function")
        if list(inspect.signature(self.verify).parameters) != parameters:
            raise DefinitionError(f"verify= of the tool {name} must take the same parameters as the tool: {parameters}")


class Tool(Generic[P, R]):
    """A function with a policy. Await it: in a handler it is a step, elsewhere it just runs."""

    def __init__(self, function: Callable[..., Any], options: Options) -> None:
        update_wrapper(self, function)
        self.name: str = function.__name__
        self.retry = options.retry
        self.raises = options.raises
        self.pure = options.pure
        self.timeout_s = options.timeout_s
        self.key = ""
        """What identifies its calls in place of their arguments."""
        self._options = options
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
        options.check(function)
        self._set_care()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        handler = current_handler()
        if handler is None:
            return self._plain(args, kwargs)
        return self._step(handler, args, kwargs)

    async def _step(self, handler: Stepping, args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
        arguments = self.encode_arguments(args, kwargs)
        remote: Remote | None = handler.remote_tool(self.name)
        run = partial(self.run, arguments) if remote is None else partial(self._far, remote, arguments)
        call = Call(self.name, arguments, run, self.pure)
        if self._is_special:
            call = await self._special(handler, call)
        outcome = await handler.step(call)
        result: R = value_of(outcome, self.returns, self.name, self.raises)
        return result

    def using(self, *, key: str = "", retry: Retry | None = None, timeout_s: float | None = None) -> "Tool[P, R]":
        """The same tool with another policy, for the calls made of it: ``await rank.using(key="left")(offers)``.

        ``key`` identifies the step in place of its arguments, so that a handler can make equal calls in several tasks at once:
        each with a key of its own. It must come out the same on every replay, as the arguments must.
        """
        other = copy(self)
        other.key = key or self.key
        other.retry = retry if retry is not None else self.retry
        other.timeout_s = timeout_s if timeout_s is not None else self.timeout_s
        other._set_care()
        return other

    def _set_care(self) -> None:
        """Works out, once, what its calls need beside being run and recorded."""
        self._once = self._options.effect == "once"
        self._cares = self._once or self.retry.attempts > 1
        self._is_special = self._cares or bool(
            self.key or self._options.redact or self._options.approve or self._options.cache
        )

    async def _special(self, handler: Stepping, call: Call) -> Call:
        """A call as its policy wants it. Raises ``NotApproved``."""
        given = call.arguments
        recorded = redacted(given, self._options.redact) if self._options.redact else given
        verify = partial(self._verify, self._options.verify, given) if self._options.verify is not None else None
        care = Care(self.retry, self._once, verify) if self._cares else None
        if self._options.approve:
            await self._approved(handler, recorded)
        run, pure = call.run, self.pure
        if self._options.cache is not None:
            run, pure = sharing(handler, self._options.cache, self.name, given, self.returns, call.run), True
        return Call(self.name, recorded, run, pure, self.key, care)

    async def _approved(self, handler: Stepping, arguments: bytes) -> None:
        async def ask(context: StepContext) -> Outcome:
            human: Human = handler.port("human")
            try:
                said = await human.approve(self.name, decode(arguments, dict[str, Any]), context.actor)
            except Exception as error:  # the edge between a user's port and the runtime: its failure becomes data
                return Outcome(failure=failure_of(error, ()))
            return outcome_of(said, bool, "approve")

        asked = encode({"tool": self.name, "arguments": msgspec.Raw(arguments)})
        key = f"{self.name}:{self.key}" if self.key else ""
        outcome = await handler.step(Call("approve", asked, ask, pure=True, key=key))
        if not value_of(outcome, bool, "approve"):
            raise NotApproved(self.name)

    async def _verify(self, verify: Callable[..., Awaitable[Any]], arguments: bytes, context: StepContext) -> Outcome:
        """What the tool's ``verify`` knows of the call."""
        try:
            result = await verify(**self._decoded(arguments))
        except NotDone as no:
            return Outcome(failure=Failure(NOT_DONE, 500, str(no), type="NotDone"))
        except Exception as error:  # the edge between a user's tool and the runtime: its failure becomes data
            return Outcome(failure=failure_of(error, ()))
        return outcome_of(result, self.returns, f"verify of {self.name}")

    async def _far(self, remote: Remote, arguments: bytes, context: StepContext) -> Outcome:
        """One attempt that a tool agent makes, whose build may declare another result."""
        return checked(await remote(self, arguments, context), self.returns, self.name)

    def encode_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """The call as the JSON of a dict by parameter name. Raises TypeError with the path of what is no JSON."""
        if kwargs or len(args) != len(self._names):
            bound = self._signature.bind(*args, **kwargs)
            bound.apply_defaults()
            arguments = bound.arguments
        else:
            arguments = dict(zip(self._names, args, strict=True))
        return encode_arguments(arguments, self.name)

    async def execute(self, arguments: bytes, context: StepContext) -> Outcome:
        """Runs the body once, here, for a step of somewhere else."""
        return await in_step(context, partial(self.run, arguments))

    async def run(self, arguments: bytes, context: StepContext) -> Outcome:
        """Runs the body once from recorded arguments, inside its step. A result that it does not declare is its failure."""
        try:
            given = self._decoded(arguments)
            result = await (self._function(**given) if self._is_async else self._plain((), given))
        except Exception as error:  # the edge between a user's tool and the runtime: its failure becomes data
            return Outcome(failure=failure_of(error, self.raises, self.retry.classifier))
        return outcome_of(result, self.returns, self.name)

    def _decoded(self, arguments: bytes) -> dict[str, Any]:
        return msgspec.structs.asdict(self._arguments.decode(arguments))

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


def _has_keyword_only(signature: inspect.Signature) -> bool:
    return any(each.kind is each.KEYWORD_ONLY for each in signature.parameters.values())


@overload
def tool(function: Callable[P, Awaitable[R]], /) -> Tool[P, R]: ...
@overload
def tool(function: Callable[P, R], /) -> Tool[P, R]: ...
@overload
def tool(
    *,
    retry: Retry = ...,
    raises: tuple[type[Exception], ...] = ...,
    pure: bool = ...,
    timeout_s: float = ...,
    effect: Effect = ...,
    verify: Callable[..., Awaitable[Any]] | None = ...,
    approve: bool = ...,
    redact: tuple[str, ...] = ...,
    cache: Cache | None = ...,
) -> "_Decorator": ...
def tool(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Makes a module-level function, async or plain, a tool. A plain one runs in a thread.

    ``raises``: the exceptions that are part of its contract, raised in the handler as they are; their arguments must be JSON.
    Any other exception reaches the handler as ``StepFailed`` after ``retry``, by default at once. ``pure``: it has no effect, and
    equal calls may run side by side. ``timeout_s``: how long a call waits for a tool agent to answer, 60 s by default.
    ``redact``: parameters whose values are never recorded; the log has ``"***"``, and calls that differ in nothing else are equal.

    ``effect="once"``: the body never runs again where it may have run. That it begins is in the log before it does; found
    without an outcome after a crash, or after a cancellation in an earlier attempt at the turn, the step asks ``verify``, else
    its outcome is ``OutcomeUnknown``, raised in the handler. ``verify``: an async function of the same parameters that returns
    the result of a call that took effect, or raises ``NotDone``, and then the body runs. An exception of the body is its outcome
    and is not tried again, neither by an attempt at the turn, unless ``retry`` says that it is the tool's word that nothing
    happened. A tool agent that does not answer in time leaves the outcome unknown as well.

    ``approve``: before it runs, ``await human.approve(tool, arguments, actor)`` of the system's port ``human`` is asked, in a step
    of its own; False is raised in the handler as ``NotApproved``. ``cache``: equal calls share one result; see ``Cache``.
    """
    policy = Options(**options)

    def make(decorated: Callable[..., Any]) -> Tool[..., Any]:
        return Tool(decorated, policy)

    return make if function is None else make(function)


class _Decorator(Protocol):
    """The type of ``tool(...)``: keeps the signature of an async and of a plain function alike."""

    @overload
    def __call__(self, function: Callable[P, Awaitable[R]], /) -> Tool[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Tool[P, R]: ...
