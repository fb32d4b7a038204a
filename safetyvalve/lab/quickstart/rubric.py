"""The rubric: a transparent score that plays the true preference of the quickstart.

Training never sees it. It labels the shipped comparisons (with Bradley-Terry noise, so they are imperfect like
people's) and afterwards scores the answers of the trained models, as people would.

    score = 2 * coverage + whole - 3 * repetition - 0.02 * max(0, words - 40) - short

``coverage`` is the share of the prompt's key-term groups that the answer mentions, ``whole`` is 1 if it ends with
the end of a sentence, ``repetition`` is the share of its word pairs that occurred before, ``short`` is 1 under three
words. The unit is one point: an answer that is whole instead of cut off.
"""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import NamedTuple

from safetyvalve.errors import UsageError, shorten

__all__ = ["QuickstartPrompt", "load_prompts", "rubric_score", "score_answers"]

_WORD = re.compile(r"[a-z0-9']+")
_WHOLE = re.compile(r"[.!?][\"')\]*]*$")


class QuickstartPrompt(NamedTuple):
    """A prompt that we wrote, with what a good answer mentions."""

    id: str
    topic: str
    prompt: str
    key_terms: tuple[tuple[str, ...], ...]
    """Groups of alternatives in lower case; a word that begins with any of a group's satisfies it."""


@cache
def load_prompts() -> tuple[QuickstartPrompt, ...]:
    """The shipped prompts, in file order."""
    text = files(__package__).joinpath("prompts.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    return tuple(
        QuickstartPrompt(r["id"], r["topic"], r["prompt"], tuple(tuple(g) for g in r["key_terms"])) for r in rows
    )


def rubric_score(key_terms: tuple[tuple[str, ...], ...], answer: str) -> float:
    """Score of one answer, in points; see the module's text for the formula.

    Args:
        key_terms: of the prompt, at least one group.
        answer: the assistant's text.
    """
    text = answer.strip().lower()
    words = _WORD.findall(text)
    mentioned = sum(any(re.search(rf"\b{re.escape(term)}", text) for term in group) for group in key_terms)
    pairs = list(pairwise(words))
    repetition = 1 - len(set(pairs)) / len(pairs) if pairs else 0.0
    return (
        2 * mentioned / len(key_terms)
        + bool(_WHOLE.search(text))
        - 3 * repetition
        - 0.02 * max(0, len(words) - 40)
        - (len(words) < 3)
    )


def score_answers(prompts: list[str], answers: list[str]) -> list[float]:
    """Scores of answers to shipped prompts, by the prompt's text.

    Raises:
        UsageError: a prompt that is not one of the shipped ones, for which no key terms are known.
    """
    known = {p.prompt: p for p in load_prompts()}
    for prompt in prompts:
        if prompt not in known:
            raise UsageError(
                f"the rubric has no key terms for the prompt {shorten(prompt)}; it scores the quickstart's own prompts "
                "only. Use another scorer for other data."
            )
    return [rubric_score(known[p].key_terms, a) for p, a in zip(prompts, answers, strict=True)]
