"""Which of an actor's turns may be what the last process died of: the one that was open, else the first of each lane."""

from regrow.actors.records import Letter

LANES = ("in", "act", "timer")


class Suspicion:
    """Of one actor since it came into this process. What it suspects is counted in the log before it runs."""

    __slots__ = ("_heard", "_unproved")

    def __init__(self) -> None:
        self._heard = False
        self._unproved: tuple[str, ...] = LANES

    def hear(self) -> None:
        """Mail came that was waiting when a process died; it counts until the actor has taken the first letter."""
        self._heard = self._heard or len(self._unproved) == len(LANES)

    def clear(self) -> None:
        """Whatever the last process died of, it was not at work on this actor: its turn was suspended, and all others wait."""
        self._heard, self._unproved = False, ()

    def start_of_open(self, starts: int) -> int:
        """The number of the start of a turn that was open: one more than before when its process died. Nothing else is suspect."""
        heard, self._heard = self._heard, False
        self._unproved = ()
        return starts + 1 if heard else 1

    def start_of(self, letter: Letter, *, suspect: bool) -> int:
        """2 for a suspect letter that was first in its lane when the last process died, else 1."""
        lane = "timer" if letter.type == "timer" else letter.box
        if letter.type == "direct" or lane not in self._unproved:
            return 1
        self._unproved = tuple(each for each in self._unproved if each != lane)
        return 2 if suspect else 1
