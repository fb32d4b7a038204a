"""What every training starts with: rows chosen, tokenized and split, and the check that a resumed run begins alike."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safetyvalve.data import (
    DataReport,
    Loaded,
    PreferenceExample,
    Reading,
    Split,
    TokenizedExample,
    choose_examples,
    examine,
    refuse_dropped,
    tokenize_examples,
)
from safetyvalve.errors import DataError, RunError
from safetyvalve.models import cache_folder
from safetyvalve.training.progress import Progress
from safetyvalve.training.sources import DataSource

__all__ = ["TokenizedSplit", "choose", "compare_environments", "tokenize_split"]


def choose(loaded: Loaded, source: DataSource, progress: Progress) -> Loaded:
    """At most ``max_examples`` of what was read."""
    if source.max_examples is None:
        return loaded
    chosen = choose_examples(loaded.examples, source.max_examples, seed=source.split_seed)
    progress.line(f"using {len(chosen)} of {len(loaded.examples)} examples, chosen by --split-seed {source.split_seed}")
    return Loaded(chosen, loaded.report.model_copy(update={"chosen": len(chosen)}))


class TokenizedSplit(NamedTuple):
    """Examples with their tokens, apart as the split says."""

    train: list[tuple[PreferenceExample, TokenizedExample]]
    held_out: list[tuple[PreferenceExample, TokenizedExample]]
    report: DataReport
    limit: int | None
    """Most tokens of prompt plus response."""


def tokenize_split(
    source: DataSource,
    name: str,
    loaded: Loaded,
    split: Split,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    keep: bool = True,
) -> TokenizedSplit:
    """Tokenize what was read, and report on it.

    Args:
        source: gives the limit and what becomes of longer examples.
        name: of the model.
        loaded, split: the data.
        model: gives the limit where ``source`` does not.
        tokenizer: of the model.
        keep: leave the tokens in the cache for the next run.

    Raises:
        DataError: too much was dropped, or nothing is left to train on.
    """
    limit = source.max_length
    if limit is None:
        limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    # The split came before rows are left out, so that the held-out conversations do not depend on model and limit.
    apart = set(map(id, split.held_out))
    kept = cache_folder() / "tokens" if keep else None
    done = tokenize_examples(loaded.examples, tokenizer, max_length=limit, on_long=source.on_long, cache_folder=kept)
    report = examine(loaded, Reading(name, tokenizer, limit, source.on_long, done))
    refuse_dropped(report, source.max_drop)
    both = list(zip(done.kept, done.examples, strict=True))
    train, held_out = [p for p in both if id(p[0]) not in apart], [p for p in both if id(p[0]) in apart]
    if not train:
        raise DataError(f"no example is left to train on: {len(report.dropped)} of {report.rows} rows were dropped.")
    return TokenizedSplit(train, held_out, report, limit)


def compare_environments(before: Mapping[str, Any], now: Mapping[str, Any], output: Path, progress: Progress) -> None:
    """Refuse to resume on other data or another model; say what makes the result differ in its last bits."""
    for key, what in (
        ("data_sha256", "data file"),
        ("sft_data_sha256", "SFT file"),
        ("train_ids_sha256", "choice of training examples"),
        ("model_sha256", "model that training started from"),
        ("reward_sha256", "reward model"),
    ):
        if before.get(key) != now.get(key):
            raise RunError(
                f"the {what} of '{output}' has changed since the run began (sha256 {str(before.get(key))[:12]} then, "
                f"{str(now.get(key))[:12]} now); a run is resumed on what it began with. Restore it, or start a new "
                "run."
            )
    for key in ("torch_threads", "cpu_capability", "processor", "gpus", "packages"):
        if before.get(key) != now[key]:
            progress.line(
                f"{key} was {before.get(key)} and is {now[key]}: the result will not be bitwise that of a run that was "
                "never stopped"
            )
