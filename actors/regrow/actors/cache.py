"""``Cache``: what a tool says of its results being shared by everybody who makes the same call."""

import re
from hashlib import blake2b
from typing import Literal

import msgspec

from regrow.actors.errors import DefinitionError
from regrow.bus import encode

Scope = Literal["session", "app"]

_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_TTL = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_WORD = re.compile(r"[A-Za-z0-9_-]+")


class Cache(msgspec.Struct, frozen=True, kw_only=True):
    """Equal calls of a tool share one result for a while, in all processes of the application.

    ``ttl``: for how long, ``"30s"``, ``"10m"``, ``"12h"`` or ``"7d"``. ``scope``: ``"app"``, everybody, or ``"session"``, only calls of
    the same actor; who else may see a result is in its arguments (give the tool the user, and users are apart). ``version``: a
    new one forgets what the tool's earlier code said. ``tags``: words by which ``regrow cache purge --tag`` lets go of it.

    Of equal calls that are under way at once one runs the tool, the others wait for it. Only results are kept, never failures; one
    that does not fit what the tool declares now is not used. A result from the cache is recorded like any other, with who made
    it and when, so a replay does not look into the cache at all.
    """

    ttl: str
    scope: Scope = "app"
    version: str = "1"
    tags: tuple[str, ...] = ()

    def check(self, tool: str) -> None:
        """Raises ``DefinitionError`` for what could not work."""
        if _TTL.fullmatch(self.ttl) is None or self.ttl_s < 1.0:
            raise DefinitionError(
                f'the tool {tool} has cache ttl={self.ttl!r}: write "30s", "10m", "12h" or "7d", at least "1s"'
            )
        if self.scope not in ("session", "app"):
            raise DefinitionError(f'the tool {tool} has cache scope={self.scope!r}: write "session" or "app"')
        for tag in (each for each in self.tags if _WORD.fullmatch(each) is None):
            raise DefinitionError(f"the tool {tool} has the cache tag {tag!r}: use letters, digits, _ and -")

    @property
    def ttl_s(self) -> float:
        """Its life in seconds."""
        number, unit = self.ttl[:-1], self.ttl[-1:]
        return float(number) * _UNITS_S[unit]

    def name(self, tool: str, arguments: bytes, actor: str) -> str:
        """Under which the result of a call is kept."""
        by = [tool, self.version, actor if self.scope == "session" else "", msgspec.Raw(arguments)]
        group = tool if _WORD.fullmatch(tool) is not None else "step"
        return f"{group}.{blake2b(encode(by), digest_size=16).hexdigest()}"
