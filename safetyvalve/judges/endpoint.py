"""A language model behind any OpenAI-compatible chat endpoint as a judge."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

import httpx2

from safetyvalve.errors import JudgeError, UsageError, shorten
from safetyvalve.judges.address import Address
from safetyvalve.judges.parsing import parse_reply
from safetyvalve.judges.prompts import TEMPLATES, Language, render
from safetyvalve.judges.protocol import Failure, Opinion, Question, now
from safetyvalve.judges.retry import PASSING, RetryPolicy, retry_after
from safetyvalve.stats.verdicts import RaterKind

__all__ = ["EndpointJudge", "is_same_model"]

_VERSION = re.compile(r"[-@:](latest|main|\d{4}(-?\d\d){0,2}|[0-9a-f]{7,40})")


class _Refused(Exception):  # noqa: N818 - carries the wait that the server asked for
    """An attempt that failed in a way that may pass."""

    def __init__(self, reason: str, asked: float | None = None) -> None:
        self.asked = asked
        super().__init__(reason)


class EndpointJudge:
    """Asks ``POST {url}/chat/completions``.

    Args:
        model: the name to ask for.
        address: where, and the key.
        language: of the prompt.
        temperature: of sampling; 0 is greedy.
        max_tokens: bound of a reply.
        body: fields of the request to add or replace; None removes one.
        resolves_to: the name the server is expected to answer under; by default the name asked for, with or without a
            version after it.
        concurrency: most requests at a time.
        timeout: seconds without a byte of a reply until an attempt is given up.
        retry: when to ask again.
        transport: replaces the network, for tests.

    Raises:
        UsageError: an argument out of range.
    """

    kind: RaterKind = "judge"
    both_orders = True
    cacheable = True

    def __init__(
        self,
        model: str,
        address: Address,
        *,
        language: Language = "en",
        temperature: float = 0.0,
        max_tokens: int = 512,
        body: Mapping[str, Any] | None = None,
        resolves_to: str | None = None,
        concurrency: int = 4,
        timeout: float = 120.0,
        retry: RetryPolicy | None = None,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        for option, value in (("concurrency", concurrency), ("max-tokens", max_tokens)):
            if value < 1:
                raise UsageError(f"--{option} is {value}; at least 1 is accepted.")
        if not timeout > 0 or not temperature >= 0:
            raise UsageError(
                f"--timeout is {timeout} and --temperature {temperature}; above 0 and at least 0 are accepted."
            )
        self.name, self.address, self.language, self.resolves_to = model, address, language, resolves_to
        self.template, self.concurrency, self.max_tokens = TEMPLATES[language], concurrency, max_tokens
        self.timeout, self.retry, self.transport = timeout, (retry or RetryPolicy()).checked(), transport
        fields = {"model": model, "temperature": temperature, "max_tokens": max_tokens, "stream": False, **(body or {})}
        if taken := {"messages", "model"} & (body or {}).keys():
            raise UsageError(f"--body sets {', '.join(sorted(taken))}, which the judge sets itself; leave it out.")
        if fields["stream"]:
            raise UsageError("--body asks for a stream; replies are read whole. Leave it out.")
        self.body = {k: v for k, v in fields.items() if v is not None}
        self._stop = threading.Event()

    @property
    def settings(self) -> Mapping[str, Any]:
        return {
            "judge": "endpoint",
            "url": self.address.url,
            "body": self.body,
            "language": self.language,
            "template_sha256": self.template.sha256,
        }

    def opinions(self, questions: Sequence[Question]) -> Iterator[tuple[int, Opinion | Failure]]:
        """As the protocol says. The first question goes alone: a wrong key, name or address costs one request."""
        waiting = iter(range(len(questions)))
        running: dict[Future[Opinion | Failure], int] = {}
        self._stop.clear()
        width = 1
        with self._client() as client, ThreadPoolExecutor(self.concurrency, "judge") as pool:
            try:
                while True:
                    while len(running) < width and (index := next(waiting, None)) is not None:
                        running[pool.submit(self._ask, client, questions[index])] = index
                    if not running:
                        return
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        index = running.pop(future)
                        opinion = future.result()
                        if isinstance(opinion, Opinion):
                            width = self.concurrency
                        yield index, opinion
            finally:
                self._stop.set()
                for future in running:
                    future.cancel()

    def _client(self) -> httpx2.Client:
        return httpx2.Client(
            headers=self.address.headers,
            timeout=httpx2.Timeout(self.timeout, connect=min(self.timeout, 20.0)),
            limits=httpx2.Limits(max_connections=self.concurrency, max_keepalive_connections=self.concurrency),
            # A proxy of the environment cannot reach this machine's own servers.
            trust_env=not self.address.is_loopback,
            transport=self.transport,
        )

    def _ask(self, client: httpx2.Client, question: Question) -> Opinion | Failure:
        """One question with its further attempts.

        Raises:
            JudgeError: asking any question would fail.
        """
        body = {**self.body, "messages": [{"role": "user", "content": render(question, self.template)}]}
        failures = 0
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                answer = self._attempt(client, body)
                return answer if isinstance(answer, Failure) else self._opinion(answer, time.monotonic() - started)
            except _Refused as refused:
                failures += 1
                if failures >= self.retry.attempts:
                    return Failure(f"{refused} ({failures} attempts)")
                self._stop.wait(self.retry.wait(failures, refused.asked))
        return Failure("stopped")

    def _attempt(self, client: httpx2.Client, body: Mapping[str, Any]) -> dict[str, Any] | Failure:
        try:
            response = client.post(self.address.chat_url, json=body)
        except httpx2.TimeoutException as error:
            raise _Refused(f"timed out: {type(error).__name__}, limit {self.timeout:g} s") from None
        except httpx2.TransportError as error:
            raise _Refused(f"cannot be reached: {self.address.redact(str(error)) or type(error).__name__}") from None
        if response.status_code == 200:
            return self._checked(response)
        message = self._message(response)
        where = f"judge {self.address.url}"
        if response.status_code in (401, 403):
            raise JudgeError(
                f"{where} refuses the key (HTTP {response.status_code}: {message}). Put a valid one into the "
                f"environment variable {self.address.key_variable}."
            )
        if response.status_code == 404 or response.is_redirect:
            raise JudgeError(
                f"{where} has no model {shorten(self.name)} or no chat endpoint (HTTP {response.status_code}: "
                f"{message}). Check --model and --url, which mostly ends in /v1."
            )
        if "insufficient_quota" in response.text:
            raise JudgeError(f"{where} says that the account's quota is used up ({message}). What is done is kept.")
        if response.status_code in PASSING:
            raise _Refused(f"HTTP {response.status_code}: {message}", retry_after(response.headers))
        return Failure(f"HTTP {response.status_code}: {message}")

    def _checked(self, response: httpx2.Response) -> dict[str, Any]:
        """The reply's fields that are used, of the right types; a proxy's page or a cut reply may pass."""
        try:
            reply = response.json()
            choice = reply["choices"][0]
            message = choice["message"]
            content, finish, refusal = message.get("content"), choice.get("finish_reason"), message.get("refusal")
            if not all(isinstance(x, str | None) for x in (content, finish, refusal)):
                raise TypeError("content, finish_reason and refusal are texts")
            usage = reply.get("usage") or {}
            tokens = [n if isinstance(n := usage.get(k), int) else None for k in ("prompt_tokens", "completion_tokens")]
            named = reply.get("model")
        except (ValueError, LookupError, TypeError, AttributeError):
            raise _Refused(f"the reply is no chat completion: {self._message(response)}") from None
        return {"content": content, "finish": finish, "refusal": refusal, "tokens": tokens, "model": named}

    def _opinion(self, reply: Mapping[str, Any], seconds: float) -> Opinion:
        parsed = parse_reply(reply["content"], finish_reason=reply["finish"], refusal=reply["refusal"])
        return Opinion(
            choice=parsed.choice,
            cause=parsed.cause,
            model=self._resolved(reply["model"]),
            reply=reply["content"] if reply["content"] is not None else reply["refusal"],
            prompt_tokens=reply["tokens"][0],
            completion_tokens=reply["tokens"][1],
            time=now(),
            seconds=round(seconds, 3),
        )

    def _resolved(self, named: object) -> str:
        if named in (None, "") and self.resolves_to:
            return self.resolves_to
        if not isinstance(named, str) or not named:
            raise JudgeError(
                f"judge {self.address.url} does not say which model answered (it says {shorten(named)}). If you know "
                "it, name it with --resolves-to."
            )
        if not (named == self.resolves_to if self.resolves_to else is_same_model(self.name, named)):
            raise JudgeError(
                f"judge {self.address.url} answered as {shorten(named)}; {shorten(self.resolves_to or self.name)} "
                f"was asked for. If that is the model you want, pass --resolves-to {named!r}."
            )
        return named

    def _message(self, response: httpx2.Response) -> str:
        """What the server says of an error, without the key if it repeats it."""
        text = response.text
        try:
            error = json.loads(text)
            for field in ("error", "message", "detail"):
                error = error.get(field, error) if isinstance(error, dict) else error
            text = error if isinstance(error, str) else json.dumps(error, ensure_ascii=False)
        except ValueError:
            pass
        return shorten(" ".join(self.address.redact(text).split()), 200)


def is_same_model(asked: str, named: str) -> bool:
    """Whether a server's name is the one asked for, or that with a version: a date, ``main``, ``latest``, a commit."""
    return named == asked or (named.startswith(asked) and _VERSION.fullmatch(named[len(asked) :]) is not None)
