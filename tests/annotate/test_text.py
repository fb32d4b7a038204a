"""Both languages say everything, and every message that a page asks for is there."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest

import safetyvalve.annotate
from safetyvalve.annotate.text import GUIDELINES, LANGUAGES, preferred
from safetyvalve.annotate.votes import TAGS

PACKAGE = Path(safetyvalve.annotate.__file__).parent


def places(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_the_same_messages_with_the_same_places() -> None:
    english, japanese = LANGUAGES["en"], LANGUAGES["ja"]
    assert english.keys() == japanese.keys()
    for key in english:
        assert places(english[key]) == places(japanese[key]), key
    assert GUIDELINES.keys() == LANGUAGES.keys()


def test_every_message_asked_for_exists_and_is_used() -> None:
    sources = [*PACKAGE.glob("templates/*.html"), *PACKAGE.glob("*.py")]
    text = "\n".join(f.read_text(encoding="utf-8") for f in sources if not f.name.startswith("text_"))
    asked = set(re.findall(r"""\bt\('([a-z_.0-9]+)'[,)]""", text))
    assert asked <= LANGUAGES["en"].keys()
    prefixes = (
        "choice.",
        "short.",
        "strength.",
        "tag.",
        "role.",
        "flag.",
        "weigh.",
        "kind.",
        "pairing.",
        "invite.",
        "annotators.",
    )
    for key in LANGUAGES["en"]:
        name = key.removeprefix("refused.")
        assert f"'{key}'" in text or f'"{key}"' in text or f'"{name}"' in text or key.startswith(prefixes), key
    assert {f"tag.{tag}" for tag in TAGS} <= LANGUAGES["en"].keys()
    for key in set(re.findall(r'Refusal\(\d+, "(\w+)"', text)):
        assert f"refused.{key}" in LANGUAGES["en"], key


@pytest.mark.parametrize(
    ("header", "lang"),
    [
        ("", "en"),
        ("ja", "ja"),
        ("ja-JP,ja;q=0.9,en;q=0.8", "ja"),
        ("en-US,en;q=0.9,ja;q=0.1", "en"),
        ("de,ja;q=0.5", "ja"),
        ("fr", "en"),
        ("ja;q=nonsense", "en"),
        ("*", "en"),
    ],
)
def test_language_of_a_browser(header: str, lang: str) -> None:
    assert preferred(header) == lang
