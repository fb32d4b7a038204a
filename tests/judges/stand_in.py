"""A local HTTP server in the place of a model's, which answers as a test says and remembers what it was asked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple

from safetyvalve.data import Message
from safetyvalve.judges import Answer, Pair, pair_answers
from safetyvalve.judges.items import prompt_id


class Reply(NamedTuple):
    """An HTTP response after ``delay`` seconds."""

    body: Any
    status: int = 200
    headers: dict[str, str] = {}  # noqa: RUF012
    delay: float = 0.0


def chat(text: str | None, *, model: str = "judge-1", finish: str = "stop", **message: Any) -> dict[str, Any]:
    """The body of a chat completion."""
    return {
        "object": "chat.completion",
        "model": model,
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }


class StandIn:
    """``with StandIn(answer) as server``; ``answer`` gets the request's body and its number."""

    def __init__(self, answer: Callable[[dict[str, Any], int], Reply]) -> None:
        self.answer = answer
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.most_at_once = self._now = 0
        self._lock = threading.Lock()
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with stand_in._lock:
                    number = len(stand_in.requests)
                    stand_in.requests.append(body)
                    stand_in.headers.append({k.lower(): v for k, v in self.headers.items()} | {"path": self.path})
                    stand_in._now += 1
                    stand_in.most_at_once = max(stand_in.most_at_once, stand_in._now)
                try:
                    reply = stand_in.answer(body, number)
                    time.sleep(reply.delay)
                finally:
                    with stand_in._lock:
                        stand_in._now -= 1
                raw = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                try:
                    self.send_response(reply.status)
                    for name, value in reply.headers.items():
                        self.send_header(name, value)
                    self.send_header("content-length", str(len(raw)))
                    self.end_headers()
                    self.wfile.write(raw)
                except OSError:  # the client gave up, as some tests want
                    self.close_connection = True

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> StandIn:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()


def answer(model: str, text: str, prompt: str = "Name a colour.", sample: int = 0) -> Answer:
    turns = (Message(role="user", content=prompt),)
    return Answer(prompt_id(turns), turns, model, text, sample)


def some_pairs(n: int) -> tuple[Pair, ...]:
    """Answers of models ``good`` and ``bad`` to ``n`` prompts; good ones hold the word GOOD."""
    answers = [a for i in range(n) for a in (answer("good", f"GOOD {i}", f"p{i}"), answer("bad", f"BAD {i}", f"p{i}"))]
    return pair_answers(answers).pairs


def honest(body: dict[str, Any], number: int = 0) -> Reply:
    """Prefers the answer with the word GOOD, wherever it stands."""
    prompt = body["messages"][0]["content"]
    first = prompt.partition("<<<ANSWER 1")[2].partition("<<<END OF ANSWER 1")[0]
    return Reply(chat(f"It is better.\nVERDICT: {1 if 'GOOD' in first else 2}"))
