"""Properties of a text that go wrong first when a reward is overoptimized."""

from __future__ import annotations

import re

__all__ = ["repetition"]

_LATIN = re.compile(r"[^\W_]+")
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")


def repetition(text: str, *, n: int = 3) -> float:
    """Share of n-grams that occurred before in the text, in [0, 1]; 0 for a text shorter than n.

    Units are words; where most characters are Japanese or Chinese, which put no spaces, they are characters.
    """
    characters = [c for c in text if not c.isspace()]
    if characters and sum(map(bool, map(_UNSPACED.match, characters))) > len(characters) / 2:
        units = characters
    else:
        units = _LATIN.findall(text.lower())
    grams = [tuple(units[i : i + n]) for i in range(len(units) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
