"""Handlers that never await, as plain functions: what they do is done at once, without a coroutine for each message. Pure.

An ``async def`` without an await in it differs from a ``def`` by a flag of its code and by its first instruction, which makes
the coroutine. The plain function has the same code without both, and so the same closure, names and line numbers.
"""

import dis
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any

_NOP = dis.opmap["NOP"]


def plain_form(method: Callable[..., Any]) -> Callable[..., Any] | None:
    """A function that does what this coroutine function does and returns what it returns; its body must hold no await.

    None where the code does not begin as CPython's does: then the coroutine function has to do.
    """
    if not isinstance(method, FunctionType):
        return None
    code = method.__code__
    first = [each for each in dis.get_instructions(code) if each.opname in ("RETURN_GENERATOR", "POP_TOP")][:2]
    if [each.opname for each in first] != ["RETURN_GENERATOR", "POP_TOP"] or first[1].offset != first[0].offset + 2:
        return None
    plain = bytearray(code.co_code)
    for each in first:
        plain[each.offset] = _NOP
        plain[each.offset + 1] = 0
    flags = code.co_flags & ~inspect.CO_COROUTINE
    made = FunctionType(
        code.replace(co_code=bytes(plain), co_flags=flags),
        method.__globals__,
        method.__name__,
        method.__defaults__,
        method.__closure__,
    )
    if method.__kwdefaults__:
        made.__kwdefaults__ = method.__kwdefaults__
    made.__qualname__ = method.__qualname__
    return made
