"""The order of an actor's waiting letters."""

import msgspec
import pytest

from regrow.actors import mailbox as module
from regrow.actors.mailbox import Budget, Direct, Mailbox
from regrow.actors.records import Letter as Recorded
from regrow.actors.records import Outcome
from regrow.bus import Address, Box, MailboxFull


class Letter:
    def __init__(self, box: Box, sequence: int) -> None:
        self.box: Box = box
        self.sequence = sequence
        self.address = Address("k", "a")
        self.headers: dict[str, str] = {}
        self.body = b"x"
        self.suspect = False

    def shed(self) -> None:
        self.body = b""

    async def fetch(self) -> bool:
        return True

    async def ack(self) -> None: ...


def direct(name: str) -> Direct:
    return Direct(Recorded("in", 0, name, msgspec.Raw(b"{}"), type="direct"))


def taken(mailbox: Mailbox) -> list[object]:
    found: list[object] = []
    for _ in range(len(mailbox)):
        each = mailbox.take()
        found.append(each.letter.id if isinstance(each, Direct) else (each.box, each.sequence))
    return found


def test_letters_are_taken_in_the_order_of_their_stream_whatever_came_when() -> None:
    mailbox = Mailbox(Budget())
    for sequence in (3, 5, 2, 9, 4):
        mailbox.put(Letter("in", sequence))
    assert [each.sequence for each in mailbox] == [2, 3, 4, 5, 9]
    assert taken(mailbox) == [("in", number) for number in (2, 3, 4, 5, 9)]


def test_the_boxes_take_turns() -> None:
    mailbox = Mailbox(Budget())
    for sequence in (1, 2, 3):
        mailbox.put(Letter("in", sequence))
    for sequence in (1, 2):
        mailbox.put(Letter("act", sequence))
    assert taken(mailbox) == [("in", 1), ("act", 1), ("in", 2), ("act", 2), ("in", 3)]


def test_a_letter_that_comes_again_keeps_its_place_and_is_the_new_one() -> None:
    mailbox, again = Mailbox(Budget()), Letter("in", 1)
    mailbox.put(Letter("in", 1))
    mailbox.put(Letter("in", 2))
    mailbox.put(again)
    assert len(mailbox) == 2
    assert mailbox.take() is again


def test_nothing_can_be_taken_from_an_empty_mailbox() -> None:
    with pytest.raises(IndexError):
        Mailbox(Budget()).take()


def test_timers_go_first() -> None:
    mailbox = Mailbox(Budget())
    mailbox.put(Letter("act", 1))
    mailbox.put(Letter("in", 2))
    mailbox.put(Letter("act", 9), timer=True)
    mailbox.put(Letter("act", 8), timer=True)
    assert [each.sequence for each in mailbox] == [9, 8, 2, 1]
    assert taken(mailbox) == [("act", 9), ("act", 8), ("in", 2), ("act", 1)]


def test_of_many_waiting_letters_only_the_first_keep_their_bodies() -> None:
    mailbox = Mailbox(Budget())
    letters = [Letter("in", number) for number in range(module.BODIES_KEPT + 3)]
    for each in letters:
        mailbox.put(each)
    mailbox.put(Letter("act", 1))
    assert [each.sequence for each in letters if not each.body] == [64, 65, 66]
    assert all(each.body for each in mailbox if each.box == "act")


def test_what_lies_up_to_a_position_can_be_dropped() -> None:
    mailbox = Mailbox(Budget())
    for sequence in (1, 2, 3):
        mailbox.put(Letter("in", sequence))
    mailbox.put(Letter("act", 5))
    mailbox.put(Letter("act", 6), timer=True)
    assert (mailbox.last("in"), mailbox.last("act")) == (3, 5)
    dropped = mailbox.drop_until({"in": 2, "act": 6})
    assert sorted((each.box, each.sequence) for each in dropped) == [("act", 5), ("act", 6), ("in", 1), ("in", 2)]
    assert taken(mailbox) == [("in", 3)]
    assert mailbox.last("in") == 0


@pytest.mark.asyncio
async def test_asks_of_the_process_have_a_lane_of_their_own_that_starves_nobody() -> None:
    mailbox = Mailbox(Budget())
    for sequence in (1, 2):
        mailbox.put(Letter("in", sequence))
        mailbox.put(Letter("act", sequence))
    for name in "abc":
        mailbox.put_direct(direct(name), Address("k", "a"))
    assert len(mailbox) == 7
    assert taken(mailbox) == [("in", 1), ("act", 1), "a", ("in", 2), ("act", 2), "b", "c"]


@pytest.mark.asyncio
async def test_so_many_asks_of_the_process_may_wait_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DIRECT_MAX", 2)
    mailbox = Mailbox(Budget())
    first = direct("a")
    mailbox.put_direct(first, Address("k", "a"))
    mailbox.put_direct(direct("b"), Address("k", "a"))
    with pytest.raises(MailboxFull, match="k/a"):
        mailbox.put_direct(direct("c"), Address("k", "a"))
    assert mailbox.take() is first
    mailbox.put_back(first)
    mailbox.put(Letter("in", 1))
    assert [each.letter.id for each in mailbox.clear()] == ["a", "b"]
    assert len(mailbox) == 0


@pytest.mark.asyncio
async def test_an_ask_is_answered_once() -> None:
    asked = direct("a")
    asked.settle(Outcome())
    asked.settle(None)
    assert await asked.answer == Outcome()


def test_beyond_a_budget_of_bytes_bodies_are_not_kept_and_what_leaves_makes_room() -> None:
    budget = Budget(3)
    one, other = Mailbox(budget), Mailbox(budget)
    letters = [Letter("in", number) for number in range(1, 5)]
    for number, each in enumerate(letters):
        (one, other)[number % 2].put(each)
    assert [each.body for each in letters] == [b"x", b"x", b"x", b""]
    assert one.take() is letters[0]
    one.put(again := Letter("in", 3))
    assert (budget.used_bytes, again.body) == (2, b"x"), "it took the place of the one before"
    other.put(Letter("act", 9), timer=True)
    assert budget.used_bytes == 3
    assert one.clear() == other.clear() == []
    assert budget.used_bytes == 0
    assert not one
    assert not other
