"""What every request passes before a page sees it, and what every answer carries: host, origin, headers."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from safetyvalve.errors import UsageError

__all__ = ["Address", "Guard", "is_loopback"]

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not no-referrer: browsers would then send "Origin: null" with our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "X-Robots-Tag": "noindex",
}
_SAFE = ("GET", "HEAD", "OPTIONS")


class Address(NamedTuple):
    """Where people reach the server: scheme and host, with the port unless it is the scheme's own."""

    scheme: str
    netloc: str

    @classmethod
    def of(cls, public_url: str) -> Address:
        """Read a URL such as ``https://judge.example.org``.

        Raises:
            UsageError: no http(s) URL, a path in it, or http beyond this machine, where cookies could be read.
        """
        parts = urlsplit(public_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/") or parts.query:
            raise UsageError(f"--public-url is '{public_url}'; accepted: https://HOST or https://HOST:PORT, no path.")
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise UsageError(
                f"--public-url is '{public_url}'; beyond this machine https is needed, or anybody on the way could "
                "take an annotator's place. Put a proxy with TLS in front, or reach the server through an SSH tunnel."
            )
        return cls(parts.scheme, parts.netloc.lower())

    @property
    def names(self) -> tuple[str, ...]:
        """Hosts to answer to: the address, and where that is this machine, its other names."""
        parts = urlsplit(f"//{self.netloc}")
        if not is_loopback(parts.hostname or ""):
            return (self.netloc,)
        port = f":{parts.port}" if parts.port else ""
        return (self.netloc, f"localhost{port}", f"127.0.0.1{port}", f"[::1]{port}")

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{self.netloc}"

    @property
    def is_secure(self) -> bool:
        return self.scheme == "https"


def is_loopback(host: str) -> bool:
    """Whether a name or address means this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """ASGI middleware.

    A request whose Host is not the server's address is refused (a rebound DNS name would otherwise read pages), and
    so is one that changes something with another Origin.

    Args:
        app: what comes after.
        address: of the server.
    """

    def __init__(self, app: ASGIApp, *, address: Address) -> None:
        self.app, self.address = app, address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                if self.address.is_secure:
                    headers["Strict-Transport-Security"] = "max-age=31536000"
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(scope["method"], Headers(scope=scope))
        if refusal:
            await PlainTextResponse(refusal[1] + "\n", refusal[0])(scope, receive, dressed)
            return
        await self.app(scope, receive, dressed)

    def _refusal(self, method: str, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "").lower()
        if host not in self.address.names:
            return 421, "This server does not answer under that name."
        if method in _SAFE:
            return None
        origin = headers.get("origin")
        if origin is not None and origin.lower() != f"{self.address.scheme}://{host}":
            return 403, "The request came from another site."
        if origin is None and headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403, "The request came from another site."
        return None
