"""Whether the Hugging Face hub answers, asked before its libraries are, which try for half a minute a file."""

from __future__ import annotations

import os
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["cache_only_without_hub", "endpoint", "hub_is_off", "why_unreachable"]

TRIES = 2
"""A lost packet is not an absent network."""


def endpoint() -> str:
    """The hub's address: HF_ENDPOINT, or its own."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co")


def hub_is_off() -> bool:
    """Whether HF_HUB_OFFLINE says that it is not to be asked."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def why_unreachable(seconds: float = 3.0) -> str | None:
    """Send one small request.

    Args:
        seconds: to wait for an answer, whatever it is.

    Returns:
        None where the hub answers, also that a page is not there; otherwise what happened, to stand after its address.
    """
    answers: list[str | None] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(endpoint(), method="HEAD"), timeout=seconds).close()
            answers.append(None)
        except urllib.error.HTTPError as error:  # 407: a proxy that wants a login
            answers.append(f"answers with status {error.code}" if error.code >= 500 or error.code == 407 else None)
        except (OSError, ValueError) as error:
            answers.append(f"cannot be reached ({getattr(error, 'reason', None) or error})")

    # Looking up a name has no time-out of its own, so it is left behind in a thread.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds + 1)
    return answers[0] if answers else f"does not answer within {seconds + 1:g} s"


@contextmanager
def cache_only_without_hub() -> Iterator[str | None]:
    """Within it, if the hub cannot be reached, its libraries take what their caches hold, or fail at once.

    Yields:
        Why it cannot be reached; None where it can, or where HF_HUB_OFFLINE is set already.
    """
    why = None
    if not hub_is_off():
        for attempt in range(TRIES):
            time.sleep(attempt)
            if (why := why_unreachable()) is None:
                break
    if why is None:
        yield None
        return
    from huggingface_hub import constants

    # Both read the variable once, when they are imported, and this afterwards.
    readers: list[Any] = [m for m in (constants, sys.modules.get("datasets.config")) if m is not None]
    before = [m.HF_HUB_OFFLINE for m in readers]
    for module in readers:
        module.HF_HUB_OFFLINE = True
    try:
        yield f"{endpoint()} {why}"
    finally:
        for module, value in zip(readers, before, strict=True):
            module.HF_HUB_OFFLINE = value
