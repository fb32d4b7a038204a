"""Baseline ``reference-samples``: answers of the reference, sampled once before training and kept with the run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safetyvalve.data import TokenizedExample
from safetyvalve.errors import RunError, UsageError
from safetyvalve.generation import sample
from safetyvalve.training.baseline import attach, compared_tokens
from safetyvalve.training.coverage import Coverage, measure_coverage

__all__ = ["Draw", "ReferenceSamples", "samples_coverage"]

_Ids = tuple[int, ...]


class Draw(NamedTuple):
    """How the reference is sampled: at temperature 1 from its whole distribution."""

    n: int
    """Answers a prompt."""
    max_tokens: int
    """Where an answer is cut. What is there by then is taken, with no end token made up."""
    seed: int
    autocast: torch.dtype | None = None


class ReferenceSamples:
    """Answers of the reference to prompts, as records for the run folder.

    Args:
        records: one a prompt, as :meth:`of` makes them and the run folder holds them.
    """

    def __init__(self, records: Iterable[Mapping[str, Any]]) -> None:
        self.records = list(records)
        self._answers: dict[_Ids, list[_Ids]] = {
            tuple(r["prompt_ids"]): [tuple(a["token_ids"]) for a in r["answers"]] for r in self.records
        }

    @classmethod
    def of(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        examples: Sequence[TokenizedExample],
        how: Draw,
    ) -> ReferenceSamples:
        """Sample each distinct prompt of the examples.

        Raises:
            UsageError: a prompt with ``how.max_tokens`` more would not fit into the model's context.
        """
        prompts = list(dict.fromkeys(e.prompt_ids for e in examples))
        context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        longest = max(map(len, prompts))
        if context is not None and longest + how.max_tokens > context:
            raise UsageError(
                f"baseline_max_tokens is {how.max_tokens}; with the longest prompt of {longest} tokens that is more "
                f"than the model's context of {context}. Take at most {max(context - longest, 0)}, or shorten the "
                "prompts."
            )
        drawn = sample(
            model,
            tokenizer,
            prompts,
            n=how.n,
            max_new_tokens=how.max_tokens,
            seed=how.seed,
            autocast=how.autocast,
        )
        answers: list[list[dict[str, Any]]] = [[] for _ in prompts]
        for s in drawn:
            answers[s.prompt_index].append(
                {"token_ids": list(s.token_ids), "text": s.text, "finished": s.finished},
            )
        return cls({"prompt_ids": list(p), "answers": a} for p, a in zip(prompts, answers, strict=True))

    @property
    def finished(self) -> float:
        """Share of answers that ended by themselves."""
        ended = [bool(a["finished"]) for r in self.records for a in r["answers"]]
        return sum(ended) / len(ended)

    def baseline_of(self, examples: Sequence[TokenizedExample]) -> list[TokenizedExample]:
        """The examples with the samples as their baseline.

        Raises:
            RunError: a prompt has no samples: they are of other data.
        """
        lacking = sum(e.prompt_ids not in self._answers for e in examples)
        if lacking:
            raise RunError(
                f"the run's reference samples lack {lacking} of its {len(examples)} prompts: they were drawn for other "
                "data. Start a new run."
            )
        return [attach(e, self._answers[e.prompt_ids]) for e in examples]


def samples_coverage(carried: Sequence[TokenizedExample], data: Sequence[TokenizedExample]) -> Coverage:
    """Of examples that carry the samples, against the comparisons of the data, by token ids."""
    law = ((e.prompt_ids, e.response_ids[place], weight) for e in carried for place, weight in e.baseline_law)
    return measure_coverage(law, compared_tokens(data))
