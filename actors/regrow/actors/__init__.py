"""The programming model of regrow: actors, messages, events, tools, and the system that runs them."""

from regrow.actors.actor import Actor
from regrow.actors.administration import Administration, CancellationWaits, DeletionWaits, NoActor, Purged
from regrow.actors.application import NoApplication, load_system
from regrow.actors.cache import Cache
from regrow.actors.checking import Finding, check
from regrow.actors.classifier import Classifier, classify
from regrow.actors.client import Client
from regrow.actors.dead_letter import DeadLetter, DeadLetters, NoDeadLetter, NotReplayable
from regrow.actors.deadline import timeout
from regrow.actors.errors import (
    ActorError,
    ActorStopped,
    AmbiguousStep,
    AskFailed,
    AskTimeout,
    DefinitionError,
    Drift,
    Failure,
    FoldDiffers,
    NotApproved,
    NotDone,
    OutcomeUnknown,
    Refused,
    StateChangedOutsideEvent,
    StepFailed,
    WouldDeadlock,
)
from regrow.actors.failure_action import Action, GiveUp, Repair, Repeat, RollBack, Wait, action_of
from regrow.actors.failure_kind import Diagnosis
from regrow.actors.handler import command, event, query
from regrow.actors.happening import Recorded
from regrow.actors.insight import Seen
from regrow.actors.kind import Kind, Singleton
from regrow.actors.local import LocalActor, LocalSystem
from regrow.actors.local_dead_letters import LocalDeadLetter, LocalDeadLetters
from regrow.actors.local_policy import LocalPolicy, Overflow
from regrow.actors.local_ref import LocalRef
from regrow.actors.local_stash import StashFull
from regrow.actors.message import Event, Message
from regrow.actors.overview import Overview
from regrow.actors.per_key import KindFailing, PerKey
from regrow.actors.policy import Policy
from regrow.actors.projecting import PositionMoved, Positions, ProjectionFailed
from regrow.actors.projection import HistoryIncomplete, Projection
from regrow.actors.ref import Ref
from regrow.actors.retry import Retry
from regrow.actors.schedule import Schedule
from regrow.actors.start import Start
from regrow.actors.steering import NoNode, NotSteered, Unserved
from regrow.actors.step import StepContext, current_step, step
from regrow.actors.system import Node, System
from regrow.actors.tool import Tool, tool
from regrow.actors.trace import Traced
from regrow.actors.upcast import upcast

__all__ = [
    "Action",
    "Actor",
    "ActorError",
    "ActorStopped",
    "Administration",
    "AmbiguousStep",
    "AskFailed",
    "AskTimeout",
    "Cache",
    "CancellationWaits",
    "Classifier",
    "Client",
    "DeadLetter",
    "DeadLetters",
    "DefinitionError",
    "DeletionWaits",
    "Diagnosis",
    "Drift",
    "Event",
    "Failure",
    "Finding",
    "FoldDiffers",
    "GiveUp",
    "HistoryIncomplete",
    "Kind",
    "KindFailing",
    "LocalActor",
    "LocalDeadLetter",
    "LocalDeadLetters",
    "LocalPolicy",
    "LocalRef",
    "LocalSystem",
    "Message",
    "NoActor",
    "NoApplication",
    "NoDeadLetter",
    "NoNode",
    "Node",
    "NotApproved",
    "NotDone",
    "NotReplayable",
    "NotSteered",
    "OutcomeUnknown",
    "Overflow",
    "Overview",
    "PerKey",
    "Policy",
    "PositionMoved",
    "Positions",
    "Projection",
    "ProjectionFailed",
    "Purged",
    "Recorded",
    "Ref",
    "Refused",
    "Repair",
    "Repeat",
    "Retry",
    "RollBack",
    "Schedule",
    "Seen",
    "Singleton",
    "Start",
    "StashFull",
    "StateChangedOutsideEvent",
    "StepContext",
    "StepFailed",
    "System",
    "Tool",
    "Traced",
    "Unserved",
    "Wait",
    "WouldDeadlock",
    "action_of",
    "check",
    "classify",
    "command",
    "current_step",
    "event",
    "load_system",
    "query",
    "step",
    "timeout",
    "tool",
    "upcast",
]
