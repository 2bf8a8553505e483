"""The client of a connection: nats-py's, which also tells whoever waits for an answer that its subject was refused."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

from nats.aio.client import Client

OnDenied = Callable[[str], bool]


class BusClient(Client):
    """A client that knows who may be waiting: the server says only to the connection that it refused a publish."""

    def __init__(self) -> None:
        super().__init__()
        self._listeners: list[OnDenied] = []

    @contextmanager
    def denials(self, listener: OnDenied) -> Generator[None]:
        """Calls the listener with each subject, in lower case, to which a publish was refused; it says whether that was its own."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def deny(self, subject: str) -> bool:
        """Whether somebody waited for the answer to a publish to this subject, and knows now that none comes."""
        return any(listener(subject) for listener in list(self._listeners))
