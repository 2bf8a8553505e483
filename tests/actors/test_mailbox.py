"""The order of an actor's waiting letters."""

import pytest

from regrow.actors.mailbox import Mailbox
from regrow.bus import Address, Box


class Letter:
    def __init__(self, box: Box, sequence: int) -> None:
        self.box: Box = box
        self.sequence = sequence
        self.address = Address("k", "a")
        self.headers: dict[str, str] = {}
        self.body = b""

    async def ack(self) -> None: ...


def taken(mailbox: Mailbox) -> list[tuple[Box, int]]:
    return [(each.box, each.sequence) for each in (mailbox.take() for _ in range(len(mailbox)))]


def test_letters_are_taken_in_the_order_of_their_stream_whatever_came_when() -> None:
    mailbox = Mailbox()
    for sequence in (3, 5, 2, 9, 4):
        mailbox.put(Letter("in", sequence))
    assert [each.sequence for each in mailbox] == [2, 3, 4, 5, 9]
    assert taken(mailbox) == [("in", number) for number in (2, 3, 4, 5, 9)]


def test_the_boxes_take_turns() -> None:
    mailbox = Mailbox()
    for sequence in (1, 2, 3):
        mailbox.put(Letter("in", sequence))
    for sequence in (1, 2):
        mailbox.put(Letter("act", sequence))
    assert taken(mailbox) == [("in", 1), ("act", 1), ("in", 2), ("act", 2), ("in", 3)]


def test_a_letter_that_comes_again_keeps_its_place_and_is_the_new_one() -> None:
    mailbox, again = Mailbox(), Letter("in", 1)
    mailbox.put(Letter("in", 1))
    mailbox.put(Letter("in", 2))
    mailbox.put(again)
    assert len(mailbox) == 2
    assert mailbox.take() is again


def test_nothing_can_be_taken_from_an_empty_mailbox() -> None:
    with pytest.raises(KeyError):
        Mailbox().take()
