"""``safetyvalve reward train``: comparisons to a reward model or an ensemble."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from safetyvalve.cli.allocator import keep_freed_memory
from safetyvalve.cli.configured import config_option
from safetyvalve.cli.train import held_out_of, next_folder

__all__ = ["train"]

_DATA, _ENSEMBLE, _OPTIMIZATION = "Data and model", "Members and loss", "Optimization"


def _option(default: Any, group: str, help: str, *names: str) -> Any:
    return typer.Option(default, *names, help=help, rich_help_panel=group, show_default=default is not None)


def train(
    config: Path | None = config_option(_DATA),
    data: str = _option(..., _DATA, "Comparisons, as `safetyvalve train --data`."),
    model: str = _option("smollm2-135m", _DATA, "Causal model or encoder: alias, local folder or hub name."),
    output: Path | None = _option(None, _DATA, "Run folder to make; runs/reward-N by default."),
    version: str = _option("1", _DATA, "What this reward model is called in its record and card, such as a date."),
    format: str = _option("auto", _DATA, "Form of the rows, see docs/data.md; auto recognises it."),
    encoding: str = _option("auto", _DATA, "Of text files, such as cp932; auto recognises it or refuses."),
    max_drop: float = _option(0.01, _DATA, "Largest share of rows that may be dropped."),
    held_out: str = _option("0.1", _DATA, "Share (0.1) or number (200) of examples kept for measuring."),
    split_seed: int = _option(0, _DATA, "Chooses the held-out conversations."),
    max_examples: int | None = _option(
        None, _DATA, "Most examples that are used, held-out ones included; --split-seed chooses them. Default: all."
    ),
    max_length: int | None = _option(None, _DATA, "Most tokens of prompt plus response; default: the context."),
    on_long: str = _option("error", _DATA, "What to do with longer ones: error, drop or truncate."),
    chat_template: Path | None = _option(None, _DATA, "Jinja file that replaces the tokenizer's chat template."),
    trust_remote_code: bool = _option(False, _DATA, "Run code that comes with the model.", "--trust-remote-code"),
    allow_pickle: bool = _option(False, _DATA, "Accept pickled weights, which can run code.", "--allow-pickle"),
    members: int = _option(1, _ENSEMBLE, "Rewards a response gets; more than one is an ensemble."),
    sharing: str = _option(
        "heads", _ENSEMBLE, "What members share: heads (one trunk), lora (a frozen base) or separate (nothing)."
    ),
    diversity: str = _option(
        "bootstrap", _ENSEMBLE, "What makes members differ: bootstrap (of conversations) or seed (of their start)."
    ),
    freeze: bool = _option(False, _ENSEMBLE, "Train the heads alone.", "--freeze"),
    margin: float = _option(0.0, _ENSEMBLE, "By how much a comparison of weight 1 is to be won."),
    centering: float = _option(0.0, _ENSEMBLE, "Weight of the squared sum of a pair's rewards; keeps them near 0."),
    aggregation: str = _option(
        "mean", _ENSEMBLE, "How one number is made of the members: mean, min, mean-std or mean-variance."
    ),
    k: float = _option(1.0, _ENSEMBLE, "Of mean-std and mean-variance."),
    width: str = _option(
        "features", _ENSEMBLE, "Last-layer confidence width: features, differences or none; see docs/rewards.md."
    ),
    ridge: float = _option(1.0, _ENSEMBLE, "Of the width, above 0."),
    fine_tune: str = _option("full", _OPTIMIZATION, "full (all weights) or lora (adapters)."),
    lora_rank: int | None = _option(None, _OPTIMIZATION, "Rank of the adapters; default 16."),
    lora_alpha: int | None = _option(None, _OPTIMIZATION, "They are scaled by alpha / rank; default: twice the rank."),
    lora_targets: str | None = _option(
        None, _OPTIMIZATION, "Linear layers that get one, such as q_proj,v_proj; default: all-linear."
    ),
    save_dtype: str = _option("fp32", _OPTIMIZATION, "Of the saved weights: fp32 or bf16."),
    steps: int = _option(200, _OPTIMIZATION, "Optimizer steps."),
    prompts_per_step: int = _option(16, _OPTIMIZATION, "Prompts of a step."),
    learning_rate: float | None = _option(
        None, _OPTIMIZATION, "Of AdamW. Default 2e-5; 2e-4 for adapters; 1e-3 for heads alone."
    ),
    warmup_share: float = _option(0.1, _OPTIMIZATION, "Share of the steps in which the rate rises."),
    schedule: str = _option("linear", _OPTIMIZATION, "After the warm-up: constant, linear or cosine."),
    max_grad_norm: float = _option(1.0, _OPTIMIZATION, "Gradients are clipped to this norm; 0 does not clip."),
    weight_decay: float = _option(0.0, _OPTIMIZATION, "Of AdamW."),
    precision: str = _option("auto", _OPTIMIZATION, "bf16 arithmetic (weights stay fp32), fp32, or auto, the faster."),
    engine: str = _option("auto", _OPTIMIZATION, "Forward: auto, tree (each prompt once) or padded (plain)."),
    token_budget: int = _option(
        2048, _OPTIMIZATION, "Tokens of a micro-batch; bounds the memory, changes nothing else."
    ),
    memory: str = _option(
        "normal", _OPTIMIZATION, "normal, or low: each layer computed twice instead of kept; the same result."
    ),
    seed: int = _option(0, _OPTIMIZATION, "Of data order, heads, adapters and bootstrap."),
    eval_every: int = _option(50, _OPTIMIZATION, "Steps between measurements on held-out comparisons."),
    held_out_examples: int = _option(256, _OPTIMIZATION, "Held-out examples that are measured on the way."),
    checkpoint_every: int = _option(
        50, _OPTIMIZATION, "Steps between checkpoints, for `safetyvalve resume`; 0: only when stopped."
    ),
) -> None:
    """Train a reward model, or an ensemble, on comparisons by the Bradley-Terry loss.

    The model in RUN/model is a sequence classifier that plain transformers loads. After a stop, go on with
    `safetyvalve resume RUN`.
    """
    keep_freed_memory()
    from safetyvalve.rewards import Aggregation
    from safetyvalve.training import Checkpointing, DataSource, FineTuning, ModelSource, Optimization, Progress
    from safetyvalve.training.reward import Ensemble, Learning, RewardSettings, Uncertainty, train_reward

    folder = output or next_folder("reward")
    settings = RewardSettings(
        name=folder.name,
        version=version,
        source=DataSource(
            data,
            format=format,
            max_drop=max_drop,
            held_out=held_out_of(held_out),
            split_seed=split_seed,
            max_length=max_length,
            on_long=on_long,
            encoding=encoding,
            max_examples=max_examples,
        ),
        model=ModelSource(model, chat_template, trust_remote_code, allow_pickle),
        ensemble=Ensemble(members, sharing, diversity, freeze),
        learning=Learning(margin, centering),
        uncertainty=Uncertainty(width, ridge),
        aggregation=Aggregation(aggregation, k),
        optimization=Optimization(
            steps=steps,
            prompts_per_step=prompts_per_step,
            learning_rate=learning_rate,
            warmup_share=warmup_share,
            schedule=schedule,  # type: ignore[arg-type]
            max_grad_norm=max_grad_norm,
            weight_decay=weight_decay,
            precision=precision,
            engine=engine,
            token_budget=token_budget,
            memory=memory,
            seed=seed,
        ),
        fine_tuning=FineTuning(fine_tune, lora_rank, lora_alpha, lora_targets, save_dtype=save_dtype),
        checkpointing=Checkpointing(checkpoint_every),
        eval_every=eval_every,
        held_out_examples=held_out_examples,
    )
    result = train_reward(settings, folder, progress=Progress(name=settings.name))
    accuracy = result.held_out.get("held_out/accuracy")
    said = "" if accuracy is None else f"; held-out accuracy {accuracy:.3f} (intervals: safetyvalve reward evaluate)"
    typer.echo(f"{result.folder / 'model'}{said}")
