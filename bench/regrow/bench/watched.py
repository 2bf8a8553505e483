"""A bus whose deliveries are seen by a callback the moment they reach their owner, before anything is done about them."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from regrow.bus import Bus, Delivery
from regrow.bus.port import Holding, Mail, Receive


class WatchedMail:
    """The mailboxes of another bus."""

    def __init__(self, mail: Mail, see: Callable[[Delivery], None]) -> None:
        self.post = mail.post
        self.schedule = mail.schedule
        self.unschedule = mail.unschedule
        self.purge = mail.purge
        self._serve = mail.serve
        self._see = see

    def serve(self, receive: Receive, lost: Callable[[int], None]) -> AbstractAsyncContextManager[Holding]:
        """As the other bus does it, with the callback before ``receive``."""

        def received(delivery: Delivery) -> None:
            self._see(delivery)
            receive(delivery)

        return self._serve(received, lost)


class WatchedBus:
    """Another bus, with mailboxes that are watched."""

    def __init__(self, bus: Bus, see: Callable[[Delivery], None]) -> None:
        self.subjects = bus.subjects
        self.log = bus.log
        self.dead = bus.dead
        self.cache = bus.cache
        self.epoch = bus.epoch
        self.mail = WatchedMail(bus.mail, see)
        self.publish = bus.publish
        self.request = bus.request
        self.count_records = bus.count_records
        self.serve = bus.serve
        self.expect_reply = bus.expect_reply
