"""Observations from what safetyvalve itself writes: verdict files, and samples of a run with their rewards."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetyvalve.data.sources import open_source
from safetyvalve.errors import DataError, ReleaseError
from safetyvalve.release.staged.observations import AHEAD_MS, Raw, Source, Variant, stamp
from safetyvalve.release.staged.settings import Settings
from safetyvalve.stats import Verdict, read_verdicts, resolve

__all__ = ["BOTH_BAD", "is_verdict_file", "read_samples", "read_verdict_rows"]

BOTH_BAD = "both_bad_rate"
"""Guardrail that takes its values from verdict files, as people's win rate does."""
_SAMPLES = re.compile(r"step-(\d+)\.jsonl")


def is_verdict_file(file: Path) -> bool:
    """Whether a file's first row is a verdict; what cannot be read is left for the reader to say."""
    try:
        first = next(iter(open_source(file).rows), None)
    except DataError:
        return False
    columns = set() if first is None else set(first.fields)
    return bool(columns & {"verdict", "winner", "cmp_key"}) and "metric" not in columns


def read_verdict_rows(file: Path, settings: Settings, *, now: int) -> tuple[list[Raw], dict[str, int]]:
    """The candidate's score on each prompt, and the share of both-bad verdicts, of people and of judges apart.

    A prompt is one unit, with the mean of its raters' verdicts and the time of the last. Verdicts without a time have
    the time of recording.

    Raises:
        DataError: the file cannot be read, a time is in the future, or no verdict is about the two models.
    """
    verdicts = read_verdicts(file).verdicts
    pair = sorted((settings.candidate, settings.control))
    ours = [v for v in verdicts if sorted((v.model_a, v.model_b)) == pair]
    left_out = Counter({"other models": len(verdicts) - len(ours), "gold items": sum(v.gold for v in ours)})
    times = _times(ours, now)
    groups: dict[tuple[str, Source], list[tuple[float, bool]]] = {}
    for entry in resolve(ours):
        if entry.score is None:
            left_out["no verdict"] += 1
            continue
        source: Source = "people" if entry.kind == "human" else "judge"
        score = entry.score if entry.model_a == settings.candidate else 1 - entry.score
        groups.setdefault((entry.prompt, source), []).append((score, entry.verdict == "both_bad"))
    if not groups:
        raise DataError(
            f"no verdict is about {settings.candidate!r} and {settings.control!r}; verdicts on these two are accepted. "
            "Name them in release.yaml as the file does.",
            file=file,
        )
    rows = []
    for number, ((prompt, source), values) in enumerate(sorted(groups.items(), key=lambda g: times[g[0]]), 1):
        at = times[prompt, source]
        if at > now + AHEAD_MS:
            raise DataError(f"a verdict on prompt {prompt!r} is of {stamp(at)}, in the future. Mend it.", file=file)
        scores, bad = zip(*values, strict=True)
        for metric, value in ((settings.valve.win_rate, _mean(scores)), (BOTH_BAD, _mean(bad))):
            if settings.guardrail(metric) is not None:
                rows.append(Raw(at, None, metric, "candidate", prompt, source, value, number))
    if not rows:
        raise DataError(
            f"no guardrail takes verdicts; one named {settings.valve.win_rate} or {BOTH_BAD} does. Add it to "
            "release.yaml before the first observation.",
            file=file,
        )
    return rows, {reason: n for reason, n in left_out.items() if n}


def _times(verdicts: Iterable[Verdict], now: int) -> dict[tuple[str, Source], int]:
    """When the last verdict on a prompt was given."""
    found: dict[tuple[str, Source], int] = {}
    for v in verdicts:
        at = now if v.time is None else round(v.time.timestamp() * 1000)
        key: tuple[str, Source] = (v.prompt_id, "people" if v.rater_kind == "human" else "judge")
        found[key] = max(at, found.get(key, 0))
    return found


def _mean(values: Iterable[float]) -> float:
    listed = [float(v) for v in values]
    return sum(listed) / len(listed)


def read_samples(run: Path, settings: Settings, variant: str | None, *, now: int) -> list[Raw]:
    """The mean learned reward of a run's last answers to each prompt.

    Taken is ``proxy_reward``, a reward model's score of the answers; there is no fallback to the policy's own implicit
    reward, which grows with the distance from its reference whatever was learned.

    Raises:
        ReleaseError: no variant was said.
        DataError: there are no samples, or they carry no reward.
    """
    if variant not in ("candidate", "control"):
        raise ReleaseError(f"--variant is {variant!r}; candidate or control says whose answers the run '{run}' holds.")
    files = {int(m[1]): f for f in (run / "samples").glob("*.jsonl") if (m := _SAMPLES.fullmatch(f.name))}
    if not files:
        raise DataError("has no samples/step-N.jsonl; a run folder with samples is accepted.", file=run)
    file = files[max(files)]
    groups: dict[str, list[float]] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").split("\n")[:-1], 1):
        row: dict[str, Any] = json.loads(line)
        value = row.get("proxy_reward")
        if not isinstance(value, int | float):
            raise DataError(
                "is missing; the valve needs a reward model's score of each answer. Train with `--proxy FOLDER`.",
                file=file,
                row=number,
                field="proxy_reward",
            )
        groups.setdefault(str(row["probe"]), []).append(float(value))
    whose: Variant = "candidate" if variant == "candidate" else "control"
    name = settings.valve.reward
    return [Raw(now, None, name, whose, p, "records", _mean(v), i) for i, (p, v) in enumerate(groups.items(), 1)]
