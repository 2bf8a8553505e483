# pathlib and contextlib would take longer to import than the guard takes to do its work.
# ruff: noqa: PTH112, PTH123, PTH208, SIM105
"""The guard of a child process, a script of its own: nothing that the program starts outlives what it belongs to.

`python -I -S guard.py memory=BYTES space=BYTES report=FD -- PROGRAM ARGUMENT…`, 0 for what is not wanted. It needs
nothing but the standard library, so that it starts at once; its owner talks to it through the socket that is its
standard input. It says `started PID` or `failed ERRNO`, and in the end `ended STATUS PEAK LIMIT LEFT`: how the program
ended (as `wait` says it), the most bytes that it was seen to use, the limit that was the reason or 0, and how many
processes could not be killed. It is told `stop SECONDS` or `kill`; the end of the socket means that the owner is gone.

There are two guards, one the parent of the other, and the program is the child of the inner one. Both are subreapers
(Linux, prctl(2)): whatever forks twice or calls setsid becomes a child of the inner guard, or of the outer one when
that is gone, and having no child any more is the proof that nothing is left. Killing either guard makes the other kill
the rest; killing both leaves it to the owner (`sweep`, by session and by a mark in the environment).

Where there is no prctl (macOS) only the program's process group is killed: what leaves the group stays.

Memory is what all of the program's processes use together. RLIMIT_AS cannot say that: it counts addresses, of which
numpy, threads and the JIT of others reserve gigabytes without using them, and it counts each process alone. So the
inner guard adds up resident pages every 20 ms, and where the sum is over the limit it adds up again with shared pages
divided among their users (PSS, which costs the kernel a walk over the page tables), and decides by that one. Between
two looks a program may take more than its limit; what must never be exceeded needs a cgroup or `space` (RLIMIT_AS).
"""

import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator

MARK = "REGROW_TREE"
"""The environment variable by which the processes of one program are known when both of its guards are gone."""
LISTS_DESCENDANTS = sys.platform == "linux"
"""Whether descendants can be found and adopted; where they cannot, the process group stands for them."""
LOOK_S = 0.02
ORPHANED_S = 0.5
"""How long a program has to go by itself once its owner or a guard is gone."""
KILLING_S = 5.0
"""After this, what still lives cannot be killed by this user."""
PAUSE_S = 0.002

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_CONTROL = 0


def main(arguments: list[str]) -> None:
    """The outer guard: start the inner one, wait for its end, kill what is left."""
    cut = arguments.index("--")
    options = {name: int(value) for name, _, value in (each.partition("=") for each in arguments[:cut])}
    control(_PR_SET_CHILD_SUBREAPER, 1)
    outer = os.getpid()
    inner = os.fork()
    if inner == 0:
        try:
            _Inner(outer, options).run(arguments[cut + 1 :])
        finally:
            os._exit(0)
    _let_go(options["report"])
    while os.wait()[0] != inner:
        pass
    kill_descendants(lambda pid, status: None)


class _Inner:
    """The parent of the program."""

    def __init__(self, outer: int, options: dict[str, int]) -> None:
        self._outer = outer
        self._limit = options["memory"]
        self._space = options["space"]
        self._report = options["report"]
        self._pid = 0
        self._status: int | None = None
        self._peak = 0
        self._broken_limit = 0
        self._kill_at: float | None = None
        self._deaf = False
        self._said = b""

    def run(self, command: list[str]) -> None:
        os.setsid()
        control(_PR_SET_CHILD_SUBREAPER, 1)
        control(_PR_SET_PDEATHSIG, signal.SIGTERM)
        wake = _wake_up_on(signal.SIGCHLD, signal.SIGTERM)
        ooms = oom_kills()
        try:
            self._pid = start(command, self._space)
        except OSError as error:
            self._say(f"failed {error.errno}")
            return
        self._say(f"started {self._pid}")
        _let_go(self._report)
        while self._status is None:
            self._wait(wake)
            self._act()
        left = kill_descendants(self._reaped, self._pid)
        if self._status != 0 and not self._broken_limit and (killed := oom_kills())[0] > ooms[0]:
            self._broken_limit = killed[1]
        self._say(f"ended {self._status} {self._peak} {self._broken_limit} {left}")

    def _wait(self, wake: int) -> None:
        waits = [self._kill_at - time.monotonic()] if self._kill_at is not None else []
        if self._limit:
            waits.append(LOOK_S)
        heard, _, _ = select.select(
            [wake] if self._deaf else [wake, _CONTROL], [], [], max(0, min(waits)) if waits else None
        )
        if wake in heard:
            os.read(wake, 512)
        if _CONTROL in heard:
            self._listen(os.read(_CONTROL, 512))

    def _act(self) -> None:
        reap(self._reaped)
        if self._kill_at is None and os.getppid() != self._outer:
            self._terminate(ORPHANED_S)
        if self._limit and self._status is None:
            self._look()
        if self._kill_at is not None and time.monotonic() >= self._kill_at and self._status is None:
            kill_descendants(self._reaped, self._pid)
            self._status = signal.SIGKILL if self._status is None else self._status

    def _listen(self, said: bytes) -> None:
        if not said:
            self._deaf = True
            self._terminate(ORPHANED_S)
            return
        *lines, self._said = (self._said + said).split(b"\n")
        for line in lines:
            if line == b"kill":
                self._kill_at = time.monotonic()
            else:
                self._terminate(float(line.split()[1]))

    def _terminate(self, patience_s: float) -> None:
        until = time.monotonic() + patience_s
        self._kill_at = until if self._kill_at is None else min(until, self._kill_at)
        for number in (signal.SIGTERM, signal.SIGCONT):  # who is stopped could not go
            _kill_group(self._pid, number)

    def _look(self) -> None:
        pids = descendants(os.getpid())
        used = sum(map(resident_bytes, pids))
        if used > self._limit:
            used = sum(map(proportional_bytes, pids))
        self._peak = max(self._peak, used)
        if used > self._limit:
            self._broken_limit = self._limit
            self._kill_at = time.monotonic()

    def _reaped(self, pid: int, status: int) -> None:
        if pid == self._pid:
            self._status = status

    def _say(self, line: str) -> None:
        try:
            os.write(_CONTROL, line.encode() + b"\n")
        except OSError:
            pass  # the owner is gone


