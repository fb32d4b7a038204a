"""Text that others wrote, made harmless: escaped, and with nothing invisible that changes how it is read."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

__all__ = ["cut_to", "one_line", "visible"]

# Controls except tab and newline, direction overrides and isolates, and halves of surrogate pairs, which UTF-8 cannot
# hold. Joiners and direction marks stay: Persian, Hebrew and emoji need them, and they reach no further than a letter.
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028\u2029\u2066-\u2069\ufeff\ud800-\udfff]")

LIMIT = 4000
"""Characters of one answer that a page shows."""


def visible(value: object) -> Markup:
    """HTML of a text, with characters that cannot be seen shown as their code point."""
    text = str(value).replace("\r\n", "\n")
    parts, end = [], 0
    for found in _INVISIBLE.finditer(text):
        parts += [escape(text[end : found.start()]), Markup('<span class="code">U+{:04X}</span>').format(ord(found[0]))]
        end = found.end()
    return Markup("").join([*parts, escape(text[end:])])


def one_line(value: object) -> Markup:
    """:func:`visible`, with line breaks and tabs as signs."""
    return Markup(visible(value).replace("\n", "↵").replace("\t", "⇥"))


def cut_to(text: str, limit: int = LIMIT) -> tuple[str, int]:
    """The start of a text, and how many characters were left out."""
    return text[:limit], max(0, len(text) - limit)
