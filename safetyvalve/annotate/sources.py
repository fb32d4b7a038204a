"""Where pairs to judge come from: samples of runs, finished or still training, or a JSONL of answers made elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import yaml

from safetyvalve.errors import DataError, RunError, UsageError, shorten

__all__ = ["PAIRINGS", "Answer", "Pair", "Pairing", "Source", "read_pairs", "read_rows"]

Pairing = Literal["runs", "start", "samples"]
"""``runs``: runs against each other at the same step; ``start``: a step against the run's first; ``samples``: answers
of one run to one prompt at one step against each other, which is what a next round of training learns from."""
PAIRINGS: tuple[Pairing, ...] = get_args(Pairing)

_STEP = re.compile(r"step-(\d+)\.jsonl")


class Answer(NamedTuple):
    """A text and who gave it."""

    text: str
    source: dict[str, Any]


class Pair(NamedTuple):
    """Two answers to one prompt; ``expected`` and ``why`` where the right choice is known."""

    prompt: list[dict[str, str]]
    a: Answer
    b: Answer
    expected: str | None = None
    why: str | None = None


class Source(NamedTuple):
    """What one batch is filled from.

    Args:
        paths: run folders, or files of answers.
        pairing: how runs' answers are paired.
    """

    paths: tuple[Path, ...]
    pairing: Pairing

    @classmethod
    def of(cls, paths: Sequence[Path], pairing: Pairing | None = None) -> Source:
        """Checked: all run folders or all files. Without a pairing, several runs meet each other and one its start.

        Raises:
            UsageError: nothing, a mixture, or a pairing that these paths do not have.
            RunError: a path that does not exist.
        """
        if not paths:
            raise UsageError("no run is named; name run folders, or JSONL files of answers.")
        for path in paths:
            if not path.exists():
                raise RunError(f"'{path}' does not exist; a run folder or a JSONL of answers is accepted.")
        folders = [path.is_dir() for path in paths]
        if any(folders) and not all(folders):
            raise UsageError("run folders and files are mixed; serve them as two batches, one call each.")
        chosen: Pairing = pairing or ("runs" if len(paths) > 1 and all(folders) else "start")
        if chosen == "runs" and all(folders) and len(paths) < 2:
            raise UsageError("--pairing is 'runs' with one run; name another run, or use 'start' or 'samples'.")
        names = [_name(path) for path in paths]
        if len(set(names)) < len(names):
            raise UsageError(f"two runs have one name ({', '.join(names)}); rename a folder.")
        return cls(tuple(p.resolve() for p in paths), chosen)

    @property
    def names(self) -> list[str]:
        """Of the runs, and of the models in their settings: words that no annotator may see."""
        found = [_name(path) for path in self.paths]
        for path in self.paths:
            config = path / "config.yaml"
            if config.is_file():
                settings = yaml.safe_load(config.read_text(encoding="utf-8"))
                if isinstance(settings, dict):
                    found += [Path(str(settings[key])).name for key in ("name", "model") if settings.get(key)]
        return sorted(set(found))


def read_pairs(source: Source, known: set[str]) -> Iterator[tuple[str, list[Pair]]]:
    """Pairs by the file they stand in, leaving out files already ``known``.

    A file of samples that is still being written (its last line has no end) waits for the next call.

    Raises:
        DataError: a line that is not of the form.
    """
    if all(path.is_file() for path in source.paths):
        for path in source.paths:
            if path.name not in known:
                yield path.name, [pair for number, row in read_rows(path) for pair in _pairs_of_row(row, path, number)]
        return
    steps = {path: _steps(path) for path in source.paths}
    if source.pairing == "runs":
        for step in sorted(set.intersection(*(set(s) for s in steps.values()))):
            yield from _between(f"step {step}", [(p, step, steps[p][step]) for p in source.paths], known)
        return
    for path, files in steps.items():
        for step in sorted(files):
            key = f"{path.name} step {step}"
            if source.pairing == "samples":
                yield from _within(key, (path, step, files[step]), known)
            elif step != min(files):
                both = [(path, min(files), files[min(files)]), (path, step, files[step])]
                yield from _between(key, both, known)


_Place = tuple[Path, int, Path]


def _between(key: str, places: list[_Place], known: set[str]) -> Iterator[tuple[str, list[Pair]]]:
    if key in known:
        return
    answers = [_answers(place) for place in places]
    if any(a is None for a in answers):
        return
    pairs = []
    for one, other in combinations([a for a in answers if a is not None], 2):
        for probe in one.keys() & other.keys():
            prompt = one[probe][0]
            pairs += [Pair(prompt, a, b) for a, b in zip(one[probe][1], other[probe][1], strict=False)]
    yield key, pairs


def _within(key: str, place: _Place, known: set[str]) -> Iterator[tuple[str, list[Pair]]]:
    if key in known or (answers := _answers(place)) is None:
        return
    yield key, [Pair(prompt, a, b) for prompt, texts in answers.values() for a, b in combinations(texts, 2)]


def _answers(place: _Place) -> dict[str, tuple[list[dict[str, str]], list[Answer]]] | None:
    """Answers by prompt, in file order; None while the file is being written."""
    run, step, file = place
    raw = file.read_bytes()
    if not raw.endswith(b"\n"):
        return None
    found: dict[str, tuple[list[dict[str, str]], list[Answer]]] = {}
    for number, row in read_rows(file, raw):
        try:
            probe, prompt, response = str(row["probe"]), _messages(row["prompt"], file, number), str(row["response"])
        except KeyError as error:
            raise DataError(
                f"is missing; the row has {', '.join(map(repr, row))}. Sample files have probe, prompt and response.",
                file=file,
                row=number,
                field=str(error.args[0]),
            ) from None
        texts = found.setdefault(probe, (prompt, []))[1]
        texts.append(Answer(response, {"run": _name(run), "step": step, "probe": probe, "sample": len(texts)}))
    return found


def _steps(run: Path) -> dict[int, Path]:
    found = ((match, file) for file in (run / "samples").glob("step-*.jsonl") if (match := _STEP.fullmatch(file.name)))
    return {int(match[1]): file for match, file in found}


def _name(path: Path) -> str:
    path = path.resolve()
    return path.name if path.is_dir() else path.stem


def read_rows(file: Path, raw: bytes | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Objects of a JSONL file with their lines' numbers.

    Raises:
        DataError: it cannot be read, is not UTF-8, or a line is no JSON object.
    """
    try:
        text = (file.read_bytes() if raw is None else raw).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"is not UTF-8 (byte {error.start}). Save it as UTF-8.", file=file) from None
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror}). Check the path.", file=file) from None
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise DataError(f"is not JSON ({error}): {shorten(line)}.", file=file, row=number) from None
        if not isinstance(row, dict):
            raise DataError(f"is {shorten(row)}; a JSON object is accepted.", file=file, row=number)
        yield number, row


