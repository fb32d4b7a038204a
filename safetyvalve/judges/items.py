"""Answers of models, and the pairs of them that are judged."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import NamedTuple

from safetyvalve.data.schema import Message, Place, Prompt
from safetyvalve.errors import DataError, UsageError, shorten
from safetyvalve.hashing import content_hash

__all__ = ["Answer", "Pair", "Paired", "draw_prompts", "item_id", "pair_answers", "prompt_id"]


class Answer(NamedTuple):
    """What one model said to one prompt."""

    prompt_id: str
    prompt: Prompt
    """The turns that the model saw. Between models only turns of the assistant may differ."""
    model: str
    text: str
    sample: int = 0
    """Number among the model's answers to this prompt; equal numbers are paired."""
    place: Place | None = None

    @property
    def conversation(self) -> Prompt:
        """The prompt with the answer."""
        return (*self.prompt, Message(role="assistant", content=self.text))


class Pair(NamedTuple):
    """Two conversations that end in the answers to compare."""

    id: str
    prompt_id: str
    model_a: str
    model_b: str
    a: Prompt
    b: Prompt
    inclusion_probability: float | None = None
    """Chance with which its prompt was drawn; None where all were taken."""

    @property
    def answers(self) -> tuple[str, str]:
        return self.a[-1].content, self.b[-1].content


class Paired(NamedTuple):
    """Pairs, and the answers that another model has no answer beside."""

    pairs: tuple[Pair, ...]
    unmatched: tuple[Answer, ...]


def prompt_id(prompt: Sequence[Message]) -> str:
    """Content hash of a prompt: 16 hexadecimal digits."""
    return content_hash([m.model_dump(mode="json") for m in prompt])


def item_id(one: Answer, other: Answer) -> str:
    """Content hash of a pair: models, conversations and sample numbers, the same whichever is named first."""
    sides = sorted([a.model, a.sample, [m.model_dump(mode="json") for m in a.conversation]] for a in (one, other))
    return content_hash(sides)


def pair_answers(answers: Iterable[Answer], *, common_only: bool = False) -> Paired:
    """Every two models' answers to the same prompt.

    Args:
        answers: of two models or more; ``model_a`` of a pair is the one that came first.
        common_only: go on where a model has no answer to a prompt that another answered.

    Raises:
        DataError: an answer given twice, different questions under one prompt id, or answers that do not join.
        UsageError: answers of a single model.
    """
    cells: dict[str, dict[str, dict[int, Answer]]] = {}
    models: dict[str, None] = {}
    for answer in answers:
        models.setdefault(answer.model)
        samples = cells.setdefault(answer.prompt_id, {}).setdefault(answer.model, {})
        if (twice := samples.get(answer.sample)) is not None:
            raise DataError(
                f"model {shorten(answer.model)} has a second answer to prompt {shorten(answer.prompt_id)} (the first: "
                f"{twice.place}); remove one, or number several answers by a field 'sample': 0, 1, ...",
                file=answer.place.file if answer.place else None,
                row=answer.place.row if answer.place else None,
            )
        samples[answer.sample] = answer
    if len(models) < 2:
        raise UsageError(
            f"there are answers of {len(models)} model ({', '.join(models) or 'none'}); two or more are compared. Name "
            "another run or file."
        )
    pairs: dict[str, Pair] = {}
    for found in cells.values():
        _same_questions(found)
        for one, other in combinations([m for m in models if m in found], 2):
            for sample in found[one].keys() & found[other].keys():
                a, b = found[one][sample], found[other][sample]
                joined = Pair(item_id(a, b), a.prompt_id, one, other, a.conversation, b.conversation)
                if (same := pairs.setdefault(joined.id, joined)) is not joined:
                    raise DataError(
                        f"prompts {shorten(same.prompt_id)} and {shorten(joined.prompt_id)} have the same text and "
                        f"the same answers ({b.place}); counted twice they would look like more evidence. Remove one."
                    )
    left = tuple(
        a for by in cells.values() for s in by.values() for a in s.values()
        if any(m not in by or a.sample not in by[m] for m in models)
    )  # fmt: skip
    if left and not (common_only and pairs):
        counts = {m: sum(a.model == m for a in left) for m in models}
        raise DataError(
            f"{len(left)} answers lack a partner ("
            + ", ".join(f"{shorten(m)}: {n}" for m, n in counts.items() if n)
            + f"), such as prompt {shorten(left[0].prompt_id)}; {len(pairs)} pairs join. Every model must answer the "
            "same prompts as often; --common-only goes on with those that do and counts the rest.",
        )
    return Paired(tuple(pairs.values()), left)


def _same_questions(found: dict[str, dict[int, Answer]]) -> None:
    """Under one prompt id the turns of user and system are equal."""
    asked: dict[tuple[tuple[str, str], ...], Answer] = {}
    for answer in (a for samples in found.values() for a in samples.values()):
        asked.setdefault(tuple((m.role, m.content) for m in answer.prompt if m.role != "assistant"), answer)
    if len(asked) > 1:
        one, other = list(asked.values())[:2]
        raise DataError(
            f"prompt {shorten(one.prompt_id)} has two texts: {shorten(one.prompt[-1].content)} ({one.place}) and "
            f"{shorten(other.prompt[-1].content)} ({other.place}). Give different prompts different ids.",
        )


def draw_prompts(pairs: Sequence[Pair], n: int, *, seed: int) -> tuple[Pair, ...]:
    """The pairs of ``n`` prompts drawn at random, with the chance recorded.

    Raises:
        UsageError: ``n`` below 1.
    """
    if n < 1:
        raise UsageError(f"--prompts is {n}; at least 1 is accepted.")
    known = sorted({p.prompt_id for p in pairs})
    if n >= len(known):
        return tuple(pairs)
    drawn = set(random.Random(seed).sample(known, n))
    return tuple(p._replace(inclusion_probability=n / len(known)) for p in pairs if p.prompt_id in drawn)
