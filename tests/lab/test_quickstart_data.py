"""The shipped prompts, comparisons and rubric."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest

from safetyvalve.data import load_preferences
from safetyvalve.errors import UsageError
from safetyvalve.lab.quickstart.rubric import load_prompts, rubric_score, score_answers

FILE = files("safetyvalve.lab.quickstart").joinpath("preferences.jsonl")


class TestRubric:
    TERMS = (("oxygen",), ("plant", "leaf"))

    @pytest.mark.parametrize(
        ("answer", "score"),
        [
            ("Plants give off oxygen.", 2 + 1),
            ("Plants give off oxygen", 2),  # cut off
            ("OXYGEN comes from somewhere.", 1 + 1),
            ("Deoxygenated replants everywhere.", 1),  # inside a word is no mention
            ("Oxygen.", 1 + 1 - 1),  # under three words
            ("", -1),
            ("a b a b a b.", 1 - 3 * 3 / 5),  # two of the five word pairs are new
            (" ".join(f"word{i}" for i in range(50)) + ".", 1 - 0.02 * 10),
        ],
    )
    def test_by_hand(self, answer: str, score: float) -> None:
        assert rubric_score(self.TERMS, answer) == pytest.approx(score)

    def test_an_echo_of_the_prompt_mentions_nothing(self) -> None:
        for prompt in load_prompts():
            assert rubric_score(prompt.key_terms, prompt.prompt + " indeed, I agree.") <= 1, prompt.id

    def test_unknown_prompt(self) -> None:
        with pytest.raises(UsageError, match="no key terms for the prompt 'What now"):
            score_answers(["What now?"], ["Nothing."])


def test_prompts() -> None:
    prompts = load_prompts()
    assert len(prompts) == len({p.prompt for p in prompts}) == len({p.id for p in prompts}) >= 300
    assert all(p.key_terms and all(p.key_terms) for p in prompts)


def test_comparisons_follow_the_rubric_but_not_always() -> None:
    """About one in four goes against it, as the Bradley-Terry scale of 1.5 gives: noisy, like people."""
    examples = load_preferences(str(FILE)).examples
    agree = total = 0
    for example in examples:
        answers = [r.content for r in example.responses]
        scores = score_answers([example.prompt[-1].content] * len(answers), answers)
        for c in example.comparisons:
            agree += scores[c.winner] > scores[c.loser]
            total += scores[c.winner] != scores[c.loser]
    assert total > 1800
    assert 0.68 < agree / total < 0.80


def test_scores_are_not_shipped() -> None:
    rows = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
    assert {frozenset(r) for r in rows} == {frozenset({"id", "prompt", "responses", "comparisons"})}
