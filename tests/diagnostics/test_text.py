"""Repetition, by hand."""

from __future__ import annotations

import pytest

from safetyvalve.diagnostics import repetition


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0.0),
        ("two words", 0.0),
        ("one two three four", 0.0),
        ("go on and go on and", 1 / 4),  # 'go on and' comes twice among four trigrams
        ("no no no no no", 2 / 3),
        ("Yes, YES! yes yes", 1 / 2),
        ("はいはいはい", 2 / 4),
        ("ありがとうございます", 0.0),
    ],
)
def test_by_hand(text: str, expected: float) -> None:
    assert repetition(text) == pytest.approx(expected)
