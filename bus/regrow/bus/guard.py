"""A child process that is gone when its owner is, however the owner ends.

Beside the child runs a tiny `sh`, the guard. It reads a socket whose other end only the owner holds; the kernel
closes that end with the owner, by SIGKILL too, and the guard then stops the child. Should the guard die first, the
owner sees its end close and kills the child; should both be killed at once, Linux sends the child its parent-death
signal (where `setpriv` of util-linux is installed). What is left: both killed at the same moment on macOS, and an
owner that has forked without exec, whose copy holds the socket open as long as it lives.

Everything runs in the owner's event loop; there is no thread and no task.
"""

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import Self, cast

import anyio
import structlog

STOP_TIMEOUT_S = 10.0  # then the child is killed

# The shell becomes the command, which is thereby the owner's own child, and `$$` is its pid; it keeps 4 open.
# The subshell is the guard: it waits on the socket (3) for "done" (the child has exited, its pid may be
# another's by now) or for the end. It closes 4: where nobody reaps orphans it outlives the child by a moment.
GUARD = """\
exec 3<&0 4>&1 </dev/null >&2
child=$$
(
    exec 4>&-
    read -r word <&3
    [ "$word" = done ] && exit 0
    kill -TERM "$child" 2>/dev/null
    n=0
    while [ "$n" -lt 8 ] && kill -0 "$child" 2>/dev/null; do sleep 0.1; n=$((n + 1)); done
    kill -KILL "$child" 2>/dev/null
) &
if setpriv --pdeathsig TERM true 2>/dev/null; then set -- setpriv --pdeathsig TERM "$@"; fi
exec "$@" 3<&-
"""

log = structlog.get_logger(__name__)


class GuardedProcess(asyncio.SubprocessProtocol):
    """A child with its guard: its exit as an event, and our end of the socket that the guard reads."""

    def __init__(self, lifeline: socket.socket) -> None:
        self.exited = asyncio.Event()
        self._unguarded = asyncio.Event()
        self._lifeline = lifeline
        self._lifeline.setblocking(False)

    @classmethod
    async def spawn(cls, command: list[str], *, keep: int, errors: Path) -> Self:
        """Start the command. It inherits the descriptor `keep` (not as its output) and writes to `errors`."""
        lifeline, guards_end = socket.socketpair()
        child = cls(lifeline)
        with contextlib.ExitStack() as failed, guards_end, errors.open("wb") as output:
            failed.callback(lifeline.close)
            await asyncio.get_running_loop().subprocess_exec(
                lambda: child,
                *("/bin/sh", "-c", GUARD, "guard", *command),
                stdin=guards_end.fileno(),
                stdout=keep,
                stderr=output,
                start_new_session=True,  # Ctrl-C must not stop the child before its owner has finished
            )
            failed.pop_all()
        return child

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.SubprocessTransport, transport)
        self.pid = self._transport.get_pid()
        asyncio.get_running_loop().add_reader(self._lifeline, self._guard_exited)

    def process_exited(self) -> None:
        with contextlib.suppress(OSError):  # the guard may be gone before the child
            self._lifeline.send(b"done\n")
        self.exited.set()

    @property
    def code(self) -> int:
        """The exit code, once it has exited (negative: the signal that ended it)."""
        code = self._transport.get_returncode()
        assert code is not None
        return code

    async def stop(self) -> None:
        """End the child, gently for 10 s, and return once its guard has gone as well.

        However this is left, the lifeline closes, so that the guard finishes what was cut short here.
        """
        try:
            with contextlib.suppress(ProcessLookupError), anyio.move_on_after(STOP_TIMEOUT_S):
                self._transport.terminate()
                await self.exited.wait()
            self._kill()
            await self.exited.wait()
            with anyio.move_on_after(STOP_TIMEOUT_S):
                await self._unguarded.wait()
        finally:
            asyncio.get_running_loop().remove_reader(self._lifeline)
            self._lifeline.close()
            self._transport.close()

    def _guard_exited(self) -> None:
        asyncio.get_running_loop().remove_reader(self._lifeline)
        self._unguarded.set()
        if not self.exited.is_set():
            log.error("child has lost its guard and is stopped", pid=self.pid)
            self._kill()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._transport.kill()
