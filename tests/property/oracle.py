"""What a log says must never run again: a fold of its records that shares nothing with the runtime's own."""

import re

import msgspec

from regrow.actors.records import VERSION, Cancelled, Entry, Failed, Record, Snapshot, Step, Steps, Turn
from regrow.bus import decode, encode

TOKEN = re.compile(r"u\d+")


class Told:
    """What the records of one actor tell so far, and what is wrong with them."""

    def __init__(self) -> None:
        self.attempts = 0
        """Failed attempts at the open turn."""
        self.turns: list[Turn] = []
        self.tokens: set[str] = set()
        """Of all outcomes."""
        self.wrong: list[str] = []
        self._now: dict[str, Step] = {}
        self._outcomes: dict[str, Step] = {}
        self._before: dict[str, Step] = {}
        """Outcomes of the attempts before, those excepted that ended one."""
        self._marks: set[tuple[str, tuple[int, int]]] = set()

    def add(self, data: bytes) -> None:
        """One more record."""
        for entry in decode(data, Record, "record").entries:
            self._enter(entry)

    def has(self, key: str) -> bool:
        """Whether a step has its outcome, or is cancelled for good: it must not run (again) in this attempt."""
        return key in self._now or key in self._before

    def has_outcome(self, key: str) -> bool:
        """The same without those that are cancelled: a body in a thread may begin just as its step is."""
        return key in self._outcomes or key in self._before

    def _enter(self, entry: Entry) -> None:
        match entry:
            case Steps(steps):
                for step in steps:
                    self._completed(step)
            case Cancelled(step):
                self._now[step.key] = step
            case Failed():
                known = {**self._before, **self._outcomes}
                self._before = {key: step for key, step in known.items() if key not in entry.again}
                self._now, self._outcomes = {}, {}
                self.attempts = entry.attempt
            case Turn():
                self._ended(entry)
            case _:
                pass

    def _completed(self, step: Step) -> None:
        before = self._before.get(step.key)
        if step.key in self._now:
            self.wrong.append(f"recorded twice: {step.key}")
        if before is not None and encode(before.outcome) != encode(step.outcome):
            self.wrong.append(f"another outcome than in the attempt before: {step.key}")
        self._now[step.key] = self._outcomes[step.key] = step
        self.tokens.update(TOKEN.findall(encode(step.outcome).decode()))

    def _ended(self, turn: Turn) -> None:
        mark = turn.cause.mark
        if mark is not None and (turn.cause.sender, mark) in self._marks:
            self.wrong.append(f"two turns of one ask: {turn.cause.sender} {mark}")
        if mark is not None:
            self._marks.add((turn.cause.sender, mark))
        self.turns.append(turn)
        self._now, self._outcomes, self._before, self.attempts = {}, {}, {}, 0


def told(records: list[bytes]) -> Told:
    """What these records tell."""
    found = Told()
    for data in records:
        found.add(data)
    return found


def before_the_end(records: list[bytes]) -> list[bytes]:
    """The log as it was before the last attempt at its only turn ended: from there a replay has to come to the same end."""
    entries = [(number, entry) for number, data in enumerate(records) for entry in decode(data, Record, "r").entries]
    last = len(entries) - 1
    while last > 0 and not isinstance(entries[last][1], Turn):
        last -= 1
    while last > 0 and isinstance(entries[last - 1][1], Failed):
        last -= 1
    kept: list[bytes] = []
    for number, data in enumerate(records):
        record = decode(data, Record, "r")
        left = tuple(entry for at, entry in entries[:last] if at == number and not isinstance(entry, Snapshot))
        if left:
            kept.append(encode(msgspec.structs.replace(record, v=VERSION, entries=left)))
    return kept
