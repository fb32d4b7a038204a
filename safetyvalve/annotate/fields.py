"""Fields that several forms and addresses of the app have."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Form, Path, Query

__all__ = ["CLIENT_ID", "KEY", "Csrf", "Key", "Notice", "Number"]

KEY = "^[0-9a-f]{32}$"
"""Pattern of the server's ids."""
CLIENT_ID = "^[0-9a-f-]{32,36}$"
"""Pattern of ids that a client makes, so that what it sends twice is stored once."""

Key = Annotated[str, Path(pattern=KEY)]
Number = Annotated[int, Path(ge=1, le=2**31)]
Csrf = Annotated[str, Form()]
Notice = Annotated[Literal["", "changed", "added", "erased"], Query()]
