"""What ran and what was recorded, kept outside of every process: the witness and the logs side by side."""

from collections import Counter, defaultdict

import msgspec

from regrow.actors.records import Cancelled, Entry, Failed, Record, Steps, Turn
from regrow.actors.step import Call, StepContext
from regrow.bus import Address, decode

Execution = tuple[str, str, str]
"""Actor, tool, and the arguments as JSON: what a step is, whatever the runtime calls it."""


class Ledger:
    """Follows one run over all its processes. A step that runs after the log had its outcome is a fault, however it is keyed."""

    def __init__(self) -> None:
        self.ran: Counter[Execution] = Counter()
        self.in_flight: Counter[Execution] = Counter()
        """Executions whose outcome was not in the log when their process died: those, and only those, may run once more."""
        self.again: list[str] = []
        """Steps that ran although the log had their outcome."""
        self._recorded: defaultdict[str, set[str]] = defaultdict(set)
        self._cancelled: defaultdict[str, set[str]] = defaultdict(set)
        self._open: defaultdict[str, dict[str, Execution]] = defaultdict(dict)

    def executed(self, call: Call, context: StepContext) -> None:
        """A tool's body is about to run."""
        execution = context.actor, call.tool, bytes(call.arguments).decode()
        self.ran[execution] += 1
        self._open[context.actor][context.key] = execution
        if context.key in self._recorded[context.actor]:
            self.again.append(f"{context.actor} ran {told(execution)} again although its outcome is in the log")

    def recorded(self, address: Address, data: bytes) -> None:
        """A record has reached the log."""
        for entry in decode(data, Record, "record").entries:
            self._enter(str(address), entry)

    def died(self) -> None:
        """A process is gone, with all that it was at."""
        for running in self._open.values():
            self.in_flight.update(running.values())
        self._open.clear()

    def _enter(self, actor: str, entry: Entry) -> None:
        match entry:
            case Steps(steps):
                self._finish(actor, *(step.key for step in steps))
            case Cancelled(step):
                self._finish(actor, step.key)
                self._cancelled[actor].add(step.key)
            case Failed():  # the next attempt runs again what ended this one, and what was cancelled on the way
                self._recorded[actor] -= set(entry.again) | self._cancelled.pop(actor, set())
            case Turn():
                self._recorded.pop(actor, None)
                self._cancelled.pop(actor, None)
                self._open.pop(actor, None)
            case _:
                pass

    def _finish(self, actor: str, *keys: str) -> None:
        self._recorded[actor] |= set(keys)
        for key in keys:
            self._open[actor].pop(key, None)


def told(execution: Execution) -> str:
    """An execution in words."""
    _, tool, arguments = execution
    return f"{tool} {arguments if len(arguments) <= 120 else arguments[:117] + '...'}"


class _Tag(msgspec.Struct):
    type: str


class _Tags(msgspec.Struct):
    entries: list[_Tag]


def entries_of(data: bytes) -> str:
    """The types of a record's entries, such as ``Begun+Steps``."""
    try:
        return "+".join(entry.type for entry in msgspec.json.decode(data, type=_Tags).entries)
    except msgspec.MsgspecError:
        return "record"
