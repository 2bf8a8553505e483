"""The bus's errors keep their data, and each says in one sentence what to do."""

import copy
import pickle
from pathlib import Path

import pytest

from regrow.bus import errors
from regrow.bus.errors import BusError

EVERY = [
    errors.AccessDenied(),
    errors.AccessDenied("a.b"),
    errors.AddressUnusable("context 'x'", "it does not exist"),
    errors.ClaimMissing("record 3 of counter/a", "e3b0c442"),
    errors.ConnectionLost("maximum payload violation"),
    errors.DiskFull(),
    errors.DiskFull(Path("/s")),
    errors.MailboxFull("a.b"),
    errors.NoResponder("a.b"),
    errors.PayloadTooLarge(9, limit=8),
    errors.PortInUse(4222),
    errors.ReadBroken("a.b"),
    errors.RequestTimeout(),
    errors.RequestTimeout("a.b", timeout_s=0.5),
    errors.ServerFailed("it exited with code 1"),
    errors.ServerMissing(),
    errors.ServerTooOld("2.9.0", needed="2.14.3"),
    errors.StaleWriter(5),
    errors.StaleWriter(expected=5, found=7),
    errors.StoreBusy(Path("/s"), None),
    errors.StoreBusy(Path("/s"), pid=12),
    errors.StoreFull("a.b"),
    errors.StoreNotWritable(Path("/s")),
    errors.StoreUnavailable("stream X is missing"),
    errors.Undecodable("a record", why="it is empty"),
    errors.Unreachable(url="nats://a:1"),
]


def test_every_error_is_shown_here() -> None:
    own = {each for each in BusError.__subclasses__() if each.__module__ == errors.__name__}
    assert own == {type(error) for error in EVERY}


@pytest.mark.parametrize("error", EVERY, ids=repr)
def test_error_survives_copying_and_pickling(error: BusError) -> None:
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(twin) is type(error)
        assert vars(twin) == vars(error)
        assert str(twin) == str(error)


@pytest.mark.parametrize("error", EVERY, ids=repr)
def test_message_is_one_sentence_with_the_data_in_it(error: BusError) -> None:
    text = str(error)
    assert text[0].islower() or text.startswith("nats")
    assert not text.endswith(".")
    assert "\n" not in text
    assert all(str(value) in text for value in vars(error).values() if isinstance(value, str | Path | int))


def test_last_words_of_a_server_follow_the_sentence() -> None:
    assert str(errors.ServerFailed("it exited", ("one", "two"))).splitlines()[1:] == ["  one", "  two"]


def test_builtin_errors_catch_what_they_name() -> None:
    assert isinstance(errors.Unreachable("x"), ConnectionError)
    assert isinstance(errors.ConnectionLost("x"), ConnectionError)
    assert isinstance(errors.RequestTimeout("x"), TimeoutError)
