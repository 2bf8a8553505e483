"""The letters of one actor that wait in this process, in lanes: each lane keeps its order, and lanes take turns.

Timers go first. Asks of this process have a lane of their own beside the two mailboxes, so that neither starves the other.
"""

import asyncio
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator

from regrow.actors.records import Letter, Outcome
from regrow.bus import Address, Box, Delivery, MailboxFull

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


class Mailbox:
    """Waiting letters. Within a mailbox's lane the lowest sequence is first, whatever came when."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._boxes: dict[Box, OrderedDict[int, Delivery]] = {"in": OrderedDict(), "act": OrderedDict()}
        self._timers: OrderedDict[int, Delivery] = OrderedDict()
        self._direct: deque[Direct] = deque()
        self._turn = 2

    def __len__(self) -> int:
        return len(self._direct) + len(self._timers) + sum(len(waiting) for waiting in self._boxes.values())

    def __bool__(self) -> bool:
        return bool(self._direct or self._timers or self._boxes["in"] or self._boxes["act"])

    def __iter__(self) -> Iterator[Delivery]:
        """What came out of a mailbox."""
        yield from self._timers.values()
        for waiting in self._boxes.values():
            yield from waiting.values()

    def put(self, delivery: Delivery, *, timer: bool = False) -> None:
        """Adds a letter; one that waits already is replaced, for its acknowledgement may go elsewhere now."""
        waiting = self._timers if timer else self._boxes[delivery.box]
        replaced = waiting.get(delivery.sequence)
        if replaced is not None:
            self._budget.give_back(replaced.body)
        late = replaced is None and waiting and next(reversed(waiting)) > delivery.sequence
        if len(waiting) >= BODIES_KEPT or not self._budget.take(delivery.body):
            delivery.shed()
        waiting[delivery.sequence] = delivery
        if late and not timer:
            self._boxes[delivery.box] = OrderedDict(sorted(waiting.items()))

    def put_direct(self, direct: Direct, to: Address) -> None:
        """Adds an ask of this process. Raises ``MailboxFull``."""
        if len(self._direct) >= DIRECT_MAX:
            raise MailboxFull(str(to))
        self._direct.append(direct)

    def put_back(self, direct: Direct) -> None:
        """Adds an ask that had been taken and is to be taken again, before the others."""
        self._direct.appendleft(direct)

    def take_direct(self) -> list[Direct]:
        """Takes all asks of this process."""
        taken = list(self._direct)
        self._direct.clear()
        return taken

    def take(self) -> Waiting:
        """The next letter. IndexError when none waits."""
        if self._timers:
            return self._out(self._timers)
        for _ in range(3):
            self._turn = (self._turn + 1) % 3
            if self._turn == 2:
                if self._direct:
                    return self._direct.popleft()
            elif lane := self._boxes["in" if self._turn == 0 else "act"]:
                return self._out(lane)
        raise IndexError("the mailbox is empty")

    def _out(self, lane: OrderedDict[int, Delivery]) -> Delivery:
        delivery = lane.popitem(last=False)[1]
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
        lane = self._boxes[delivery.box]
        del (lane if lane.get(delivery.sequence) is delivery else self._timers)[delivery.sequence]

    def take_out(self, wanted: Callable[[Delivery], bool]) -> list[Delivery]:
        """Takes out what came out of a mailbox and is wanted."""
        found = [each for each in self if wanted(each)]
        for each in found:
            self._remove(each)
        return found

    def last(self, box: Box) -> int:
        """The highest sequence that waits in a mailbox's lane; 0 when none does."""
        waiting = self._boxes[box]
        return next(reversed(waiting)) if waiting else 0