def _pairs_of_row(row: Mapping[str, Any], file: Path, number: int) -> list[Pair]:
    """``{"prompt", "responses": {name: text}}``, or a list of texts or of ``{"model", "text"}``; all pairs of them."""
    if "prompt" not in row or "responses" not in row:
        raise DataError(
            f"has the fields {', '.join(map(repr, row)) or '(none)'}; prompt and responses are needed, responses as "
            '{"name": text, ...}, [text, ...] or [{"model": name, "text": text}, ...].',
            file=file,
            row=number,
        )
    prompt = _messages(row["prompt"], file, number)
    answers = [
        Answer(text, {"run": name, "row": number, "sample": i})
        for i, (name, text) in enumerate(_named(row["responses"], file, number))
    ]
    if len(answers) < 2:
        raise DataError("has fewer than two answers.", file=file, row=number, field="responses")
    expected, why = row.get("expected"), row.get("why")
    if expected is not None and (expected not in ("a", "b", "tie", "both_bad") or len(answers) != 2):
        raise DataError(
            f"is {shorten(expected)}; a, b, tie or both_bad is accepted, in a row with two answers.",
            file=file,
            row=number,
            field="expected",
        )
    return [Pair(prompt, a, b, expected, str(why) if why else None) for a, b in combinations(answers, 2)]


def _named(value: Any, file: Path, number: int) -> list[tuple[str, str]]:
    items: list[tuple[Any, Any]]
    if isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, list):
        items = [
            (v.get("model", v.get("name", f"answer-{i}")), v.get("text", v.get("content")))
            if isinstance(v, Mapping)
            else (f"answer-{i}", v)
            for i, v in enumerate(value)
        ]
    else:
        items = [("", None)]
    for _, text in items:
        if not isinstance(text, str) or _is_broken(text):
            raise DataError(
                f"is {shorten(value)}; a text without broken characters is needed for each answer.",
                file=file,
                row=number,
                field="responses",
            )
    return [(str(name), text) for name, text in items]


def _messages(value: Any, file: Path, number: int) -> list[dict[str, str]]:
    turns = [{"role": "user", "content": value}] if isinstance(value, str) else value
    good = isinstance(turns, list) and bool(turns)
    for turn in turns if good else ():
        good = good and isinstance(turn, dict) and turn.get("role") in ("system", "user", "assistant")
        good = good and isinstance(turn.get("content"), str) and not _is_broken(turn["content"])
    if not good:
        raise DataError(
            f"is {shorten(value)}; a text or a list of messages with role and content is accepted.",
            file=file,
            row=number,
            field="prompt",
        )
    return [{"role": turn["role"], "content": turn["content"]} for turn in turns]


def _is_broken(text: str) -> bool:
    """Half of a surrogate pair, or NUL, which PostgreSQL cannot hold."""
    return re.search("[\x00\ud800-\udfff]", text) is not None