def start(command: list[str], space_bytes: int) -> int:
    """The pid of the command, in a session of its own, killed by the kernel when this process dies; raises OSError."""
    guard = os.getpid()
    failure, failed = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            _become(command, space_bytes, guard)
        except OSError as error:
            os.write(failed, str(error.errno).encode())
        finally:
            os._exit(127)
    os.close(failed)
    number = os.read(failure, 16)
    os.close(failure)
    if number:
        os.waitpid(pid, 0)
        raise OSError(int(number), os.strerror(int(number)))
    return pid


def _become(command: list[str], space_bytes: int, guard: int) -> None:
    os.setsid()
    control(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != guard:
        return
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and that would be inherited
        signal.signal(number, signal.SIG_DFL)
    if space_bytes:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (space_bytes, space_bytes))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.execvp(command[0], command)


def control(option: int, value: int) -> bool:
    """prctl(option, value); False where there is none."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    return prctl is not None and prctl(option, value, 0, 0, 0) == 0


def kill_descendants(reaped: Callable[[int, int], None], group: int = 0) -> int:
    """Kill all that descends from this process, and wait for each; the number of those that could not be killed.

    `group` is the process group to be killed where the descendants cannot be listed.
    """
    until = time.monotonic() + KILLING_S
    while True:
        pids = descendants(os.getpid())
        for pid in pids:
            _kill(pid)
        if group and not LISTS_DESCENDANTS:
            _kill_group(group, signal.SIGKILL)
        if not reap(reaped):
            return 0
        if time.monotonic() > until:
            return len(pids)
        time.sleep(PAUSE_S)


def reap(reaped: Callable[[int, int], None]) -> bool:
    """Tell of each child that has ended; False when there is no child any more, living or dead."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return True
        reaped(pid, status)


def descendants(root: int) -> list[int]:
    """The processes that descend from this one, parents first."""
    found = list(_children(root))
    for pid in found:
        found.extend(_children(pid))
    return found


def _children(pid: int) -> Iterator[int]:
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:  # it has ended, or there is no /proc
        return
    for task in tasks:
        yield from map(int, _text(f"/proc/{pid}/task/{task}/children").split())


def resident_bytes(pid: int) -> int:
    """What the process has in memory, in bytes, pages that it shares counted whole; 0 when it has ended."""
    fields = _text(f"/proc/{pid}/statm").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if fields else 0


def proportional_bytes(pid: int) -> int:
    """The same and what is swapped out, shared pages divided among those that share them, where the kernel says so."""
    lines = [line.split() for line in _text(f"/proc/{pid}/smaps_rollup").splitlines()]
    sizes = [int(line[1]) for line in lines if line and line[0] in ("Pss:", "SwapPss:")]
    return sum(sizes) * 1024 if sizes else resident_bytes(pid)


def oom_kills(cgroups: str = "/proc/self/cgroup", root: str = "/sys/fs/cgroup") -> tuple[int, int]:
    """How many processes of this cgroup the kernel has killed for want of memory, and its limit; (0, 0) if unreadable."""
    for line in _text(cgroups).splitlines():
        number, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            events, limit = f"{root}/memory{path}/memory.oom_control", f"{root}/memory{path}/memory.limit_in_bytes"
        elif number == "0":
            events, limit = f"{root}{path}/memory.events", f"{root}{path}/memory.max"
        else:
            continue
        counts = [each.split()[1] for each in _text(events).splitlines() if each.startswith("oom_kill ")]
        size = _text(limit).strip()
        if counts and size.isdigit():
            return int(counts[0]), int(size)
    return 0, 0


def sweep(session: int, mark: str) -> int:
    """Kill the processes of that session, and those with that mark in their environment; how many there were."""
    entry = f"{MARK}={mark}".encode()
    if not os.path.isdir("/proc/self"):
        return int(_kill_group(session, signal.SIGKILL))
    found = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _belongs(pid, session, entry)]
    for pid in found:
        _kill(pid)
    return len(found)


def _belongs(pid: int, session: int, entry: bytes) -> bool:
    state = _text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    if not state or state[0] in "ZX":
        return False
    if session and int(state[3]) == session:
        return True
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return entry in file.read().split(b"\0")
    except OSError:
        return False


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass  # it has ended, or belongs to another user


def _kill_group(group: int, number: int) -> bool:
    try:
        os.killpg(group, number)
    except OSError:
        return False
    return True


def _wake_up_on(*numbers: int) -> int:
    """A descriptor that becomes readable at these signals."""
    readable, written = os.pipe()
    os.set_blocking(written, False)
    for number in numbers:
        signal.signal(number, _woken)
    signal.set_wakeup_fd(written, warn_on_full_buffer=False)
    return readable


def _woken(number: int, frame: object) -> None:
    """Nothing: that there is a handler makes the signal wake up the guard."""


def _let_go(report: int) -> None:
    """Close what only the program is to hold, so that its owner sees the end of it."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.close(null)
    if report:
        os.close(report)


if __name__ == "__main__":
    main(sys.argv[1:])
