"""From the baseline that the settings name to examples that carry it, with its coverage measured and recorded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safetyvalve.data import (
    PreferenceExample,
    Split,
    TokenizedExample,
    refuse_dropped,
    tokenize_examples,
    with_dropped,
)
from safetyvalve.errors import DataError
from safetyvalve.training.baseline import (
    SftSet,
    SftTrees,
    column_law,
    compared_texts,
    load_sft_set,
    over_compared,
    over_responses,
    with_column,
)
from safetyvalve.training.choosing import visited
from safetyvalve.training.coverage import MOST_UNCOVERED, Coverage, check_coverage, measure_coverage
from safetyvalve.training.folder import RunFolder
from safetyvalve.training.reference_samples import Draw, ReferenceSamples, samples_coverage
from safetyvalve.training.settings import RunSettings

__all__ = ["BaselinePlan", "Carried"]

_SAMPLES = "baseline_samples.jsonl"
_FIRST_LOOK = 16
"""Prompts sampled before all, so that an uncovered baseline is refused in seconds."""


class Carried(NamedTuple):
    """Tokenized examples that carry the baseline."""

    train: list[TokenizedExample]
    held_out: list[TokenizedExample]
    sft: SftTrees | None = None


class BaselinePlan:
    """What the settings' baseline needs, read before anything is written.

    Args:
        settings: of the run.
        split: of its data.

    Raises:
        DataError: the SFT file cannot be used.
        UsageError: the comparisons do not cover the baseline and that is not allowed.
    """

    def __init__(self, settings: RunSettings, split: Split) -> None:
        self.settings, self.baseline = settings, settings.baseline
        self.lines: list[str] = []
        """What there is to say."""
        self.sft: SftSet | None = None
        self.coverage: Coverage | None = None
        """None where no guarantee is at stake: under the objective ``sft``."""
        if self.baseline.sft_data is not None:
            self.sft = load_sft_set(
                self.baseline.sft_data,
                train=split.train,
                held_out=split.held_out,
                max_drop=settings.source.max_drop,
                seed=settings.source.split_seed,
            )
            self.lines += self.sft.report.lines()
        if settings.objective.name == "rpo":
            self._measure(split.train)

    def _measure(self, train: Sequence[PreferenceExample]) -> None:
        """On texts. Samples of the reference are not there yet; the other two are covered by what they are."""
        if self.baseline.kind in ("chosen", "all-responses"):
            self.coverage = Coverage(0.0, 0.0, 0)
        elif self.baseline.kind != "reference-samples":
            law = self.sft.law() if self.sft is not None else column_law(train)
            self.coverage = measure_coverage(law, compared_texts(train))
            self.lines.append(self._check(self.coverage))

    def _check(self, found: Coverage) -> str:
        column = self.baseline.baseline_column
        what = f"{self.baseline.kind} '{column}'" if column else self.baseline.kind
        return check_coverage(found, what, allowed=self.baseline.allow_uncovered)

    def record(self) -> dict[str, Any]:
        """For settings.json."""
        measured = None
        if self.coverage is not None:
            measured = self.coverage._asdict() | {
                "most_uncovered": MOST_UNCOVERED,
                "covered": self.coverage.uncovered <= MOST_UNCOVERED,
            }
        record: dict[str, Any] = {"kind": self.baseline.kind, "coverage": measured}
        if self.sft is not None:
            record |= {
                "sft_data_sha256": self.sft.report.sha256,
                "sft_prompts": len(self.sft.train),
                "sft_prompts_held_out": len(self.sft.held_out),
                "sft_prompts_per_step": self._per_step(len(self.sft.train)),
            }
        return record

    def carry(
        self,
        train: tuple[Sequence[PreferenceExample], list[TokenizedExample]],
        held_out: tuple[Sequence[PreferenceExample], list[TokenizedExample]],
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_length: int | None,
        folder: RunFolder,
    ) -> Carried:
        """Put the baseline on the examples.

        Args:
            train, held_out: the examples, and the tokens of those of them that were kept.
            model: the reference.
            tokenizer: its tokenizer.
            max_length: most tokens of prompt plus response.
            folder: keeps samples of the reference, and gives those that an earlier part of the run drew.

        Raises:
            DataError: an example has no baseline, or one that is too long.
            UsageError: the comparisons do not cover samples of the reference and that is not allowed.
            RunError: kept samples are of other data.
        """
        on_long = self.settings.source.on_long
        if not any(t.comparisons for t in train[1]):
            return Carried([over_responses(t) for t in train[1]], [over_responses(t) for t in held_out[1]])
        if self.baseline.kind == "all-responses":
            return Carried([over_compared(t) for t in train[1]], [over_compared(t) for t in held_out[1]])
        if self.baseline.kind == "column":
            parts = [
                with_column(*part, tokenizer, max_length=max_length, on_long=on_long) for part in (train, held_out)
            ]
            return Carried(parts[0], parts[1])
        if self.baseline.kind == "reference-samples":
            return self._sampled(train[1], held_out[1], model, tokenizer, folder)
        if self.sft is not None:
            parts_of = [
                tokenize_examples(p, tokenizer, max_length=max_length, on_long=on_long)
                for p in (self.sft.train, self.sft.held_out)
            ]
            dropped = [row for part in parts_of for row in part.dropped]
            refuse_dropped(with_dropped(self.sft.report, dropped), self.settings.source.max_drop)
            if dropped or any(part.truncated for part in parts_of):
                cut = sum(len(part.truncated) for part in parts_of)
                self.lines.append(f"SFT file as tokens: {len(dropped)} prompts left out, {cut} truncated")
            demonstrations = [[over_responses(t) for t in part.examples] for part in parts_of]
            if not demonstrations[0]:
                raise DataError(
                    f"none of the {len(self.sft.train)} prompts to train on has at most {max_length} tokens. Raise "
                    "--max-length.",
                    file=self.baseline.sft_data,
                )
            return Carried(
                [t._replace(baseline=()) for t in train[1]],
                [t._replace(baseline=()) for t in held_out[1]],
                SftTrees(demonstrations[0], demonstrations[1], self._per_step(len(demonstrations[0]))),
            )
        return Carried(train[1], held_out[1])

    def _per_step(self, available: int) -> int:
        wanted = self.baseline.sft_prompts_per_step or self.settings.optimization.prompts_per_step
        return min(wanted, available)

    def _sampled(
        self,
        train: list[TokenizedExample],
        held_out: list[TokenizedExample],
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        folder: RunFolder,
    ) -> Carried:
        # Only what the steps reach and what is measured: sampling the rest would be for nothing.
        train = visited(train, self.settings.optimization)
        measured, rest = held_out[: (n := self.settings.observation.held_out_examples)], held_out[n:]
        kept = folder.read_lines(_SAMPLES)
        if kept:
            samples = ReferenceSamples(kept)
        else:
            model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
            optimization, baseline = self.settings.optimization, self.baseline
            assert baseline.baseline_samples is not None and baseline.baseline_max_tokens is not None
            how = Draw(
                baseline.baseline_samples, baseline.baseline_max_tokens, optimization.seed, optimization.autocast
            )
            if self.settings.objective.name == "rpo" and not baseline.allow_uncovered:
                first = train[:_FIRST_LOOK]
                looked = ReferenceSamples.of(model, tokenizer, first, how).baseline_of(first)
                self._check(samples_coverage(looked, train))
            samples = ReferenceSamples.of(model, tokenizer, [*train, *measured], how)
        carried = Carried(samples.baseline_of(train), [*samples.baseline_of(measured), *rest])
        if self.settings.objective.name == "rpo":
            self.coverage = samples_coverage(carried.train, train)
            self.lines.append(self._check(self.coverage))
        self.lines.append(
            f"baseline reference-samples: {len(samples.records)} prompts, {samples.finished:.0%} of their answers "
            f"ended within {self.baseline.baseline_max_tokens} tokens" + (" (from the run folder)" if kept else "")
        )
        if not kept:
            folder.write_lines(_SAMPLES, samples.records)
        return carried
