"""Messages and numbers."""

from __future__ import annotations

import math
import string

import pytest

from safetyvalve.report.text import LANGUAGES, Text, decimals_for, fixed, signed, tidy
from safetyvalve.stats import Interval


def _places(message: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(message) if name}


def test_every_language_has_the_same_messages() -> None:
    assert LANGUAGES["en"].keys() == LANGUAGES["ja"].keys()


@pytest.mark.parametrize("key", sorted(LANGUAGES["en"]))
def test_a_message_has_the_same_places_in_every_language(key: str) -> None:
    assert _places(LANGUAGES["ja"][key]) == _places(LANGUAGES["en"][key])


@pytest.mark.parametrize(
    ("items", "en", "ja"), [([], "", ""), (["a"], "a", "a"), (["a", "b", "c"], "a, b and c", "a、b、c")]
)
def test_lists(items: list[str], en: str, ja: str) -> None:
    assert Text("en").join(items) == en
    assert Text("ja").join(items) == ja


@pytest.mark.parametrize(
    ("low", "high", "places"),
    [(0.12, 0.42, 2), (0.004, 0.42, 3), (-0.2, 0.5, 2), (-4.0, 6.0, 0), (0.011, 0.013, 4), (0.5, 0.5, 2)],
)
def test_decimals(low: float, high: float, places: int) -> None:
    assert decimals_for(Interval((low + high) / 2, low, high, 0.1, 9)) == places


def test_a_bound_that_is_not_zero_is_not_written_as_zero() -> None:
    interval = Interval(0.2, 0.0031, 0.4, 0.1, 9)
    assert Text("en").span(interval, decimals_for(interval)) == "0.003 to 0.400"


def test_infinite_interval_is_said() -> None:
    assert "one prompt" in Text("en").span(Interval(1.0, -math.inf, math.inf, math.inf, 1), 2)


def test_signs() -> None:
    assert fixed(-0.004, 2) == "0.00"
    assert fixed(-1234.5, 1) == "−1,234.5"
    assert signed(0.25, 2) == "+0.25"
    assert signed(-0.25, 2) == "−0.25"
    assert signed(0.001, 2) == "0.00"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.01, "0.0100"),
        (1.386, "1.39"),
        (57.25, "57.2"),
        (915.4, "915"),
        (-22.61, "−22.6"),
        (2e-6, "2.00e−06"),
    ],
)
def test_tidy(value: float, text: str) -> None:
    assert tidy(value) == text
