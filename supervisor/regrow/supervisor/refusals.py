"""What a supervisor says no to, with the reason; OTP's {error, Reason} of the calls on children."""

from regrow.supervisor.errors import SupervisorError


class ChildRefused(SupervisorError):
    """A call on a child that cannot be done as things are; the class says why, nothing was changed."""

    def __init__(self, supervisor: str, child: str, text: str) -> None:
        super().__init__(text)
        self.supervisor = supervisor
        self.child = child


class ChildAlreadyStarted(ChildRefused):
    """`start_child`: a child with this id runs (OTP: already_started)."""

    def __init__(self, supervisor: str, child: str) -> None:
        super().__init__(
            supervisor, child, f"supervisor {supervisor!r} already runs a child {child!r}; give the new one another id"
        )


class ChildAlreadyPresent(ChildRefused):
    """`start_child`: a child with this id is known and does not run (OTP: already_present)."""

    def __init__(self, supervisor: str, child: str) -> None:
        text = f"supervisor {supervisor!r} has a child {child!r} that is stopped; restart it, or delete it first"
        super().__init__(supervisor, child, text)


class ChildRunning(ChildRefused):
    """`restart_child` and `delete_child`: only for children that are stopped (OTP: running)."""

    def __init__(self, supervisor: str, child: str) -> None:
        super().__init__(supervisor, child, f"child {child!r} of supervisor {supervisor!r} runs; terminate it first")


class ChildRestarting(ChildRefused):
    """`restart_child` and `delete_child`: the child is about to be restarted anyway (OTP: restarting)."""

    def __init__(self, supervisor: str, child: str) -> None:
        text = f"child {child!r} of supervisor {supervisor!r} is about to be restarted; terminate it first"
        super().__init__(supervisor, child, text)


class ChildNotFound(ChildRefused, LookupError):
    """No child of the supervisor has this id (OTP: not_found)."""

    def __init__(self, supervisor: str, child: str) -> None:
        text = f"supervisor {supervisor!r} has no child {child!r}; which_children() lists those it has"
        super().__init__(supervisor, child, text)


class ChildNotRunning(ChildRefused):
    """`child`: the child is known, and has no incarnation at the moment."""

    def __init__(self, supervisor: str, child: str) -> None:
        text = (
            f"child {child!r} of supervisor {supervisor!r} does not run now; restart it, or wait until it is restarted"
        )
        super().__init__(supervisor, child, text)


class MaxChildrenReached(SupervisorError):
    """A dynamic supervisor has as many children as it may have; those about to be restarted count."""

    def __init__(self, supervisor: str, children_max: int) -> None:
        text = f"supervisor {supervisor!r} has {children_max} children, as many as it may; wait until one is gone"
        super().__init__(text)
        self.supervisor = supervisor
        self.children_max = children_max


class SupervisorStopped(SupervisorError):
    """The supervisor stops or has stopped, so the call was not carried out, or not to its end."""

    def __init__(self, supervisor: str) -> None:
        super().__init__(f"supervisor {supervisor!r} is stopping or has stopped; start it again before asking it")
        self.supervisor = supervisor
