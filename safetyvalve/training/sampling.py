"""What the policy says now: samples on a frozen set of prompts, and what they tell."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safetyvalve.data import PreferenceExample, Prompt, TokenizedExample, response_id
from safetyvalve.diagnostics.text import repetition
from safetyvalve.generation import TOKEN_BUDGET, Sample, sample
from safetyvalve.stats import mean_interval
from safetyvalve.training.forward import Forward
from safetyvalve.training.scoring import SampleScorer
from safetyvalve.trees import Divergence, Tree, sequence_kl

__all__ = ["Drawn", "Probe", "SampleMeter"]


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


class Drawn(NamedTuple):
    """Samples of a policy, and how far it is from the reference on each."""

    samples: list[Sample]
    kl: list[float]
    """Nats."""
    log_ratio: list[float]
    """log(policy / reference), in nats."""


_SUMMARISED = {
    "kl": "kl",
    "tokens": "length",
    "repetition": "repetition",
    "finished": "eos_rate",
    "independent_score": "independent_score",
    "proxy_reward": "proxy_reward",
    "proxy_spread": "proxy_spread",
    "proxy_width": "proxy_width",
    "held_out_member": "held_out_member",
}
"""Fields of a record whose means are metrics, and the metrics' names."""
_WITH_ERROR = ("kl", "independent_score", "proxy_reward", "held_out_member")


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
        scorer: gives the scores, or None if there are none.
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
        scorer: SampleScorer | None = None,
        token_budget: int = TOKEN_BUDGET,
        reference_mode: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self.probes, self.reference, self.tokenizer, self.beta = list(probes), reference, tokenizer, beta
        self.n, self.max_new_tokens, self.seed, self.token_budget = n, max_new_tokens, seed, token_budget
        self.forward, self.scorer, self.reference_mode = forward, scorer, reference_mode
        self._first: list[Sample] | None = None
        self._first_ref_logps: Tensor | None = None

    def draw(self, policy: PreTrainedModel) -> Drawn:
        """Sample the policy; what :meth:`measure` begins with."""
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
        return Drawn(samples, kl.tolist(), ratio.tolist())

    def measure(
        self, policy: PreTrainedModel, drawn: Drawn | None = None
    ) -> tuple[dict[str, float], list[dict[str, Any]]]:
        """Metrics by name, and one record a sample for the run folder.

        Args:
            policy: the policy.
            drawn: what :meth:`draw` gives for it, where it is known; None draws.
        """
        if not self.probes:
            return {}, []
        samples, kl, log_ratio = drawn or self.draw(policy)
        ratio = torch.tensor(log_ratio, dtype=torch.float64)
        records = [
            {
                "probe": self.probes[s.prompt_index].id,
                "response_id": response_id(self.probes[s.prompt_index].prompt, s.text),
                "prompt": [m.model_dump() for m in self.probes[s.prompt_index].prompt],
                "response": s.text,
                "token_ids": list(s.token_ids),
                "tokens": len(s.token_ids),
                "finished": s.finished,
                "repetition": repetition(s.text),
                "kl": _finite(kl[i]),
                "log_ratio": _finite(ratio[i]),
            }
            for i, s in enumerate(samples)
        ]
        metrics = self._score(records, samples) | self._summary(records)
        if self.beta is not None:
            ratio_of_first = self._ratio_of_first(policy, samples, ratio)
            gains = [_finite(gain) for gain in self.beta * (ratio - ratio_of_first)]
            for record, gain in zip(records, gains, strict=True):
                record["implicit_reward_gain"] = gain
            if known := [gain for gain in gains if gain is not None]:
                metrics["implicit_reward_gain"] = sum(known) / len(known)
        return {f"samples/{name}": value for name, value in metrics.items()}, records

    def restore(self, first: Sequence[Mapping[str, Any]]) -> None:
        """Go on from the records of the first evaluation, as :meth:`measure` gave them."""
        index = {p.id: i for i, p in enumerate(self.probes)}
        self._first = [Sample(index[r["probe"]], tuple(r["token_ids"]), r["response"], r["finished"]) for r in first]

    def _score(self, records: Sequence[dict[str, Any]], samples: Sequence[Sample]) -> dict[str, float]:
        """Write the scores into the records; returns how many answers have none, by source."""
        if self.scorer is None:
            for record in records:
                record["independent_score"] = None
            return {}
        prompts = [self.probes[s.prompt_index].prompt for s in samples]
        scored = self.scorer(prompts, [s.text for s in samples], first=self._first is None and not self.scorer.begun)
        for record, row in zip(records, scored.rows, strict=True):
            record |= row
        return {f"{name}_unscored": count for name, count in scored.unscored.items()}

    def _summary(self, records: Sequence[dict[str, Any]]) -> dict[str, float]:
        """Means over prompts of the means over a prompt's samples: prompts, not samples, are the units drawn."""
        result: dict[str, float] = {}
        for field, name in _SUMMARISED.items():
            groups: dict[str, list[float]] = {}
            for record in records:
                if (value := record.get(field)) is not None:
                    groups.setdefault(record["probe"], []).append(float(value))
            if not groups:
                continue
            interval = mean_interval([sum(g) / len(g) for g in groups.values()])
            result[name] = interval.estimate
            if name in _WITH_ERROR and math.isfinite(interval.standard_error):
                result[f"{name}_se"] = interval.standard_error
        if lost := sum(record["kl"] is None for record in records):
            result["kl_not_finite"] = lost
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


def _finite(value: Tensor | float) -> float | None:
    """None where a KL has left the range of numbers: that is no measurement, and JSON has no word for it."""
    number = float(value)
    return number if math.isfinite(number) else None
