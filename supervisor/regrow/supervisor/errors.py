"""What a supervisor raises; every class is a `SupervisorError`."""

from regrow.supervisor.exits import Exit, describe


class SupervisorError(Exception):
    """Root of everything this package raises."""


class InvalidOption(SupervisorError, ValueError):
    """A spec or an option cannot be meant so; the message says which and what is allowed."""


class DuplicateChild(InvalidOption):
    """Two children of one supervisor have the same id."""

    def __init__(self, child: str) -> None:
        super().__init__(f"two children are called {child!r}; an id names one child of its supervisor")
        self.child = child


class AlreadyRunning(SupervisorError):
    """The supervisor was started a second time before it had stopped."""

    def __init__(self, supervisor: str) -> None:
        super().__init__(f"supervisor {supervisor!r} is already running")
        self.supervisor = supervisor


class NotRunning(SupervisorError):
    """The supervisor was asked for something before it was started."""

    def __init__(self, supervisor: str) -> None:
        super().__init__(f"supervisor {supervisor!r} has not been started")
        self.supervisor = supervisor


class StartTimedOut(SupervisorError, TimeoutError):
    """A child neither called `ready()` nor finished in its time; it was cancelled."""

    def __init__(self, child: str, timeout_s: float) -> None:
        super().__init__(f"child {child!r} was not ready within {timeout_s:g} s")
        self.child = child
        self.timeout_s = timeout_s


class StartFailed(SupervisorError):
    """A child died before it was ready, so its supervisor stopped what it had started; `cause` says why."""

    def __init__(self, child: str, cause: Exit) -> None:
        super().__init__(f"child {child!r} did not start: it {describe(cause)}")
        self.child = child
        self.cause = cause


class RestartIntensityReached(SupervisorError):
    """Children died faster than they may be restarted; `child` was the last, `exit` how it ended."""

    def __init__(self, supervisor: str, child: str, cause: Exit) -> None:
        super().__init__(f"supervisor {supervisor!r} gave up: too many restarts, and child {child!r} {describe(cause)}")
        self.supervisor = supervisor
        self.child = child
        self.exit = cause


class Died(SupervisorError):
    """Raised by a child's coroutine to say how it really ended: its supervisor takes `cause` as the child's exit.

    A coroutine that stands for something else, such as a process, ends by this instead of by a crash of its own.
    """

    def __init__(self, cause: Exit) -> None:
        super().__init__(f"it {describe(cause)}")
        self.cause = cause
