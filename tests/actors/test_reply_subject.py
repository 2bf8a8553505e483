"""Where a reply may go: the caller chose the subject, and the runtime may write anywhere."""

import pytest

from regrow.actors.wire import reply_subject


@pytest.mark.parametrize("subject", ["_INBOX.a", "_INBOX.abc.1", "_INBOX.x-y_z.1"])
def test_an_inbox_is_answered(subject: str) -> None:
    assert reply_subject(subject) == subject


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "rg.shop.evt.0.counter.a",
        "_INBOX.",
        "_INBOX.*",
        "_INBOX.>",
        "_INBOX.a b",
        "_INBOX.a..b",
        "_INBOX.a\r\nPUB x",
        "_INBOX.a\n",
    ],
)
def test_anything_else_is_not(subject: str) -> None:
    assert reply_subject(subject) == ""
