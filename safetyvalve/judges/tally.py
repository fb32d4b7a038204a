"""What judging gave and cost, in numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from safetyvalve.errors import UsageError
from safetyvalve.judges.prompts import TEMPLATES, Language, render
from safetyvalve.judges.protocol import Failure, Opinion, Question
from safetyvalve.judges.records import SAME_TEXT
from safetyvalve.judges.run import Judgment
from safetyvalve.stats.resolve import resolve
from safetyvalve.stats.verdicts import Verdict

__all__ = ["Prices", "Tally", "Tokens", "count", "guess_tokens"]


class Prices(NamedTuple):
    """Of a million tokens, in the user's currency."""

    prompt: float
    completion: float

    def checked(self) -> Prices:
        """Itself.

        Raises:
            UsageError: negative or not finite.
        """
        if not all(math.isfinite(p) and p >= 0 for p in self):
            raise UsageError(
                f"prices are {self.prompt} and {self.completion}; finite numbers of at least 0 are accepted."
            )
        return self

    def of(self, tokens: Tokens) -> float:
        return (self.prompt * tokens.prompt + self.completion * tokens.completion) / 1e6


class Tokens(NamedTuple):
    """As the server counted them."""

    prompt: int
    completion: int
    uncounted: int
    """Replies for which the server gave no count; their cost is not known."""

    @classmethod
    def of(cls, opinions: Iterable[Opinion]) -> Tokens:
        given = list(opinions)
        known = [o for o in given if o.prompt_tokens is not None and o.completion_tokens is not None]
        return cls(
            sum(o.prompt_tokens or 0 for o in known),
            sum(o.completion_tokens or 0 for o in known),
            len(given) - len(known),
        )


class Tally(NamedTuple):
    """Counts over items; an item has one verdict, of both orders together."""

    items: int
    same_text: int
    by_models: dict[tuple[str, str], Counter[str]]
    """(model_a, model_b), in alphabetical order, to counts of a, b, tie, both_bad, none."""
    disagreed: int
    """Items whose orders gave different verdicts."""
    both_decided: int
    """Items with a verdict in both orders, which could disagree."""
    first_won: int
    decided: int
    """Records of one order that name a winner."""
    causes: Counter[str]
    """Records without a verdict, by cause."""

    def as_json(self) -> dict[str, Any]:
        pairs = [{"model_a": a, "model_b": b, **counts} for (a, b), counts in self.by_models.items()]
        return {**self._asdict(), "by_models": pairs, "causes": dict(self.causes)}


def count(records: Sequence[Sequence[Verdict]]) -> Tally:
    """Counts of the records of each item."""
    single = [v for item in records for v in item]
    resolved = resolve(single)
    by_models: dict[tuple[str, str], Counter[str]] = {}
    for entry in resolved:
        by_models.setdefault((entry.model_a, entry.model_b), Counter())[entry.verdict] += 1
    decided = [v for v in single if v.position is not None and v.verdict in ("a", "b")]
    return Tally(
        items=len(resolved),
        same_text=sum(SAME_TEXT in item[0].tags for item in records),
        by_models=by_models,
        disagreed=sum(entry.disagreed for entry in resolved),
        both_decided=sum(entry.orders == 2 and entry.verdict != "none" for entry in resolved),
        first_won=sum((v.position == "a_first") == (v.verdict == "a") for v in decided),
        decided=len(decided),
        causes=Counter(tag for v in single if v.verdict == "none" for tag in v.tags),
    )


def distinct_opinions(judgments: Iterable[Judgment]) -> list[Opinion]:
    """Each opinion once, also where equal questions share it."""
    found = {id(o): o for j in judgments for o in j.opinions.values() if not isinstance(o, Failure)}
    return list(found.values())


def guess_tokens(questions: Iterable[Question], language: Language) -> int:
    """Prompt tokens, guessed without the judge's tokenizer: four ASCII characters, or one other character, a token."""
    template = TEMPLATES[language]
    total = 0
    for question in questions:
        text = render(question, template)
        plain = sum(c < "\x80" for c in text)
        total += math.ceil(plain / 4) + len(text) - plain
    return total
