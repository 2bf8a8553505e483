"""A chat completions endpoint on the loopback: real HTTP, answers as the test says."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

Answer = Callable[[dict[str, Any]], tuple[int, dict[str, str], str]]


class Endpoint(ThreadingHTTPServer):
    request_queue_size = 128  # the library's 5 refuses connections that come all at once


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], str]]:
    """Starts an endpoint that answers each request's JSON with (status, headers, body); gives its base URL."""
    running: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def start(answer: Answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status, headers, text = answer({"path": self.path, **json.loads(body)})
                if status == 0:
                    return  # hang up without a word
                self.send_response(status)
                for name, value in {"content-type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 # the name is BaseHTTPRequestHandler's
                """Say nothing on standard error."""

        server = Endpoint(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        running.append((server, thread))
        return f"http://127.0.0.1:{server.server_address[1]}/v1"

    yield start
    for server, thread in running:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def said() -> Callable[..., str]:
    """Makes the body of a chat completion that says `content`."""

    def body(content: str | None, finish: str | None = "stop", **message: object) -> str:
        choice = {
            "index": 0,
            "finish_reason": finish,
            "message": {"role": "assistant", "content": content, **message},
        }
        usage = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
        return json.dumps(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 0,
                "model": "tiny-1",
                "choices": [choice],
                "usage": usage,
            }
        )

    return body


@pytest.fixture
def called() -> Callable[..., str]:
    """Makes the body of a message of Anthropic's that calls the tool with `arguments`, and says `text` before."""

    def body(arguments: object, stop: str | None = "tool_use", text: str = "", **used: int) -> str:
        content: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
        if arguments is not None:
            content.append({"type": "tool_use", "id": "toolu_1", "name": "count", "input": arguments})
        return json.dumps(
            {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": "tiny-1",
                "content": content,
                "stop_reason": stop,
                "stop_sequence": None,
                "usage": {"input_tokens": 12, "output_tokens": 3, **used},
            }
        )

    return body
