"""Cells of a ticket file to values. Each function raises ValueError with what was wrong and what is accepted."""

from __future__ import annotations

import math
import re
import unicodedata
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any

from safetyvalve.errors import shorten

__all__ = ["count", "flag", "instant", "minutes", "name", "number"]

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)")
_CLOCK = re.compile(r"([-+]?)(\d+):(\d{1,2}):(\d{1,2}(?:\.\d+)?)")
_WORDS = re.compile(
    r"(?:(?P<h>\d+(?:\.\d+)?)\s*(?:時間|h|hours?))?\s*(?:(?P<m>\d+(?:\.\d+)?)\s*(?:分|m|min|mins|minutes?))?\s*"
    r"(?:(?P<s>\d+(?:\.\d+)?)\s*(?:秒|s|sec|secs|seconds?))?"
)
_WHEN = re.compile(
    r"(?P<year>\d{4})[-/.年](?P<month>\d{1,2})[-/.月](?P<day>\d{1,2})日?"
    r"(?:[T\s]*(?P<hour>\d{1,2})[:時](?P<minute>\d{1,2})分?(?::?(?P<second>\d{1,2})(?:\.(?P<fraction>\d{1,6})\d*)?秒?)?)?"
    r"\s*(?P<zone>Z|[-+]\d{2}:?\d{2})?"
)
_YES = frozenset({"1", "1.0", "true", "t", "yes", "y", "x", "はい", "あり", "有", "有り", "○", "〇", "◯", "済", "有る"})
_NO = frozenset({"0", "0.0", "false", "f", "no", "n", "-", "いいえ", "なし", "無", "無し", "×", "✕", "未", "無い"})


def name(value: Any) -> str | None:
    """A text without spaces around it; None where the cell is empty. Numbers that Excel keeps as floats are whole."""
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value)
    if "\ufffd" in text:
        raise ValueError(
            f"is {shorten(text)}: an earlier conversion lost a character (�), as where encodings were mixed. Export "
            "again "
            "in one encoding"
        )
    return unicodedata.normalize("NFC", text).strip() or None


def number(value: Any) -> float | None:
    """A finite number; full-width digits are read."""
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        raise ValueError(f"is {value}; a number is accepted")
    text = _plain(value)
    if not text:
        return None
    if not _NUMBER.fullmatch(text) and not isinstance(value, int | float):
        raise ValueError(
            f"is {shorten(value)}; a number such as 12 or 12.5 is accepted (a point, no thousands separator)"
        )
    found = float(text)
    if not math.isfinite(found):
        raise ValueError(
            f"is {shorten(value)}; a finite number is accepted. Leave the cell empty where it is not known"
        )
    return found


def minutes(value: Any, factor: float = 1.0) -> float | None:
    """A duration in minutes, at least 0.

    Args:
        value: a number in the column's unit, ``h:mm:ss``, ``1時間30分``, ``90 sec``, or what a workbook holds.
        factor: minutes that one of the column's unit is.
    """
    found = _duration(value, factor)
    if found is not None and found < 0:
        raise ValueError(f"is {shorten(value)}; minutes of work are 0 or more. Correct the export")
    return found


def _duration(value: Any, factor: float) -> float | None:
    if isinstance(value, timedelta):
        return value.total_seconds() / 60
    if isinstance(value, time):
        return value.hour * 60 + value.minute + (value.second + value.microsecond / 1e6) / 60
    if isinstance(value, datetime):
        raise ValueError(f"is the date {value}; minutes are accepted. Format the column as a number")
    if not isinstance(value, str):
        found = number(value)
        return None if found is None else found * factor
    text = _plain(value)
    if match := _CLOCK.fullmatch(text):
        sign, hours, mins, seconds = match.groups()
        if int(mins) > 59 or float(seconds) >= 60:
            raise ValueError(f"is {shorten(value)}; in h:mm:ss, minutes and seconds are below 60")
        return (-1 if sign == "-" else 1) * (int(hours) * 60 + int(mins) + float(seconds) / 60)
    if re.fullmatch(r"[-+]?\d+:\d{1,2}", text):
        raise ValueError(
            f"is {shorten(value)}, which may be hours and minutes or minutes and seconds; accepted: h:mm:ss, such as "
            "0:12:30, or minutes, such as 12.5"
        )
    if text and not _NUMBER.fullmatch(text) and (match := _WORDS.fullmatch(text.lower())) and any(match.groups()):
        return sum(float(match[k] or 0) * f for k, f in (("h", 60.0), ("m", 1.0), ("s", 1 / 60)))
    if text and not _NUMBER.fullmatch(text):
        raise ValueError(f"is {shorten(value)}; accepted: minutes such as 12.5, h:mm:ss, or 1時間30分")
    found = number(value)
    return None if found is None else found * factor


def count(value: Any) -> int | None:
    """A whole number from 0; a yes or no counts one or none."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str) and (text := _plain(value).lower()) and not _NUMBER.fullmatch(text):
        answer = flag(value)
        return None if answer is None else int(answer)
    found = number(value)
    if found is None:
        return None
    if found < 0 or not found.is_integer():
        raise ValueError(f"is {shorten(value)}; a whole number from 0 is accepted")
    return int(found)


def flag(value: Any) -> bool | None:
    """Yes or no in English or Japanese, 1 or 0; None where the cell is empty."""
    if value is None or isinstance(value, bool):
        return value
    text = _plain(value).lower()
    if not text:
        return None
    if text in _YES:
        return True
    if text in _NO:
        return False
    raise ValueError(f"is {shorten(value)}; accepted: 1 or 0, yes or no, true or false, あり or なし, ○ or ×")


def instant(value: Any) -> datetime | None:
    """A date with or without a time and a zone, year first."""
    if value is None or isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    text = _plain(value)
    if not text:
        return None
    match = _WHEN.fullmatch(text)
    if match is None:
        why = ", where day and month cannot be told apart" if re.match(r"\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}", text) else ""
        raise ValueError(
            f"is {shorten(value)}{why}; accepted: 2026-01-31 09:30, 2026/1/31, 2026年1月31日 9時30分, with or "
            "without a "
            "zone such as +09:00"
        )
    year, month, day, hour, minute, second = (
        int(match[k] or 0) for k in ("year", "month", "day", "hour", "minute", "second")
    )
    fraction = int((match["fraction"] or "0").ljust(6, "0"))
    try:
        return datetime(year, month, day, hour, minute, second, fraction, _zone(match["zone"]))
    except ValueError as error:
        raise ValueError(f"is {shorten(value)}, which is no date ({error}). Correct it") from None


def _zone(text: str | None) -> timezone | None:
    if text is None:
        return None
    if text == "Z":
        return UTC
    sign = -1 if text[0] == "-" else 1
    digits = text[1:].replace(":", "")
    return timezone(sign * timedelta(hours=int(digits[:2]), minutes=int(digits[2:])))


def _plain(value: Any) -> str:
    """NFKC: full-width digits and signs as usual ones; the minus signs that Japanese input writes as hyphens."""
    return re.sub("[−‐‑–ー](?=\\d)", "-", unicodedata.normalize("NFKC", str(value))).strip()
