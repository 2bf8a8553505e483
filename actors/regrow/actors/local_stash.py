"""The stash of one local actor: messages that it has put aside until it says, each with whoever asked. One event loop."""

from collections import deque
from typing import Any

from regrow.actors.errors import ActorError
from regrow.actors.local_mailbox import Entry, LocalMailbox
from regrow.actors.message import Message


class Stashed(BaseException):
    """Ends the handler of a message that was put aside; no ``Exception``, so that a handler does not take it for a failure."""

    def __init__(self, message: Message[Any]) -> None:
        super().__init__("only the message that is being handled can be put aside, and in its own handler")
        self.message = message


class StashFull(ActorError):
    """The actor has put aside as many messages as it may, and did not handle this one either; it goes on."""

    def __init__(self, actor: str, stash_max: int) -> None:
        super().__init__(f"the stash of {actor} holds {stash_max} messages and has no room for another")
        self.actor = actor
        self.stash_max = stash_max


class LocalStash:
    """What was put aside, in that order. Made with the first message: most actors never need one."""

    __slots__ = ("_aside", "_mailbox")

    def __init__(self, mailbox: LocalMailbox) -> None:
        self._mailbox = mailbox
        self._aside: deque[Entry] = deque()

    def __len__(self) -> int:
        return len(self._aside)

    def add(self, entry: Entry) -> None:
        """One more."""
        self._aside.append(entry)

    def put_back(self) -> None:
        """All of it goes to the front of the mailbox, in its order."""
        if self._aside:
            aside, self._aside = self._aside, deque()
            self._mailbox.put_back(aside)
