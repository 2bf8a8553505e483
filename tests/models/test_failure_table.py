"""From what the real SDKs raise, against a server on the loopback that misbehaves, to the kind of failure and what is done."""

import asyncio
import email.utils
import json
import socket
import ssl
import struct
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import anthropic
import httpx
import httpx2
import openai
import pytest

from regrow.actors import GiveUp, Repair, Repeat, RollBack, Wait, action_of, classify

RESET = b"reset"
SILENCE = b"silence"
JSON = "application/json"
EVENTS = "text/event-stream"
HTML = "text/html"


def answer(status: int, body: str, kind: str = JSON, **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Said", f"content-type: {kind}", f"content-length: {len(body.encode())}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", body]).encode()


def error(status: int, code: str = "x", **headers: str) -> bytes:
    """As OpenAI and Anthropic write it."""
    said = {"type": "error", "error": {"type": code, "code": code, "message": "no"}}
    return answer(status, json.dumps(said), **headers)


def in_a_minute() -> str:
    return email.utils.formatdate(time.time() + 60, usegmt=True)


def spent() -> bytes:
    details = {"error_code": "contract_spend_limit_reached"}
    return answer(429, json.dumps({"error": {"type": "rate_limit_error", "message": "no", "details": details}}))


STREAM_ERROR = 'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"busy"}}\n\n'
CUT_BODY = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"id":'
CUT_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n5\r\ndata:"

PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Nothing here is encrypted, and to load the certificates for each client takes longer than all the rest."""

CLIENTS = ("openai", "anthropic", "httpx", "httpx2")


class Row(NamedTuple):
    fault: str
    answer: bytes
    raised: str
    """Exception classes in the order of ``CLIENTS``; ``-`` where the SDK raises nothing."""
    kinds: str
    """One for all clients, or one of each."""
    action: type
    """Of the first kind."""
    after_s: float | None = None


HTTP = "HTTPStatusError HTTPStatusError"
ROWS = (
    Row("429, seconds", error(429, retry_after="7"), f"RateLimitError RateLimitError {HTTP}", "throttled", Wait, 7.0),
    Row(
        "429, a date",
        error(429, retry_after=in_a_minute()),
        f"RateLimitError RateLimitError {HTTP}",
        "throttled",
        Wait,
        60.0,
    ),
    Row(
        "429, milliseconds",
        error(429, retry_after_ms="1500", retry_after="7"),
        f"RateLimitError RateLimitError {HTTP}",
        "throttled",
        Wait,
        1.5,
    ),
    Row(
        "429, a duration until the limit is full",
        error(429, x_ratelimit_remaining_requests="0", x_ratelimit_reset_requests="1m30s"),
        f"RateLimitError RateLimitError {HTTP}",
        "throttled",
        Wait,
        90.0,
    ),
    Row("429, nothing said", error(429), f"RateLimitError RateLimitError {HTTP}", "throttled", Wait),
    Row(
        "429, quota",
        error(429, "insufficient_quota", retry_after="1"),
        f"RateLimitError RateLimitError {HTTP}",
        "quota",
        GiveUp,
        1.0,
    ),
    Row("429, budget", spent(), f"RateLimitError ContractSpendLimitReachedError {HTTP}", "quota", GiveUp),
    Row("402", error(402, "billing_error"), f"APIStatusError PaymentRequiredError {HTTP}", "quota", GiveUp),
    Row("529", error(529, "overloaded_error"), f"InternalServerError OverloadedError {HTTP}", "throttled", Wait),
    Row("500", error(500, "api_error"), f"InternalServerError InternalServerError {HTTP}", "network", Repeat),
    Row(
        "502, a proxy's page",
        answer(502, "<p>", HTML),
        f"InternalServerError InternalServerError {HTTP}",
        "network",
        Repeat,
    ),
    Row("503", error(503), f"InternalServerError ServiceUnavailableError {HTTP}", "network", Repeat),
    Row(
        "503, seconds",
        error(503, retry_after="3"),
        f"InternalServerError ServiceUnavailableError {HTTP}",
        "throttled",
        Wait,
        3.0,
    ),
    Row("408", error(408), f"APIStatusError RequestTimeoutError {HTTP}", "network", Repeat),
    Row("409", error(409), f"ConflictError ConflictError {HTTP}", "network network rejected rejected", Repeat),
    Row("400", error(400, "invalid_request_error"), f"BadRequestError BadRequestError {HTTP}", "rejected", GiveUp),
    Row(
        "400, too long",
        error(400, "context_length_exceeded"),
        f"BadRequestError BadRequestError {HTTP}",
        "corrupt_context",
        RollBack,
    ),
    Row(
        "401", error(401, "authentication_error"), f"AuthenticationError AuthenticationError {HTTP}", "rejected", GiveUp
    ),
    Row(
        "403", error(403, "permission_error"), f"PermissionDeniedError PermissionDeniedError {HTTP}", "rejected", GiveUp
    ),
    Row("404", error(404, "not_found_error"), f"NotFoundError NotFoundError {HTTP}", "rejected", GiveUp),
    Row(
        "413",
        answer(413, "<p>", HTML),
        f"APIStatusError ContentTooLargeError {HTTP}",
        "corrupt_context corrupt_context rejected rejected",
        RollBack,
    ),
    Row("422", error(422), f"UnprocessableEntityError UnprocessableEntityError {HTTP}", "rejected", GiveUp),
    Row("501", error(501), f"InternalServerError HTTPNotImplementedError {HTTP}", "rejected", GiveUp),
    Row("a reset", RESET, "APIConnectionError APIConnectionError ReadError ReadError", "network", Repeat),
    Row("silence", SILENCE, "APITimeoutError APITimeoutError ReadTimeout ReadTimeout", "network", Repeat),
    Row(
        "hung up",
        b"",
        "APIConnectionError APIConnectionError RemoteProtocolError RemoteProtocolError",
        "network",
        Repeat,
    ),
    Row(
        "half a body",
        CUT_BODY,
        "APIConnectionError APIConnectionError RemoteProtocolError RemoteProtocolError",
        "network",
        Repeat,
    ),
    Row("a page in place of JSON", answer(200, "<p>", HTML), "- - JSONDecodeError JSONDecodeError", "semantic", Repair),
    Row(
        "half of some JSON",
        answer(200, '{"id": '),
        "JSONDecodeError JSONDecodeError JSONDecodeError JSONDecodeError",
        "semantic",
        Repair,
    ),
    Row(
        "a stream that is cut",
        CUT_STREAM,
        "APIConnectionError RemoteProtocolError RemoteProtocolError RemoteProtocolError",
        "network",
        Repeat,
    ),
    Row("an error in a stream", answer(200, STREAM_ERROR, EVENTS), "APIError APIStatusError - -", "throttled", Wait),
)


@asynccontextmanager
async def serving(said: bytes) -> AsyncGenerator[str]:
    """The address of a server that answers everything with these bytes, and hangs up."""

    served: list[asyncio.Task[Any] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(asyncio.current_task())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(head.partition("content-length:")[2].partition("\r\n")[0]))
        if said == RESET:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        elif said == SILENCE:
            await reader.read()
        else:
            writer.write(said)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await asyncio.gather(*(each for each in served if each is not None))


async def ask_openai(url: str, timeout_s: float, stream: bool) -> None:
    http = openai.DefaultAsyncHttpxClient(verify=PLAIN)
    async with openai.AsyncOpenAI(
        base_url=url, api_key="k", max_retries=0, timeout=timeout_s, http_client=http
    ) as client:
        said: Any = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "?"}], stream=stream
        )
        if stream:
            async for _ in said:
                pass


async def ask_anthropic(url: str, timeout_s: float, stream: bool) -> None:
    http = anthropic.DefaultAsyncHttpxClient(verify=PLAIN)
    async with anthropic.AsyncAnthropic(
        base_url=url, api_key="k", max_retries=0, timeout=timeout_s, http_client=http
    ) as client:
        said: Any = await client.messages.create(
            model="m", max_tokens=5, messages=[{"role": "user", "content": "?"}], stream=stream
        )
        if stream:
            async for _ in said:
                pass


async def ask_httpx(url: str, timeout_s: float, stream: bool) -> None:
    await ask_plainly(httpx.AsyncClient(timeout=timeout_s, verify=PLAIN), url, stream)


async def ask_httpx2(url: str, timeout_s: float, stream: bool) -> None:
    await ask_plainly(httpx2.AsyncClient(timeout=timeout_s, verify=PLAIN), url, stream)


async def ask_plainly(client: httpx.AsyncClient | httpx2.AsyncClient, url: str, stream: bool) -> None:
    async with client:
        said = await client.post(url, json={})
        said.raise_for_status()
        if not stream:
            said.json()


ASKS: dict[str, Callable[[str, float, bool], Awaitable[None]]] = {
    "openai": ask_openai,
    "anthropic": ask_anthropic,
    "httpx": ask_httpx,
    "httpx2": ask_httpx2,
}


@pytest.mark.asyncio
@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.fault)
async def test_what_an_sdk_raises_is_of_a_kind_and_the_kind_says_what_is_done(row: Row, client: str) -> None:
    place = CLIENTS.index(client)
    raised = row.raised.split()[place]
    kind = row.kinds.split()[place] if " " in row.kinds else row.kinds
    async with serving(row.answer) as url:
        asking = ASKS[client](url, 0.1 if row.answer == SILENCE else 30.0, "stream" in row.fault)
        if raised == "-":
            await asking  # what comes of it is the caller's to look at
            return
        with pytest.raises(Exception) as caught:  # which one is what is asked
            await asking
    found = classify(caught.value)
    assert (type(caught.value).__name__, found.kind) == (raised, kind)
    assert found.retry_after_s == (pytest.approx(row.after_s, abs=30) if row.after_s == 60 else row.after_s)
    if kind == row.kinds.split()[0]:
        assert type(action_of(kind)) is row.action


@pytest.mark.asyncio
@pytest.mark.parametrize("client", CLIENTS)
async def test_a_server_that_is_not_there_is_a_failure_of_the_network(client: str) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: it refuses
        with pytest.raises(Exception) as caught:
            await ASKS[client](f"http://127.0.0.1:{nobody.getsockname()[1]}", 30.0, False)
    assert classify(caught.value).kind == "network"


def test_an_sdk_without_its_key_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(openai.OpenAIError) as caught:
        openai.AsyncOpenAI()
    assert classify(caught.value).kind == "rejected"
