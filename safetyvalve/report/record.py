"""A run folder as one record: what is there, what is missing, and nothing guessed."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from safetyvalve.errors import RunError, shorten

__all__ = ["Answer", "RunRecord", "check_names", "json_lines", "number", "read_run"]

_OPTIONAL = ("settings.json", "data_report.json", "environment.json")
_SAMPLES = re.compile(r"step-(\d+)\.jsonl")
_NAME_LIMIT = 60


class Answer(NamedTuple):
    """One sampled answer."""

    prompt_id: str
    prompt: tuple[tuple[str, str], ...]
    """(role, content) of each turn."""
    response: str
    tokens: float | None
    finished: float | None
    """1 if it ended by itself, 0 if at the length limit."""
    repetition: float | None
    """Share of n-grams that occurred before in the answer, in [0, 1]."""
    kl: float | None
    """KL to the reference along the answer, in nats."""
    score: float | None
    """Independent score; None where there is none."""
    response_id: str = ""
    """Empty where it was not recorded."""
    proxy_reward: float | None = None
    proxy_spread: float | None = None
    """Population standard deviation of the proxy over its members."""
    proxy_width: float | None = None
    held_out_member: float | None = None
    """Reward of a model that learned from other comparisons than the proxy."""


@dataclass(frozen=True)
class RunRecord:
    """Everything a report says about one run."""

    name: str
    folder: str
    """Last part of the folder's path."""
    config: Mapping[str, Any]
    train: Sequence[Mapping[str, Any]]
    """Lines of kind ``train``, by step."""
    evaluations: Sequence[Mapping[str, Any]]
    """Lines of kind ``evaluation``, by step, the last line of a step."""
    samples: Mapping[int, Sequence[Answer]]
    """Answers by step, in file order."""
    settings: Mapping[str, Any] | None = None
    data_report: Mapping[str, Any] | None = None
    environment: Mapping[str, Any] | None = None
    diagnosis: Mapping[str, Any] | None = None
    """What `safetyvalve diagnose` found, as its file holds it."""
    alarms: Sequence[Mapping[str, Any]] = ()
    """Lines of ``alarms.jsonl``, in its order."""
    stopped: Mapping[str, Any] | None = None
    """Step and reason of an end before the last step, by the run's own rule."""
    selection: Mapping[str, Any] | None = None
    """Which evaluation's weights became the model, where that was chosen by the independent score."""
    missing: tuple[str, ...] = ()
    """Files that a whole run has and this one has not."""
    cut: tuple[str, ...] = ()
    """Files whose last line is half written and was left out."""

    def series(self, metric: str) -> tuple[list[int], list[float]]:
        """Steps and values of an evaluation metric, where it was recorded and is finite."""
        points = [(int(e["step"]), number(e.get(metric))) for e in self.evaluations]
        kept = [(step, value) for step, value in points if value is not None]
        return [step for step, _ in kept], [value for _, value in kept]

    def by_prompt(self, step: int, field: str) -> dict[str, float]:
        """Mean of a field of :class:`Answer` over a prompt's answers at a step; prompts without a value left out."""
        groups: dict[str, list[float]] = {}
        for answer in self.samples.get(step, ()):
            value = getattr(answer, field)
            if value is not None:
                groups.setdefault(answer.prompt_id, []).append(float(value))
        return {prompt: sum(values) / len(values) for prompt, values in groups.items()}

    @property
    def last_step(self) -> int:
        """Step of the last evaluation; -1 where there is none."""
        return int(self.evaluations[-1]["step"]) if self.evaluations else -1

    @property
    def planned_steps(self) -> int | None:
        value = number(self.config.get("steps"))
        return None if value is None else int(value)


def read_run(path: str | Path) -> RunRecord:
    """Read a run folder.

    Raises:
        RunError: no such folder, no ``config.yaml`` or ``metrics.jsonl``, or a file that is damaged before its end.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise RunError(
            f"run folder '{folder}' does not exist or is no folder; a folder that `safetyvalve train` wrote is "
            "accepted. Check the path."
        )
    config = _config(folder)
    lines, metrics_cut = json_lines(_required(folder, "metrics.jsonl"))
    if not lines:
        raise RunError(
            f"'{folder / 'metrics.jsonl'}' holds no whole line; a report needs at least one record. The run stopped "
            "before its first evaluation: train again into a new folder."
        )
    cut = ["metrics.jsonl"] if metrics_cut else []
    samples: dict[int, list[Answer]] = {}
    for step, file in _sample_files(folder):
        rows, half = json_lines(file)
        samples[step] = [_answer(row, file, i) for i, row in enumerate(rows, 1)]
        cut += [f"samples/{file.name}"] if half else []
    alarms: list[dict[str, Any]] = []
    if (folder / "alarms.jsonl").is_file():
        alarms, half = json_lines(folder / "alarms.jsonl")
        cut += ["alarms.jsonl"] if half else []
    optional = {name: _json_object(folder / name) for name in _OPTIONAL}
    missing = [name for name, value in optional.items() if value is None]
    return RunRecord(
        name=_clean_name(config.get("name") or folder.resolve().name),
        folder=folder.resolve().name,
        config=config,
        train=_of_kind(lines, "train", folder),
        evaluations=_of_kind(lines, "evaluation", folder),
        samples=samples,
        settings=optional["settings.json"],
        data_report=optional["data_report.json"],
        environment=optional["environment.json"],
        diagnosis=_json_object(folder / "diagnose.json"),
        alarms=alarms,
        stopped=_json_object(folder / "stopped.json"),
        selection=_json_object(folder / "selection.json"),
        missing=tuple(missing + ([] if samples else ["samples/"])),
        cut=tuple(cut),
    )


def check_names(records: Sequence[RunRecord]) -> None:
    """Refuse an empty report and two runs of one name.

    Raises:
        RunError: no runs, or a name that occurs twice.
    """
    if not records:
        raise RunError("no runs were given; a report needs at least one run folder. Name one.")
    seen: dict[str, str] = {}
    for record in records:
        if record.name in seen:
            raise RunError(
                f"the runs in '{seen[record.name]}' and '{record.folder}' are both named {shorten(record.name)}; a "
                "report needs distinct names. Give each folder once, or change `name` in one config.yaml."
            )
        seen[record.name] = record.folder


def number(value: object) -> float | None:
    """A finite number as a float; None for everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _required(folder: Path, name: str) -> Path:
    file = folder / name
    if not file.is_file():
        raise RunError(
            f"run folder '{folder}' has no {name}; a report needs config.yaml and metrics.jsonl. Name the folder that "
            "`safetyvalve train --output` made, not one inside or above it."
        )
    return file


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise RunError(f"'{file}' cannot be read ({error.strerror}); a readable file is needed. Mend it.") from None
    except UnicodeDecodeError as error:
        raise RunError(
            f"'{file}' is not UTF-8 at byte {error.start}; the files of a run are UTF-8. Restore it from a copy."
        ) from None


