import asyncio
import os

import pytest
from structlog.testing import capture_logs

from regrow.workers.output import LINES_MAX, Lines, Output, Quota


def test_lines_are_whole_however_they_arrive() -> None:
    lines = Lines()
    assert [each for piece in (b"on", b"e\r\ntwo\nth", b"ree") for each in lines.feed(piece)] == ["one", "two"]
    assert lines.rest() == ["three"]
    assert lines.rest() == []


def test_of_a_long_line_the_rest_is_left_out_and_counted() -> None:
    lines = Lines(bytes_max=4)
    assert lines.feed(b"abc") == []
    assert lines.feed(b"defg") == []
    assert lines.feed(b"h\nij\n") == ["abcd", "ij"]
    assert lines.cut_bytes == 4


def test_a_quota_is_for_each_stretch_of_time() -> None:
    quota = Quota(limit=2, per_s=1.0)
    assert [quota.admits(now) for now in (10.0, 10.1, 10.2, 11.0, 11.1, 11.2)] == [True, True, False] * 2


@pytest.mark.asyncio
async def test_a_flood_is_dropped_counted_and_said_but_every_line_is_seen() -> None:
    read, written = os.pipe()
    seen: list[str] = []
    with capture_logs() as logs:
        output = Output("worker", "stdout", read, seen.append)
        os.write(written, b"line\n" * (LINES_MAX + 50))
        os.close(written)
        output.close()
    assert len(seen) == LINES_MAX + 50
    assert len([each for each in logs if each["event"] == "child_output"]) == LINES_MAX
    (dropped,) = [each for each in logs if each["event"] == "child_output_dropped"]
    assert (dropped["child"], dropped["lines"]) == ("worker", 50)


@pytest.mark.asyncio
async def test_a_line_that_was_cut_is_said_at_the_end() -> None:
    read, written = os.pipe()
    ended = asyncio.Event()
    with capture_logs() as logs:
        output = Output("worker", "stderr", read, lambda line: ended.set())
        os.write(written, b"x" * 9000)
        os.close(written)
        await ended.wait()
        output.close()
    assert logs[-1] == {
        "event": "child_lines_cut",
        "child": "worker",
        "stream": "stderr",
        "cut_bytes": 9000 - 8192,
        "log_level": "warning",
    }
