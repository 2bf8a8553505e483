"""OTP supervision for asyncio: child specs, restart intensity, backoff, causes of death; no NATS needed."""

from regrow.supervisor.backoff import Backoff
from regrow.supervisor.decision import Action, decide
from regrow.supervisor.errors import (
    AlreadyRunning,
    DuplicateChild,
    InvalidOption,
    NotRunning,
    RestartIntensityReached,
    StartFailed,
    StartTimedOut,
    SupervisorError,
)
from regrow.supervisor.exits import Crashed, Exit, Exited, Hung, Killed, Normal, Shutdown, describe
from regrow.supervisor.intensity import Intensity, admit
from regrow.supervisor.spec import ChildSpec, Restart, Run, ShutdownTime, Start, check_children
from regrow.supervisor.supervisor import Supervisor
from regrow.supervisor.tree import ChildInfo, ChildState

__all__ = [
    "Action",
    "AlreadyRunning",
    "Backoff",
    "ChildInfo",
    "ChildSpec",
    "ChildState",
    "Crashed",
    "DuplicateChild",
    "Exit",
    "Exited",
    "Hung",
    "Intensity",
    "InvalidOption",
    "Killed",
    "Normal",
    "NotRunning",
    "Restart",
    "RestartIntensityReached",
    "Run",
    "Shutdown",
    "ShutdownTime",
    "Start",
    "StartFailed",
    "StartTimedOut",
    "Supervisor",
    "SupervisorError",
    "admit",
    "check_children",
    "decide",
    "describe",
]
