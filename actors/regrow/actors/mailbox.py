"""The letters of one actor that wait in this process, in lanes: each lane keeps its order, and lanes take turns.

Timers go first. Asks of this process have a lane of their own beside the two mailboxes, so that neither starves the other.
"""

import asyncio
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Literal

from regrow.actors.records import Letter, Outcome
from regrow.bus import Address, Box, Delivery, MailboxFull
from regrow.bus.subjects import BOXES

BODIES_KEPT = 64
"""Waiting letters of one actor, per mailbox, whose bodies are in memory; of those behind them only the place is kept."""
BODY_BYTES_MAX = 256 * 1024 * 1024
DIRECT_MAX = 1_000
"""Asks of this process that may wait for one actor; the next one is refused, as the outside mailbox refuses."""


class Budget:
    """Bytes of waiting bodies that one process keeps in memory, over all its actors; of the others only the place is kept."""

    def __init__(self, bytes_max: int = BODY_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self.used_bytes = 0

    def take(self, body: bytes) -> bool:
        """Whether there is room for one more body, which is taken then."""
        if self.used_bytes + len(body) > self._bytes_max:
            return False
        self.used_bytes += len(body)
        return True

    def give_back(self, body: bytes) -> None:
        self.used_bytes -= len(body)


class Direct:
    """An ask of this very process. It lies in no mailbox and dies with the process, as whoever asks does."""

    __slots__ = ("answer", "letter")

    def __init__(self, letter: Letter) -> None:
        self.letter = letter
        self.answer: asyncio.Future[Outcome | None] = asyncio.get_running_loop().create_future()
        """None: the actor is here no more, and the same ask has to go through its mailbox."""

    def settle(self, outcome: Outcome | None) -> None:
        """Answers, unless nobody waits any more."""
        if not self.answer.done():
            self.answer.set_result(outcome)


Waiting = Delivery | Direct
EVERYTHING = sys.maxsize
Lane = Literal["timer", "in", "act"]
LANES: tuple[Lane, ...] = ("timer", "in", "act")
NONE: "OrderedDict[int, Delivery]" = OrderedDict()
"""A lane in which nothing waits."""


class Mailbox:
    """Waiting letters. Within a mailbox's lane the lowest sequence is first, whatever came when."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._lanes: dict[Lane, OrderedDict[int, Delivery]] = {}
        """Those in which letters wait: an empty one would cost every actor some hundred bytes."""
        self._direct: deque[Direct] | None = None
        self._turn = 2

    def __len__(self) -> int:
        return len(self._direct or ()) + sum(len(waiting) for waiting in self._lanes.values())

    def __bool__(self) -> bool:
        return bool(self._direct or self._lanes)

    def __iter__(self) -> Iterator[Delivery]:
        """What came out of a mailbox."""
        for lane in LANES:
            yield from self._lanes.get(lane, NONE).values()

    def put(self, delivery: Delivery, *, timer: bool = False) -> None:
        """Adds a letter; one that waits already is replaced, for its acknowledgement may go elsewhere now."""
        lane: Lane = "timer" if timer else delivery.box
        waiting = self._lanes.setdefault(lane, OrderedDict())
        replaced = waiting.get(delivery.sequence)
        if replaced is not None:
            self._budget.give_back(replaced.body)
        late = replaced is None and waiting and next(reversed(waiting)) > delivery.sequence
        if len(waiting) >= BODIES_KEPT or not self._budget.take(delivery.body):
            delivery.shed()
        waiting[delivery.sequence] = delivery
        if late and not timer:
            self._lanes[lane] = OrderedDict(sorted(waiting.items()))

    def put_direct(self, direct: Direct, to: Address) -> None:
        """Adds an ask of this process. Raises ``MailboxFull``."""
        if self._direct is None:
            self._direct = deque()
        if len(self._direct) >= DIRECT_MAX:
            raise MailboxFull(str(to))
        self._direct.append(direct)

    def put_back(self, direct: Direct) -> None:
        """Adds an ask that had been taken and is to be taken again, before the others."""
        self._direct = self._direct or deque()
        self._direct.appendleft(direct)

    def take_direct(self) -> list[Direct]:
        """Takes all asks of this process."""
        taken, self._direct = list(self._direct or ()), None
        return taken

    def take(self) -> Waiting:
        """The next letter. IndexError when none waits."""
        if "timer" in self._lanes:
            return self._out("timer")
        for _ in range(3):
            self._turn = (self._turn + 1) % 3
            if self._turn == 2:
                if self._direct:
                    first = self._direct.popleft()
                    self._direct = self._direct or None
                    return first
            elif (lane := BOXES[self._turn]) in self._lanes:
                return self._out(lane)
        raise IndexError("the mailbox is empty")

    def _out(self, lane: Lane) -> Delivery:
        waiting = self._lanes[lane]
        delivery = waiting.popitem(last=False)[1]
        if not waiting:
            del self._lanes[lane]
        self._budget.give_back(delivery.body)
        return delivery

    def clear(self) -> list[Direct]:
        """Empties it; the asks of this process, which nobody will deliver again."""
        self.drop_until({"in": EVERYTHING, "act": EVERYTHING})
        return self.take_direct()

    def drop_until(self, position: dict[Box, int]) -> list[Delivery]:
        """Takes out everything that came out of a mailbox up to these sequences."""
        dropped = [each for each in self if each.sequence <= position[each.box]]
        for each in dropped:
            self._remove(each)
        return dropped

    def _remove(self, delivery: Delivery) -> None:
        self._budget.give_back(delivery.body)
        waiting = self._lanes.get(delivery.box, NONE)
        lane: Lane = delivery.box if waiting.get(delivery.sequence) is delivery else "timer"
        del self._lanes[lane][delivery.sequence]
        if not self._lanes[lane]:
            del self._lanes[lane]

    def take_out(self, wanted: Callable[[Delivery], bool]) -> list[Delivery]:
        """Takes out what came out of a mailbox and is wanted."""
        found = [each for each in self if wanted(each)]
        for each in found:
            self._remove(each)
        return found

    def last(self, box: Box) -> int:
        """The highest sequence that waits in a mailbox's lane; 0 when none does."""
        return next(reversed(self._lanes.get(box, NONE)), 0)
