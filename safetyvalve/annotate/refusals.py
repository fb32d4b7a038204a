"""What the server answers when it does not do what was asked: a status and the key of a message."""

from __future__ import annotations

__all__ = ["Refusal"]


class Refusal(Exception):  # noqa: N818 - an answer to a person, not a fault of the program
    """Args:
    status: of the HTTP response.
    key: of the message, in both languages under ``refused.KEY``.
    """

    def __init__(self, status: int, key: str) -> None:
        self.status, self.key = status, key
        super().__init__(f"{status} {key}")