def _config(folder: Path) -> dict[str, Any]:
    file = _required(folder, "config.yaml")
    try:
        value = yaml.safe_load(_text(file))
    except yaml.YAMLError as error:
        raise RunError(f"'{file}' is not YAML ({shorten(str(error), 160)}); restore it from a copy.") from None
    if not isinstance(value, dict):
        raise RunError(f"'{file}' holds {shorten(value)}; a mapping of settings is accepted. Restore it from a copy.")
    return {str(key): item for key, item in value.items()}


def _json_object(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        value = json.loads(_text(file))
    except json.JSONDecodeError as error:
        raise RunError(f"'{file}' is not JSON ({error}); restore it from a copy, or remove it.") from None
    if not isinstance(value, dict):
        raise RunError(f"'{file}' holds {shorten(value)}; a JSON object is accepted. Restore it, or remove it.")
    return value


def json_lines(file: Path) -> tuple[list[dict[str, Any]], bool]:
    """Whole lines, and whether a last one was half written (as an interrupted run leaves it)."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise RunError(f"'{file}' cannot be read ({error.strerror}); a readable file is needed. Mend it.") from None
    lines = [(i, line) for i, line in enumerate(data.split(b"\n"), 1) if line.strip()]
    rows: list[dict[str, Any]] = []
    for i, line in lines:
        try:
            row = json.loads(line.decode("utf-8"))
        except ValueError:
            row = None
        if isinstance(row, dict):
            rows.append(row)
        elif i == lines[-1][0] and not data.endswith(b"\n"):
            return rows, True
        else:
            raise RunError(
                f"line {i} of '{file}' is {shorten(line.decode('utf-8', 'replace'))}; every line is one JSON object. "
                "Only the last line of an interrupted run may be half written: restore the file, or remove that line."
            )
    return rows, False


def _of_kind(lines: Sequence[dict[str, Any]], kind: str, folder: Path) -> list[dict[str, Any]]:
    by_step: dict[int, dict[str, Any]] = {}
    for i, line in enumerate(lines, 1):
        if line.get("kind") != kind:
            continue
        step = number(line.get("step"))
        if step is None or step < 0:
            raise RunError(
                f"record {i} of '{folder / 'metrics.jsonl'}' has the step {shorten(line.get('step'))}; a number of "
                "optimizer steps from 0 is accepted. Restore the file from a copy."
            )
        by_step[int(step)] = line
    return [by_step[step] for step in sorted(by_step)]


def _sample_files(folder: Path) -> Iterator[tuple[int, Path]]:
    for file in sorted((folder / "samples").glob("step-*.jsonl")):
        found = _SAMPLES.fullmatch(file.name)
        if found and file.is_file():
            yield int(found[1]), file


def _answer(row: Mapping[str, Any], file: Path, place: int) -> Answer:
    prompt, finished = row.get("prompt"), row.get("finished")
    if not isinstance(row.get("response"), str) or not isinstance(prompt, list) or "probe" not in row:
        raise RunError(
            f"record {place} of '{file}' is {shorten(row)}; probe, prompt (a list of turns) and response are needed. "
            "Restore the file from a copy, or remove it."
        )
    turns = [turn if isinstance(turn, dict) else {"content": turn} for turn in prompt]
    return Answer(
        prompt_id=str(row["probe"]),
        prompt=tuple((str(t.get("role", "")), str(t.get("content", ""))) for t in turns),
        response=row["response"],
        tokens=number(row.get("tokens")),
        finished=float(finished) if isinstance(finished, bool) else None,
        repetition=number(row.get("repetition")),
        kl=number(row.get("kl")),
        score=number(row.get("independent_score")),
        response_id=str(row.get("response_id") or ""),
        proxy_reward=number(row.get("proxy_reward")),
        proxy_spread=number(row.get("proxy_spread")),
        proxy_width=number(row.get("proxy_width")),
        held_out_member=number(row.get("held_out_member")),
    )


def _clean_name(value: object) -> str:
    """A name fit for a sentence, a terminal and a plot: one line, without control or direction characters."""
    kept = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in str(value))
    name = " ".join(kept.split())
    return (name if len(name) <= _NAME_LIMIT else name[: _NAME_LIMIT - 1] + "…") or "run"
