"""The page's words: one message table a language, and how numbers are written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from safetyvalve.errors import UsageError
from safetyvalve.report.text_en import MESSAGES as ENGLISH
from safetyvalve.report.text_ja import MESSAGES as JAPANESE
from safetyvalve.stats import Interval

__all__ = ["LANGUAGES", "Text", "decimals_for", "fixed", "signed", "tidy"]

LANGUAGES = {"en": ENGLISH, "ja": JAPANESE}


class Text:
    """Messages of one language.

    Args:
        lang: a key of :data:`LANGUAGES`.

    Raises:
        UsageError: a language that there is none of.
    """

    def __init__(self, lang: str) -> None:
        if lang not in LANGUAGES:
            raise UsageError(f"lang is '{lang}'; accepted: {', '.join(LANGUAGES)}.")
        self.lang = lang
        self._messages = LANGUAGES[lang]

    def __call__(self, key: str, **values: Any) -> str:
        """The message of a key, with its places filled."""
        return self._messages[key].format(**values)

    def has(self, key: str) -> bool:
        return key in self._messages

    def join(self, items: Sequence[str]) -> str:
        """``a, b and c``, as the language writes it."""
        if len(items) < 2:
            return "".join(items)
        return self("list.last", items=self("list.comma").join(items[:-1]), last=items[-1])

    def span(self, interval: Interval, places: int) -> str:
        """The bounds of an interval."""
        if not math.isfinite(interval.low):
            return self("interval.none")
        return self("interval.span", low=fixed(interval.low, places), high=fixed(interval.high, places))


def decimals_for(interval: Interval) -> int:
    """Decimals worth writing: one or two digits of the interval's half width, more where a bound would round to 0."""
    half = (interval.high - interval.low) / 2
    if not math.isfinite(half):
        return 2
    if half == 0:
        return 2
    places = min(4, max(2 if half < 1 else 0, round(1 - math.log10(half))))
    for bound in (interval.low, interval.high):
        while places < 4 and bound and not float(f"{bound:.{places}f}"):
            places += 1
    return places


def fixed(value: float, places: int) -> str:
    """A number with a true minus sign and never a negative zero."""
    text = f"{value:,.{places}f}"
    if not float(text.replace(",", "")):
        text = text.lstrip("-")
    return text.replace("-", "−")


def signed(value: float, places: int) -> str:
    """:func:`fixed` with a plus sign on what is above 0."""
    text = fixed(value, places)
    return text if text.startswith("−") or not float(text.replace(",", "")) else "+" + text


def tidy(value: float) -> str:
    """A number to three significant digits, whole from 100 up."""
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if size < -4:
        return f"{value:.2e}".replace("-", "−")
    return fixed(value, max(0, 2 - size))
