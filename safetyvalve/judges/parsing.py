"""From what a language model wrote to a choice, or to the reason why there is none."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from safetyvalve.judges.protocol import Choice

__all__ = ["CAUSES", "Parsed", "parse_reply"]

CAUSES = ("refused", "cut off", "empty reply", "not parsable", "contradictory", "verdict not last")
"""Why a reply is no verdict."""

_WORDS: dict[str, Choice] = {
    "1": "first", "2": "second", "tie": "tie", "引き分け": "tie", "both bad": "both_bad", "両方不可": "both_bad",
}  # fmt: skip
_LINE = re.compile(
    r"[\s*_`#>]*(?:verdict|判定)[*_`]*\s*:[\s*_`]*(1|2|tie|引き分け|both[ _]bad|両方不可)[\s*_`.。]*", re.I
)


class Parsed(NamedTuple):
    choice: Choice
    cause: str | None = None


def parse_reply(text: str | None, *, finish_reason: str | None = None, refusal: str | None = None) -> Parsed:
    """Strict: the last line is a verdict in a form that was asked for, and no other line says something else.

    Full-width characters and Markdown around the verdict are accepted. Reasoning up to ``</think>`` is no part of the
    reply. Nothing is guessed from the prose.

    Args:
        text: the reply.
        finish_reason: as the server gave it; ``length`` and ``content_filter`` are no verdict.
        refusal: the server's own field for a refusal.
    """
    if refusal or finish_reason == "content_filter":
        return Parsed("none", "refused")
    if finish_reason == "length":
        return Parsed("none", "cut off")
    # Chat templates often open the thought themselves, so that the reply has only its end.
    body = (text or "").rpartition("</think>")[2]
    if body.lstrip().startswith("<think>"):
        body = ""
    lines = [unicodedata.normalize("NFKC", line) for line in body.splitlines() if line.strip()]
    if not lines:
        return Parsed("none", "empty reply")
    found = [_LINE.fullmatch(line) for line in lines]
    choices = {_WORDS[m[1].lower().replace("_", " ")] for m in found if m}
    if not choices:
        return Parsed("none", "not parsable")
    if len(choices) > 1:
        return Parsed("none", "contradictory")
    if found[-1] is None:
        return Parsed("none", "verdict not last")
    return Parsed(choices.pop())
