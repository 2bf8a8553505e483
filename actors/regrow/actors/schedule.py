"""Schedules: what is sent to whom by the clock, said where the system is made and checked there."""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, get_args

import msgspec

from regrow.actors.actor import Actor
from regrow.actors.agenda import Missed, Overlap, Timing
from regrow.actors.definition import definition_of
from regrow.actors.due import check_due
from regrow.actors.errors import DefinitionError
from regrow.actors.message import Message, tag_of
from regrow.bus import Address, check_address, encode

RESERVED = "rg_schedule"
"""The kind of the actors that keep schedules, one per schedule under its name."""


@dataclass(frozen=True)
class Schedule:
    """A message to an actor whenever a cron expression is due, at most once per due time, whatever is killed or restarted.

    ``cron`` has five fields, or six with seconds first; ``regrow.actors.due`` says what summer time does to it. It needs the
    extra ``regrow[schedules]``. What a schedule is, the code says: it is changed there, and ends when it is removed there, each
    at the next start.
    """

    cron: str
    _: KW_ONLY
    to: type[Actor]
    key: str
    send: Message[Any]
    tz: str = "UTC"
    overlap: Overlap = "skip"
    """When it is due while the run before is not over: ``skip`` leaves the due time out, ``queue`` runs it afterwards (the last
    1,000 at most), ``allow`` sends at once and never looks whether a run is over."""
    missed: Missed = "once"
    """What becomes of due times that passed while no node served: ``once`` makes up for all of them by one run, ``skip`` leaves
    them out, ``all`` runs each, one by one unless overlap is allowed (the last 1,000 at most)."""
    name: str = ""
    """Unique in its system, and what it is known by from start to start; by default made of receiver and message."""
    grace_s: float = 60.0
    """With ``missed="skip"``: a due time that is no older still runs."""
    run_timeout_s: float = 3_600.0
    """With ``skip`` and ``queue``: a run that has taken as long is taken for over. It goes on all the same."""


class Plan(msgspec.Struct, frozen=True):
    """A schedule as its actor records it."""

    timing: Timing
    kind: str
    key: str
    body: msgspec.Raw

    @property
    def to(self) -> Address:
        return Address(self.kind, self.key)


def plans_of(schedules: Sequence[Schedule], kinds: Mapping[str, type[Actor]]) -> dict[str, Plan]:
    """The plans by name. Raises ``DefinitionError`` with one sentence for a schedule that could not work."""
    plans: dict[str, Plan] = {}
    for schedule in schedules:
        if not isinstance(schedule, Schedule):  # pyright: ignore[reportUnnecessaryIsInstance]  # a slip of the untyped
            raise DefinitionError(f"System(schedules=…) takes a list of Schedule(...), not {schedule!r}")
        plan = _plan(schedule, kinds)
        name = schedule.name or f"{plan.kind}.{plan.key}.{tag_of(type(schedule.send))}"
        _checked_key(RESERVED, name)
        if name in plans:
            raise DefinitionError(f"two schedules have the name {name!r}; give one of them: Schedule(..., name=...)")
        plans[name] = plan
    return plans


def _plan(schedule: Schedule, kinds: Mapping[str, type[Actor]]) -> Plan:
    definition = definition_of(schedule.to)
    if kinds.get(definition.kind) is not schedule.to:
        raise DefinitionError(
            f"the schedule {schedule.cron!r} sends to {definition.name}, which this system does not have: add it to its actors"
        )
    if type(schedule.send) not in definition.commands:
        raise DefinitionError(
            f"the schedule {schedule.cron!r} sends what {definition.name} has no @command for: {schedule.send!r}"
        )
    to = _checked_key(definition.kind, schedule.key)
    return Plan(_timing(schedule), to.kind, to.key, msgspec.Raw(encode(schedule.send)))


def _timing(schedule: Schedule) -> Timing:
    for what, value, known in (
        ("overlap", schedule.overlap, get_args(Overlap)),
        ("missed", schedule.missed, get_args(Missed)),
    ):
        if value not in known:
            raise DefinitionError(f"a schedule's {what} is one of {', '.join(known)}, not {value!r}")
    if schedule.grace_s < 0 or schedule.run_timeout_s <= 0:
        raise DefinitionError("a schedule's grace_s is 0 or more seconds, its run_timeout_s more than 0")
    check_due(schedule.cron, schedule.tz)
    return Timing(
        cron=schedule.cron,
        tz=schedule.tz,
        overlap=schedule.overlap,
        missed=schedule.missed,
        grace_ms=int(schedule.grace_s * 1000),
        run_ms=int(schedule.run_timeout_s * 1000),
    )


def _checked_key(kind: str, key: str) -> Address:
    try:
        return check_address(Address(kind, key))
    except ValueError as error:
        raise DefinitionError(f"a schedule cannot be sent or kept under {key!r}: {error}") from None
