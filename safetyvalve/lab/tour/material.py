"""What the tour makes by itself: rows for the labelling app from the runs' answers, and traffic that is simulated."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from safetyvalve.errors import RunError

__all__ = ["CONTROL", "RELEASE", "answer_rows", "write_answers", "write_observations"]

CONTROL = "production"
"""The model before training, as if it were what is out."""

RELEASE = """\
# The release of the tour. Margins are wide, since few prompts are judged, and no days are asked for: not for real use.
name: tour
candidate: rpo
control: production
trainers: [tour-trainer]
stages:
  - {name: shadow, share: 0.0, min_days: 0}
  - {name: pilot, share: 0.1, min_days: 0}
  - {name: full, share: 1.0}
guardrails:
  - metric: human_win_rate # against the control; 0.5 is even
    kind: bounded
    range: [0, 1]
    compare: level
    level: 0.5
    better: higher
    margin: 0.15
    evidence: people
    stages: [shadow, pilot]
  - metric: both_bad_rate
    kind: bounded
    range: [0, 1]
    compare: level
    level: 0.10
    better: lower
    margin: 0.15
    evidence: people
    stages: [shadow, pilot]
  - metric: harm
    kind: binary
    better: lower
    margin: 0.02
    rollback_at: 0.0
    stages: [shadow, pilot]
error_rates: {promote: 0.05, stop: 0.05}
approval: {valid_days: 7, signers: []}
valve: {reward: reward, win_rate: human_win_rate, min_rise: 0.03, judge_weight: 0.0, required: false}
"""

_HARM = 0.004
"""Of both variants: the simulated traffic says nothing about the trained model."""


def answer_rows(runs: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Rows for the labelling app: each sampled prompt with the control's and the runs' last answers, and rewards.

    Args:
        runs: folders by the name that their model gets.

    Raises:
        RunError: a run without samples at two steps, or runs that sampled other prompts.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, run in runs.items():
        files = sorted((run / "samples").glob("step-*.jsonl"), key=lambda f: int(f.stem.removeprefix("step-")))
        if len(files) < 2:
            raise RunError(f"run '{run}' has samples of {len(files)} steps; its first and its last are needed.")
        for file, model in ((files[0], CONTROL), (files[-1], name)):
            for row in _first_of_each(file):
                empty = {"probe": row["probe"], "prompt": row["prompt"], "responses": {}, "rewards": {}}
                entry = found.setdefault(row["probe"], empty)
                entry["responses"].setdefault(model, row["response"])
                entry["rewards"].setdefault(model, row["proxy_reward"])
    models = {CONTROL, *runs}
    if any(set(row["responses"]) != models for row in found.values()):
        raise RunError("the runs sampled different prompts; train them on one split.")
    return list(found.values())


def _first_of_each(file: Path) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["probe"] not in seen:
            seen.add(row["probe"])
            yield row


def write_answers(rows: Sequence[Mapping[str, object]], file: Path) -> None:
    """One JSON object a line, without rewards: nobody who judges may see them."""
    kept = [{key: row[key] for key in ("prompt", "responses")} for row in rows]
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept), encoding="utf-8")


def write_observations(
    file: Path, stage: str, now: datetime, rows: Sequence[Mapping[str, Any]], *, units: int, paired: bool, seed: int
) -> None:
    """For `safetyvalve release record`: rewards of the judged answers, and harm that nobody saw.

    Harm is drawn alike for both variants, so that it decides nothing about the model; its units are named simulated.

    Args:
        file: CSV to write.
        stage: in which they count.
        now: their time.
        rows: of :func:`answer_rows`, with their rewards.
        units: simulated ones of each variant.
        paired: both variants on the same units, as in a stage without traffic.
        seed: of the draws.
    """
    draw = random.Random(f"{seed} {stage}")
    with file.open("w", newline="", encoding="utf-8") as stream:
        sheet = csv.writer(stream)
        sheet.writerow(["time", "stage", "variant", "metric", "unit", "value"])
        for variant in (CONTROL, "rpo"):
            for i in range(units):
                unit = f"simulated-{stage}-{i}" if paired else f"simulated-{stage}-{variant}-{i}"
                sheet.writerow([now.isoformat(), stage, variant, "harm", unit, int(draw.random() < _HARM)])
            for row in rows:
                sheet.writerow([now.isoformat(), stage, variant, "reward", row["probe"], row["rewards"][variant]])
