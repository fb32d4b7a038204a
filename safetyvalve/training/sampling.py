"""What the policy says now: samples on a frozen set of prompts, and what they tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safetyvalve.data import PreferenceExample, Prompt, TokenizedExample
from safetyvalve.diagnostics.text import repetition
from safetyvalve.errors import UsageError
from safetyvalve.generation import Sample, sample
from safetyvalve.stats import mean_interval
from safetyvalve.training.forward import Forward
from safetyvalve.trees import Divergence, Tree, pack_by_budget, sequence_kl

__all__ = ["Probe", "SampleMeter", "Scorer"]

Scorer = Callable[[list[str], list[str]], list[float]]
"""Independent score of answers: ``(prompts, answers) -> scores``; prompts as their last user turn."""


class Probe(NamedTuple):
    """A prompt of the frozen set that is sampled at every evaluation."""

    id: str
    prompt: Prompt
    token_ids: tuple[int, ...]

    @classmethod
    def of(cls, example: PreferenceExample, tokens: TokenizedExample) -> Probe:
        return cls(example.id, example.prompt, tokens.prompt_ids)

    @property
    def text(self) -> str:
        """The last turn, which the answer answers."""
        return self.prompt[-1].content


class SampleMeter:
    """Samples the policy on frozen prompts and measures the samples.

    Args:
        probes: the prompts, the same at every evaluation and in every run that is compared.
        reference: the reference policy.
        tokenizer: of both.
        beta: of the objective; scales the implicit reward.
        n: samples a prompt.
        max_new_tokens: length limit of a sample.
        seed: of the sampling; the same at every evaluation.
        forward: how log-probabilities are computed.
        scorer: the independent score, or None if there is none.
        batch_size: samples drawn together.
    """

    def __init__(
        self,
        probes: Sequence[Probe],
        *,
        reference: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        beta: float,
        n: int,
        max_new_tokens: int,
        seed: int,
        forward: Forward,
        scorer: Scorer | None = None,
        batch_size: int = 64,
    ) -> None:
        self.probes, self.reference, self.tokenizer, self.beta = list(probes), reference, tokenizer, beta
        self.n, self.max_new_tokens, self.seed, self.batch_size = n, max_new_tokens, seed, batch_size
        self.forward, self.scorer = forward, scorer
        self._first: list[Sample] | None = None

    def measure(self, policy: PreTrainedModel) -> tuple[dict[str, float], list[dict[str, Any]]]:
        """Metrics by name, and one record a sample for the run folder."""
        if not self.probes:
            return {}, []
        samples = sample(
            policy,
            self.tokenizer,
            [p.token_ids for p in self.probes],
            n=self.n,
            max_new_tokens=self.max_new_tokens,
            seed=self.seed,
            batch_size=self.batch_size,
            autocast=self.forward.autocast,
        )
        first = self._first = self._first or samples
        kl, ratio = self._against_reference(policy, samples)
        ratio_of_first = ratio if first is samples else self._against_reference(policy, first).log_ratio
        records = [
            {
                "probe": self.probes[s.prompt_index].id,
                "prompt": [m.model_dump() for m in self.probes[s.prompt_index].prompt],
                "response": s.text,
                "tokens": len(s.token_ids),
                "finished": s.finished,
                "repetition": repetition(s.text),
                "kl": float(kl[i]),
                "log_ratio": float(ratio[i]),
                "implicit_reward_gain": self.beta * float(ratio[i] - ratio_of_first[i]),
            }
            for i, s in enumerate(samples)
        ]
        scores = self._scores(samples)
        for record, score in zip(records, scores, strict=True):
            record["independent_score"] = score
        metrics = self._summary(records)
        metrics["implicit_reward_gain"] = self.beta * float(ratio.mean() - ratio_of_first.mean())
        return {f"samples/{name}": value for name, value in metrics.items()}, records

    def _scores(self, samples: Sequence[Sample]) -> list[float | None]:
        if self.scorer is None:
            return [None] * len(samples)
        scores = self.scorer([self.probes[s.prompt_index].text for s in samples], [s.text for s in samples])
        if len(scores) != len(samples):
            raise UsageError(
                f"the scorer gave {len(scores)} scores for {len(samples)} answers; it must give one each, in order."
            )
        return list(scores)

    def _summary(self, records: Sequence[dict[str, Any]]) -> dict[str, float]:
        """Means over prompts of the means over a prompt's samples: prompts, not samples, are the units drawn."""
        names = {"kl": "kl", "tokens": "length", "repetition": "repetition", "finished": "eos_rate"}
        if self.scorer is not None:
            names["independent_score"] = "independent_score"
        result: dict[str, float] = {}
        for field, name in names.items():
            groups: dict[str, list[float]] = {}
            for record in records:
                groups.setdefault(record["probe"], []).append(float(record[field]))
            interval = mean_interval([sum(g) / len(g) for g in groups.values()])
            result[name] = interval.estimate
            if name in ("kl", "independent_score"):
                result[f"{name}_se"] = interval.standard_error
        return result

    def _against_reference(self, policy: PreTrainedModel, samples: Sequence[Sample]) -> Divergence:
        """KL and log(policy / reference) of each sample, in nats, fp64 on the CPU."""
        trees, places = self._trees(samples)
        kl, ratio = torch.zeros(2, len(samples), dtype=torch.float64)
        was_training = policy.training
        policy.eval()
        try:
            for group in pack_by_budget([t.n_tokens for t in trees], self.forward.token_budget):
                where = torch.tensor([place for tree in group for place in places[tree]])
                with self.forward.arithmetic(policy):
                    part = sequence_kl(policy, self.reference, [trees[i] for i in group], engine=self.forward.engine)
                kl[where], ratio[where] = part.kl.cpu(), part.log_ratio.cpu()
        finally:
            policy.train(was_training)
        return Divergence(kl, ratio)

    def _trees(self, samples: Sequence[Sample]) -> tuple[list[Tree], list[list[int]]]:
        """Samples of a prompt as one tree; with the places of its responses among the samples."""
        places: dict[int, list[int]] = {}
        for index, s in enumerate(samples):
            places.setdefault(s.prompt_index, []).append(index)
        trees = [
            Tree(self.probes[prompt].token_ids, tuple(samples[i].token_ids for i in indices))
            for prompt, indices in places.items()
        ]
        return trees, list(places.values())
