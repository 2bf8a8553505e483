"""The JetStream interface: refusals, servers without it, and calls made together."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from regrow.bus import StoreUnavailable, Undecodable, open_bus
from regrow.bus.api import STREAM_NOT_FOUND, ApiError, JetStreamApi, alone, together
from regrow.bus.replies import ReplyInbox
from regrow.bus.server import find_binary


@asynccontextmanager
async def plain_server(folder: Path) -> AsyncGenerator[str]:
    """The url of a server without JetStream."""
    process = await asyncio.create_subprocess_exec(
        str(find_binary()), "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", str(folder),
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        async with asyncio.timeout(10):
            async for line in process.stderr:
                if b"Listening for client connections on " in line:
                    yield f"nats://{line.split()[-1].decode()}"
                    break
    finally:
        process.terminate()
        await process.communicate()


@pytest.mark.asyncio
async def test_a_refusal_names_the_call_and_the_reason(client: Client) -> None:
    async with ReplyInbox(client) as replies:
        with pytest.raises(ApiError) as refused:
            await JetStreamApi(replies).call("STREAM.INFO.none")
    assert refused.value.refusal.err_code == STREAM_NOT_FOUND
    assert str(refused.value) == "the server refused STREAM.INFO.none: stream not found (10059)"


@pytest.mark.asyncio
async def test_a_server_without_jetstream_is_told_apart(tmp_path: Path) -> None:
    async with plain_server(tmp_path) as url:
        client = await nats.connect(url)
        with pytest.raises(StoreUnavailable, match="JetStream disabled"):
            async with open_bus(client, "a"):
                pass
        await client.close()


@pytest.mark.asyncio
async def test_an_answer_that_is_none_is_undecodable(client: Client) -> None:
    async def answer(message: Msg) -> None:
        await message.respond(b"[]")

    await client.subscribe("$JS.API.MADE.UP", cb=answer)
    async with ReplyInbox(client) as replies:
        with pytest.raises(Undecodable, match=r"answer to MADE\.UP"):
            await JetStreamApi(replies).call("MADE.UP")


@pytest.mark.asyncio
async def test_more_subjects_than_the_server_lists_at_once_are_listed(client: Client, app: str) -> None:
    async with ReplyInbox(client) as replies:
        api = JetStreamApi(replies)
        config = {"name": app, "subjects": [f"{app}.>"], "storage": "memory", "max_msgs_per_subject": 1}
        await api.call(f"STREAM.CREATE.{app}", config)
        for number in range(100_050):
            await client.publish(f"{app}.a.{number}", b"")
        await client.publish(f"{app}.b.0", b"")
        await client.request(f"{app}.b.1", b"", timeout=30)
        assert len(set(await api.subjects(app, f"{app}.a.*"))) == 100_050
        assert sorted(await api.subjects(app, f"{app}.b.*")) == [f"{app}.b.0", f"{app}.b.1"]
        assert await api.subjects(app, f"{app}.c.*") == []
        await api.call(f"STREAM.DELETE.{app}")


@pytest.mark.asyncio
async def test_calls_made_together_answer_in_their_order() -> None:
    async def give(value: int) -> int:
        await asyncio.sleep(0)
        return value

    assert await together(give(number) for number in range(5)) == [0, 1, 2, 3, 4]
    assert await together([]) == []


@pytest.mark.asyncio
async def test_when_one_call_fails_the_others_have_ended_before_anybody_hears_of_it() -> None:
    ended = asyncio.Event()
    cause = ValueError("why")

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def fail() -> None:
        raise KeyError("mine") from cause

    with pytest.raises(KeyError) as failed:
        await together([wait(), fail(), wait()])
    assert ended.is_set()
    assert failed.value.__cause__ is cause


@pytest.mark.asyncio
async def test_when_all_calls_fail_the_first_error_is_raised() -> None:
    async def fail(number: int) -> None:
        raise KeyError(number)

    with pytest.raises(KeyError, match="0"):
        await together(fail(number) for number in range(3))


def test_a_single_error_comes_out_of_its_group_and_several_stay_in_it() -> None:
    error = KeyError("mine")
    with pytest.raises(KeyError) as single, alone():
        raise ExceptionGroup("", [error])
    assert single.value is error
    assert error.__context__ is None
    with pytest.raises(ExceptionGroup) as several, alone():
        raise ExceptionGroup("", [error, ValueError()])
    assert len(several.value.exceptions) == 2
    with alone():
        pass
