"""Amounts of money: read as people write them, and written as their readers expect."""

from __future__ import annotations

import math
import re
import unicodedata

from safetyvalve.errors import UsageError, shorten

__all__ = ["checked_currency", "money", "parse_amount"]

_AMOUNT = re.compile(r"(?P<sign>[-+]?)(?:¥|円)?\s*(?P<number>\d[\d_]*\.?\d*|\.\d+)\s*(?P<unit>億|万|千)?円?")
_UNITS = {"億": 1e8, "万": 1e4, "千": 1e3, None: 1.0}


def parse_amount(text: str) -> float:
    """A number such as ``1200000``, ``1_200_000``, ``120万``, ``1.2億円``, with full-width digits too.

    Raises:
        ValueError: with what is accepted.
    """
    plain = unicodedata.normalize("NFKC", text).strip().replace("−", "-")
    match = _AMOUNT.fullmatch(plain)
    if match is None:
        try:
            value = float(plain)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(f"is {shorten(text)}; a number is accepted, such as 1200000, 1_200_000, 120万 or 1.2億円")
        return value
    value = float(match["number"].replace("_", "")) * _UNITS[match["unit"]]
    return -value if match["sign"] == "-" else value


def checked_currency(code: str) -> str:
    """An ISO 4217 code in capitals.

    Raises:
        UsageError: not three letters.
    """
    if not re.fullmatch(r"[A-Za-z]{3}", code):
        raise UsageError(
            f"currency is {shorten(code)}; an ISO code of three letters is accepted, such as JPY, USD or EUR."
        )
    return code.upper()


def money(value: float, currency: str, lang: str = "en", *, sign: bool = False) -> str:
    """An amount to three significant digits: ``JPY 1,230,000``, in Japanese yen ``123万円`` or ``1.23億円``."""
    if not math.isfinite(value):
        return "–"
    rounded = float(f"{value:.3g}")
    mark = "−" if rounded < 0 else "+" if sign and rounded > 0 else ""
    size = abs(rounded)
    if lang == "ja" and currency == "JPY":
        unit, name = (1e8, "億円") if size >= 1e8 else (1e4, "万円") if size >= 1e4 else (1.0, "円")
        return f"{mark}{_digits(size / unit)}{name}"
    number = f"{size:,.0f}" if size >= 100 or currency == "JPY" else f"{size:,.2f}"
    return f"{mark}{number} {currency}" if lang == "ja" else f"{mark}{currency} {number}"


def _digits(value: float) -> str:
    """Three significant digits without an exponent; zeros at the end of a fraction are left out."""
    places = max(0, 2 - math.floor(math.log10(value))) if value > 0 else 0
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
