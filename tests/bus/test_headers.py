"""Headers: one fence that never fails open, and no orders to the server in mail."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from regrow.bus import headers

NAMES = st.from_regex(r"[A-Z][A-Za-z-]{0,15}", fullmatch=True)
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FFF, exclude_categories=["Z", "C"]), max_size=20)


@given(st.integers(min_value=0))
def test_a_fence_names_the_sequence_under_the_servers_own_spelling(after: int) -> None:
    assert headers.fence(after) == {"Nats-Expected-Last-Subject-Sequence": str(after)}


def test_a_fenced_rollup_replaces_the_subject_only() -> None:
    assert headers.fence(7, rollup=True) == {"Nats-Expected-Last-Subject-Sequence": "7", "Nats-Rollup": "sub"}


@given(st.integers(max_value=-1))
def test_a_fence_below_zero_is_refused_because_the_server_would_ignore_it(after: int) -> None:
    with pytest.raises(ValueError, match="0 or more"):
        headers.fence(after)
    with pytest.raises(ValueError, match="0 or more"):
        headers.fence_on_wire(after)


@pytest.mark.parametrize("after", [0, 7, 2**62])
def test_the_fence_on_the_wire_is_the_fence(after: int) -> None:
    head = headers.fence_on_wire(after)
    assert head == f"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: {after}\r\n\r\n".encode()
    assert len(head) == headers.size(headers.fence(after))


def test_no_headers_take_no_bytes() -> None:
    assert headers.size(None) == headers.size({}) == 0


@pytest.mark.asyncio
@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=5))
async def test_the_size_is_what_goes_over_the_wire(given: dict[str, str]) -> None:
    sent: list[bytes] = []

    class Wire(Client):
        async def _send_command(self, cmd: bytes, priority: bool = False) -> None:
            sent.append(cmd)

    await Wire()._send_publish("s", "", b"", 0, given)  # pyright: ignore[reportPrivateUsage] # the writer itself
    assert int(sent[0].split()[2]) == headers.size(given)


def test_mail_keeps_its_headers_and_takes_an_id_for_the_runtimes_mailbox() -> None:
    assert headers.letter("in", None, None) == {}
    assert headers.letter("act", {"Rg-Id": "7"}, "e.1.2.0") == {"Rg-Id": "7", "Nats-Msg-Id": "e.1.2.0"}


@pytest.mark.parametrize("name", ["Nats-Rollup", "nats-msg-id", "Nats-Schedule", "NATS-TTL"])
def test_mail_carries_no_orders_to_the_server(name: str) -> None:
    with pytest.raises(ValueError, match="order to the server"):
        headers.letter("act", {name: "all"}, None)


@pytest.mark.parametrize("name", ["", "Rg: Note", "Rg-Note\r\nNats-Rollup", "Rg\n", "Rg Note", "Größe"])
def test_mail_has_no_header_whose_name_is_none_on_the_wire(name: str) -> None:
    with pytest.raises(ValueError, match="is no header name"):
        headers.letter("act", {name: "all"}, None)


def test_the_outside_mailbox_takes_no_message_id() -> None:
    with pytest.raises(ValueError, match="Rg-Id"):
        headers.letter("in", {}, "guessed")
