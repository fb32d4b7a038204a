"""``safetyvalve tour``: the whole road from data to a decision, by one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

__all__ = ["tour"]


def tour(
    output: Annotated[Path, typer.Option(help="Folder to make; it must not exist or be empty.")] = Path("runs/tour"),
    model: Annotated[str, typer.Option(help="Alias, local folder or hub name.")] = "smollm2-135m",
    steps: Annotated[int, typer.Option(min=2, help="Optimizer steps of DPO and of RPO each.")] = 24,
    prompts: Annotated[int, typer.Option(min=4, help="Prompts that are answered and judged.")] = 96,
    lang: Annotated[Literal["en", "ja"], typer.Option(help="Language of pages and tables.")] = "en",
    seed: Annotated[int, typer.Option(min=0, help="Of training and of the scripted annotators.")] = 0,
) -> None:
    """Go the whole road for real: data check, plan, DPO and RPO, diagnosis, judging, return, two stages, report.

    Every command is printed before it runs and can be repeated by hand. Scripted annotators judge in the real
    labelling app, tickets are an example, traffic is simulated; the report says so.
    """
    from safetyvalve.lab.tour.road import Road, travel

    travel(output, Road(model=model, steps=steps, prompts=prompts, lang=lang, seed=seed), _say)


def _say(line: str) -> None:
    print(line, flush=True)
