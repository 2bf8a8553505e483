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
import subprocess
from pathlib import Path

import anyio
import structlog

STOP_TIMEOUT_S = 10.0  # then the child is killed
POLL_S = 0.005

# The shell becomes the command, which is thereby the owner's own child, and `$$` is its pid; it keeps 4 and 5 open.
# The subshell is the guard: it waits on the socket (3) for "done" (the child has exited, its pid may be another's
# by now) or for the end. It closes 4 and 5: where nobody reaps orphans it outlives the child by a moment.
GUARD = """\
exec 3<&0 4>&1 5>&2 </dev/null >"$1" 2>&1
shift
child=$$
(
    exec 4>&- 5>&-
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


class GuardedProcess:
    """A child with its guard. Two sockets tell of them: the guard reads `_lifeline`, the child just holds `_life`.

    Loops differ in how they watch children, and uvloop lets these inherit more than it was told; so the child is
    started without the loop, and its end is seen by the end of its socket.
    """

    def __init__(self, command: list[str], *, keep: int, errors: Path) -> None:
        """Start the command. It inherits the descriptor `keep`, though not as its output, which goes to `errors`."""
        self.exited = asyncio.Event()
        self._unguarded = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._lifeline, guards_end = socket.socketpair()
        self._life, childs_end = socket.socketpair()
        with guards_end, childs_end, contextlib.ExitStack() as failed:
            failed.callback(self._close)
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", GUARD, "guard", str(errors), *command],
                stdin=guards_end.fileno(),
                stdout=keep,
                stderr=childs_end.fileno(),
                start_new_session=True,  # Ctrl-C must not stop the child before its owner has finished
            )
            failed.pop_all()
        self.pid = self._process.pid
        self._loop.add_reader(self._lifeline, self._guard_ended)
        self._loop.add_reader(self._life, self._child_ended)

    @property
    def code(self) -> int:
        """The exit code, once it has exited (negative: the signal that ended it)."""
        assert self._process.returncode is not None
        return self._process.returncode

    async def stop(self) -> None:
        """End the child, gently for 10 s, and return once its guard has gone as well.

        However this is left, the lifeline closes, so that the guard finishes what was cut short here.
        """
        try:
            with anyio.move_on_after(STOP_TIMEOUT_S):
                self._process.terminate()
                await self.exited.wait()
            self._process.kill()
            await self.exited.wait()
            with anyio.move_on_after(STOP_TIMEOUT_S):
                await self._unguarded.wait()
        finally:
            self._process.kill()
            self._process.wait()
            self._reap()
            self._close()

    def _child_ended(self) -> None:
        self._loop.remove_reader(self._life)
        self._reap()

    def _reap(self) -> None:
        if self._process.poll() is None:  # its descriptors are closed a little before it can be waited for
            self._loop.call_later(POLL_S, self._reap)
            return
        with contextlib.suppress(OSError):  # the guard may be gone before the child
            self._lifeline.send(b"done\n")
        self.exited.set()

    def _guard_ended(self) -> None:
        self._loop.remove_reader(self._lifeline)
        self._unguarded.set()
        if not self.exited.is_set():
            log.error("child has lost its guard and is stopped", pid=self.pid)
            self._process.kill()

    def _close(self) -> None:
        for end in (self._lifeline, self._life):
            self._loop.remove_reader(end)
            end.close()
