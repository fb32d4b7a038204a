"""What the policy says now: samples on a frozen set of prompts, and what they tell."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safetyvalve.data import PreferenceExample, Prompt, TokenizedExample
from safetyvalve.diagnostics.text import repetition
from safetyvalve.errors import UsageError, shorten
from safetyvalve.generation import TOKEN_BUDGET, Sample, sample
from safetyvalve.stats import mean_interval
from safetyvalve.training.forward import Forward
from safetyvalve.trees import Divergence, Tree, sequence_kl

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
        reference_mode: entered around every forward of the reference, where that is the policy with its adapter off.
        tokenizer: of both.
        beta: of the objective; scales the implicit reward. None where nothing was compared and there is no reward.
        n: samples a prompt.
        max_new_tokens: length limit of a sample.
        seed: of the sampling; the same at every evaluation.
        forward: how log-probabilities are computed.
        scorer: the independent score, or None if there is none.
        token_budget: of samples drawn together.
    """

    def __init__(
        self,
        probes: Sequence[Probe],
        *,
        reference: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        beta: float | None,
        n: int,
        max_new_tokens: int,
        seed: int,
        forward: Forward,
        scorer: Scorer | None = None,
        token_budget: int = TOKEN_BUDGET,
        reference_mode: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self.probes, self.reference, self.tokenizer, self.beta = list(probes), reference, tokenizer, beta
        self.n, self.max_new_tokens, self.seed, self.token_budget = n, max_new_tokens, seed, token_budget
        self.forward, self.scorer, self.reference_mode = forward, scorer, reference_mode
        self._first: list[Sample] | None = None
        self._first_ref_logps: Tensor | None = None

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
            token_budget=self.token_budget,
            autocast=self.forward.autocast,
        )
        kl, ratio = self._against_reference(policy, samples)
        records = [
            {
                "probe": self.probes[s.prompt_index].id,
                "prompt": [m.model_dump() for m in self.probes[s.prompt_index].prompt],
                "response": s.text,
                "token_ids": list(s.token_ids),
                "tokens": len(s.token_ids),
                "finished": s.finished,
                "repetition": repetition(s.text),
                "kl": float(kl[i]),
                "log_ratio": float(ratio[i]),
            }
            for i, s in enumerate(samples)
        ]
        scores = self._scores(samples)
        for record, score in zip(records, scores, strict=True):
            record["independent_score"] = score
        metrics = self._summary(records)
        if self.beta is not None:
            ratio_of_first = self._ratio_of_first(policy, samples, ratio)
            for i, record in enumerate(records):
                record["implicit_reward_gain"] = self.beta * float(ratio[i] - ratio_of_first[i])
            metrics["implicit_reward_gain"] = self.beta * float(ratio.mean() - ratio_of_first.mean())
        return {f"samples/{name}": value for name, value in metrics.items()}, records

    def restore(self, first: Sequence[Mapping[str, Any]]) -> None:
        """Go on from the records of the first evaluation, as :meth:`measure` gave them."""
        index = {p.id: i for i, p in enumerate(self.probes)}
        self._first = [Sample(index[r["probe"]], tuple(r["token_ids"]), r["response"], r["finished"]) for r in first]

    def _scores(self, samples: Sequence[Sample]) -> list[float | None]:
        if self.scorer is None:
            return [None] * len(samples)
        given = self.scorer([self.probes[s.prompt_index].text for s in samples], [s.text for s in samples])
        try:
            scores = [float(score) for score in given]
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"the scorer gave {shorten(given)} ({error}); it must give a number for each answer."
            ) from None
        if len(scores) != len(samples):
            raise UsageError(
                f"the scorer gave {len(scores)} scores for {len(samples)} answers; it must give one each, in order."
            )
        for index, score in enumerate(scores):
            if not math.isfinite(score):
                raise UsageError(
                    f"the scorer gave {score} for answer {index}, {shorten(samples[index].text)}; a finite number is "
                    "accepted."
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
            if name in ("kl", "independent_score") and math.isfinite(interval.standard_error):
                result[f"{name}_se"] = interval.standard_error
        return result

    def _against_reference(self, policy: PreTrainedModel, samples: Sequence[Sample]) -> Divergence:
        """KL and log(policy / reference) of each sample, in nats, fp64 on the CPU."""

        def measure(trees: list[Tree]) -> Tensor:
            with self.forward.arithmetic(policy):
                return torch.stack(
                    sequence_kl(
                        policy,
                        self.reference,
                        trees,
                        engine=self.forward.engine,
                        reference_mode=self.reference_mode,
                    )
                ).cpu()

        return Divergence(*self._by_group(policy, samples, measure, rows=2))

    def _ratio_of_first(self, policy: PreTrainedModel, samples: list[Sample], ratio: Tensor) -> Tensor:
        """log(policy / reference) of the first evaluation's answers; the reference's part is computed once."""
        if self._first is None:
            self._first = samples
            return ratio
        if self._first_ref_logps is None:
            with self.reference_mode():
                self._first_ref_logps = self._logps(self.reference, self._first)
        return self._logps(policy, self._first) - self._first_ref_logps

    def _logps(self, model: PreTrainedModel, samples: Sequence[Sample]) -> Tensor:
        """[sample] log-probabilities, in nats, fp64 on the CPU."""
        return self._by_group(model, samples, lambda trees: self.forward.sums(model, trees)[None].double().cpu())[0]

    @torch.no_grad()
    def _by_group(
        self, model: PreTrainedModel, samples: Sequence[Sample], measure: Callable[[list[Tree]], Tensor], rows: int = 1
    ) -> Tensor:
        """[row, sample]: ``measure`` over micro-batches of the samples' trees, put in the samples' order."""
        trees, places = self._trees(samples)
        result = torch.zeros(rows, len(samples), dtype=torch.float64)
        was_training = model.training
        model.eval()
        try:
            for group in self.forward.groups(trees):
                where = torch.tensor([place for tree in group for place in places[tree]])
                result[:, where] = measure([trees[i] for i in group])
        finally:
            model.train(was_training)
        return result

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
