"""The letters of one actor that wait in this process: by box, each box in the order of its stream."""

from collections import OrderedDict
from collections.abc import Iterator

from regrow.bus import Box, Delivery


class Mailbox:
    """Waiting letters. The two boxes take turns; within one the lowest sequence is first, whatever came when."""

    def __init__(self) -> None:
        self._boxes: dict[Box, OrderedDict[int, Delivery]] = {"in": OrderedDict(), "act": OrderedDict()}
        self._last: Box = "act"

    def __len__(self) -> int:
        return sum(len(waiting) for waiting in self._boxes.values())

    def __iter__(self) -> Iterator[Delivery]:
        for waiting in self._boxes.values():
            yield from waiting.values()

    def put(self, delivery: Delivery) -> None:
        """Adds a letter; one that waits already is replaced, for its acknowledgement may go elsewhere now."""
        waiting = self._boxes[delivery.box]
        late = delivery.sequence not in waiting and waiting and next(reversed(waiting)) > delivery.sequence
        waiting[delivery.sequence] = delivery
        if late:
            self._boxes[delivery.box] = OrderedDict(sorted(waiting.items()))

    def take(self) -> Delivery:
        """The next letter. KeyError when none waits."""
        other: Box = "in" if self._last == "act" else "act"
        self._last = other if self._boxes[other] else self._last
        return self._boxes[self._last].popitem(last=False)[1]
