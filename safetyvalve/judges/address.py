"""Where a judge's server is, and its key, which stays in memory."""

from __future__ import annotations

import ipaddress
import os
from typing import NamedTuple
from urllib.parse import urlsplit

from safetyvalve.errors import UsageError, shorten

__all__ = ["Address", "find_address"]


class Address(NamedTuple):
    """An OpenAI-compatible server.

    Args:
        url: without ``/chat/completions``.
        key: sent as a bearer token; None sends none.
        key_variable: the environment variable that the key came from.
    """

    url: str
    key: str | None = None
    key_variable: str = "SAFETYVALVE_JUDGE_API_KEY"

    def __repr__(self) -> str:
        return f"Address({self.url!r})"

    @property
    def chat_url(self) -> str:
        return f"{self.url}/chat/completions"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    @property
    def is_loopback(self) -> bool:
        return _is_loopback(urlsplit(self.url).hostname or "")

    def redact(self, text: str) -> str:
        """The text with the key blacked out."""
        return text.replace(self.key, "[key]") if self.key else text


def find_address(
    url: str, *, key_variable: str = "SAFETYVALVE_JUDGE_API_KEY", allow_plain_http: bool = False
) -> Address:
    """Check a URL and take the key from the environment; without the variable no key is sent.

    Raises:
        UsageError: no HTTP URL, a URL with a password, or a key that would travel unencrypted.
    """
    parts = urlsplit(url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise UsageError(
            f"--url is {shorten(url)}; an http or https address is accepted, such as http://127.0.0.1:8000/v1."
        )
    if parts.username or parts.password:
        raise UsageError(
            f"--url has a user or password in it; put the key into the environment variable {key_variable}."
        )
    key = os.environ.get(key_variable, "").strip() or None
    if key and not (key.isascii() and key.isprintable()):
        raise UsageError(
            f"the key in {key_variable} has characters that no header can carry; check it for a stray line."
        )
    if key and parts.scheme == "http" and not (allow_plain_http or _is_loopback(parts.hostname)):
        raise UsageError(
            f"--url is {shorten(url)}: the key in {key_variable} would travel unencrypted. Use https, unset the "
            "variable, or pass --allow-plain-http in a network that you trust."
        )
    return Address(url.strip().rstrip("/").removesuffix("/chat/completions"), key, key_variable)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
