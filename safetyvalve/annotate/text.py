"""The pages' words, and which language a browser asks for."""

from __future__ import annotations

from typing import Any

from safetyvalve.annotate import text_en, text_ja

__all__ = ["GUIDELINES", "LANGUAGES", "Text", "preferred"]

LANGUAGES = {"en": text_en.MESSAGES, "ja": text_ja.MESSAGES}
GUIDELINES = {"en": text_en.GUIDELINE, "ja": text_ja.GUIDELINE}


class Text:
    """Messages of one language; called with a key and the values of its places."""

    def __init__(self, lang: str) -> None:
        self.lang, self._messages = lang, LANGUAGES[lang]

    def __call__(self, key: str, **values: Any) -> str:
        return self._messages[key].format(**values)


def preferred(header: str) -> str:
    """The language of an Accept-Language header that we have, by weight; English where there is none."""
    best, weight = "en", 0.0
    for part in header.split(","):
        tag, _, q = part.strip().partition(";q=")
        try:
            value = float(q) if q else 1.0
        except ValueError:
            continue
        lang = tag.strip().lower().partition("-")[0]
        if lang in LANGUAGES and weight < value <= 1:
            best, weight = lang, value
    return best
