"""What a program prints, line by line, bounded: a long line is cut, a flood is dropped, and both are counted and said.

The descriptor is read in the event loop, one piece at a time, so that a program that floods does not wait and does not
keep others waiting; nothing but one line is ever held.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Final

import structlog

LINE_BYTES_MAX: Final = 8192
LINES_MAX: Final = 200
PER_S: Final = 1.0
PIECE_BYTES: Final = 16384  # of the shortest lines some 10 ms of work, during which the loop does nothing else
PIECES_MAX: Final = 64  # read at the end, should somebody outside hold the pipe and write on

_log: Final = structlog.get_logger(__name__)


class Lines:
    """Whole lines from pieces of text; of a line longer than `bytes_max` the rest is left out."""

    def __init__(self, bytes_max: int = LINE_BYTES_MAX) -> None:
        self.cut_bytes = 0
        """How many bytes were left out so far."""
        self._bytes_max = bytes_max
        self._held = b""

    def feed(self, piece: bytes) -> list[str]:
        """The lines that end in this piece."""
        first, *others = piece.split(b"\n")
        lines: list[str] = []
        self._hold(first)
        for text in others:
            lines.append(self._take())
            self._hold(text)
        return lines

    def rest(self) -> list[str]:
        """The last line, when it has no end."""
        return [self._take()] if self._held else []

    def _hold(self, text: bytes) -> None:
        room = self._bytes_max - len(self._held)
        self._held += text[:room]
        self.cut_bytes += max(0, len(text) - room)

    def _take(self) -> str:
        text, self._held = self._held, b""
        return text.rstrip(b"\r").decode(errors="replace")


class Quota:
    """At most `limit` within each `per_s` seconds."""

    def __init__(self, limit: int = LINES_MAX, per_s: float = PER_S) -> None:
        self._limit = limit
        self._per_s = per_s
        self._since = 0.0
        self._taken = 0

    def admits(self, now: float) -> bool:
        """True when one more is within the quota at this time, in seconds of any clock that does not go back."""
        if now - self._since >= self._per_s:
            self._since, self._taken = now, 0
        self._taken += 1
        return self._taken <= self._limit


class Reader:
    """Hands over the lines of a pipe as they come, until it ends or is closed."""

    def __init__(self, descriptor: int, on_line: Callable[[str], None]) -> None:
        self.lines = Lines()
        self._descriptor = descriptor
        self._on_line = on_line
        self._loop = asyncio.get_running_loop()
        self._is_open = True
        os.set_blocking(descriptor, False)
        self._loop.add_reader(descriptor, self._read)

    def close(self) -> None:
        """Take what is still in the pipe, and close it."""
        for _ in range(PIECES_MAX):
            if not self._is_open or not self._read():
                break
        self._end()

    def _read(self) -> bool:
        try:
            piece = os.read(self._descriptor, PIECE_BYTES)
        except BlockingIOError:
            return False
        if not piece:
            self._end()
            return False
        for line in self.lines.feed(piece):
            self._on_line(line)
        return True

    def _end(self) -> None:
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            for line in self.lines.rest():
                self._on_line(line)


class Output:
    """One stream of a program, written to the log; `on_line` sees each line, also of a flood."""

    def __init__(self, child: str, stream: str, descriptor: int, on_line: Callable[[str], None]) -> None:
        self._log = _log.bind(child=child, stream=stream)
        self._on_line = on_line
        self._quota = Quota()
        self._dropped = 0
        self._say_at: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._reader = Reader(descriptor, self._write)

    def close(self) -> None:
        """Take what is still to be read, and say what was left out."""
        self._reader.close()
        if self._reader.lines.cut_bytes:
            self._log.warning("child_lines_cut", cut_bytes=self._reader.lines.cut_bytes)
        self._say_dropped()

    def _write(self, line: str) -> None:
        self._on_line(line)
        if self._quota.admits(self._loop.time()):
            self._log.info("child_output", line=line)
            return
        self._dropped += 1
        if self._say_at is None:
            self._say_at = self._loop.call_later(PER_S, self._say_dropped)

    def _say_dropped(self) -> None:
        if self._say_at is not None:
            self._say_at.cancel()
            self._say_at = None
        if self._dropped:
            self._log.warning("child_output_dropped", lines=self._dropped)
            self._dropped = 0
