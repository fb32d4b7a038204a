"""``safetyvalve sample``: a pool of answers of a model to prompts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from safetyvalve.errors import UsageError

if TYPE_CHECKING:
    from safetyvalve.data import Place, Prompt

__all__ = ["sample"]


def sample(
    model: Annotated[str, typer.Argument(help="Run folder, model folder, alias or hub name.", show_default=False)],
    prompts: Annotated[
        Path | None, typer.Option(help="JSONL with prompt, or one prompt a line.", show_default=False)
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Preference data or prompts with responses, for its prompts.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="JSONL to add to. Default: pool.jsonl in the run, else pool.jsonl here."),
    ] = None,
    n: Annotated[int, typer.Option("--n", "-n", help="Answers a prompt.")] = 4,
    max_prompts: Annotated[int | None, typer.Option(help="Take the first this many prompts. Default: all.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Length limit of an answer.")] = 64,
    temperature: Annotated[float, typer.Option(help="1 samples from the model itself.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    precision: Annotated[
        Literal["auto", "bf16", "fp32"], typer.Option(help="Arithmetic; auto takes bf16 where it is faster.")
    ] = "auto",
    token_budget: Annotated[
        int, typer.Option(help="Tokens of answers drawn together, prompts included; bounds the memory.")
    ] = 24576,
    chat_template: Annotated[Path | None, typer.Option(help="Jinja file that replaces the tokenizer's.")] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that comes with the model.")
    ] = False,
) -> None:
    """Draw a pool of answers, one JSON object a line, from the whole distribution (no top-k, no top-p).

    The same command goes on where it was stopped, and with a larger --n it adds answers. Score the pool with
    `safetyvalve reward score`, and read its best-of-n curve with `safetyvalve diagnose --pool FILE`.
    """
    from tqdm import tqdm

    from safetyvalve.generation import PoolSettings, draw_pool, ready_prompts
    from safetyvalve.models import load_model
    from safetyvalve.precision import settled
    from safetyvalve.trees import weights_hash

    asked = _prompts(prompts, data)
    target = output or (Path(model) / "pool.jsonl" if (Path(model) / "config.yaml").is_file() else Path("pool.jsonl"))
    loaded, tokenizer = load_model(model, chat_template=chat_template, trust_remote_code=trust_remote_code)
    _to_gpu(loaded)
    ready = ready_prompts(asked, loaded, tokenizer, max_new_tokens=max_new_tokens)[:max_prompts]
    name = Path(model).resolve().name if Path(model).is_dir() else model
    settings = PoolSettings(name, weights_hash(loaded), n, max_new_tokens, temperature, seed, settled(precision))
    with tqdm(total=n * len(ready), unit="answer", desc="sampling", file=sys.stderr) as bar:
        drawn = draw_pool(
            target,
            ready,
            loaded,
            tokenizer,
            settings,
            token_budget=token_budget,
            progress=lambda done, total: bar.update(done - bar.n) and None,
        )
    known = f", {drawn.present} were there" if drawn.present else ""
    print(f"{target}: {drawn.added} answers to {len(ready)} prompts added{known}")


def _prompts(prompts: Path | None, data: str | None) -> list[tuple[Prompt, Place | None]]:
    from safetyvalve.data import holds_demonstrations, load_demonstrations, load_preferences, load_serving_prompts

    if (prompts is None) == (data is None):
        raise UsageError("prompts come from --prompts FILE or --data FILE; exactly one is accepted. Name one.")
    if prompts is not None:
        return [(p.prompt, p.place) for p in load_serving_prompts(prompts)]
    assert data is not None
    load = load_demonstrations if holds_demonstrations(data) else load_preferences
    return [(e.prompt, e.place) for e in load(data).examples]


def _to_gpu(model: object) -> None:
    import torch

    if torch.cuda.is_available():
        model.to("cuda")  # type: ignore[attr-defined]
