"""Scores as a file: one line a response, joined by response id, written so that a stopped scoring goes on."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from safetyvalve.data import Prompt, response_id
from safetyvalve.errors import DataError, UsageError, shorten
from safetyvalve.rewards.folder import ensemble_hash
from safetyvalve.rewards.model import RewardModel
from safetyvalve.rewards.record import Aggregation
from safetyvalve.rewards.scores import Floats, Scores, aggregate, spread

__all__ = ["Item", "ScoreLine", "Written", "join_scores", "read_scores", "score_items"]

SLAB = 32
"""Prompts that are scored between two writes."""
_BEGINNING = b'{"response_id"'
"""Of every line."""


class Item(NamedTuple):
    """A response to be scored."""

    prompt: Prompt
    response: str

    @property
    def id(self) -> str:
        return response_id(self.prompt, self.response)


class ScoreLine(NamedTuple):
    """What the file says of one response."""

    rewards: tuple[float, ...]
    """Of each member; NaN where it is unscored."""
    width: float | None
    reason: str | None
    """Why it is unscored."""

    @property
    def scored(self) -> bool:
        return self.reason is None


class Written(NamedTuple):
    """What a scoring did."""

    scored: int
    unscored: Counter[str]
    """Responses without a score, by reason."""
    present: int
    """Responses that the file had already."""
    duplicates: int
    """Responses given more than once; they are scored once."""


def score_items(
    model: RewardModel,
    items: Iterable[Item],
    file: Path,
    *,
    aggregation: Aggregation | None = None,
    token_budget: int = 4096,
    autocast: torch.dtype | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Written:
    """Append the scores that ``file`` lacks; each slab of prompts is on disk before the next is computed.

    Args:
        model: scores.
        items: responses; equal ones are scored once.
        file: JSON lines, made where it is missing. One that another model or arithmetic wrote is refused.
        aggregation: of the column ``reward``; None takes the model's own, or the mean.
        token_budget, autocast: as :meth:`RewardModel.score`.
        progress: told how many of how many responses are done.

    Raises:
        DataError: the file holds other things than scores of this model.
        UsageError: it cannot be written.
    """
    aggregation = aggregation or (model.record.aggregation if model.record else Aggregation())
    stamp = {
        "model": ensemble_hash(model)[:16],
        "arithmetic": str(autocast or model.dtype).removeprefix("torch."),
        "aggregation": f"{aggregation.method}:{aggregation.k:g}",
    }
    known = _known(file, stamp)
    given = list(items)
    wanted = {item.id: item for item in given}
    todo: dict[Prompt, list[str]] = {}
    for name, item in wanted.items():
        if name not in known:
            todo.setdefault(item.prompt, []).append(item.response)
    prompts = sorted(todo, key=lambda p: -sum(len(m.content) for m in p))  # alike lengths go together
    done, total = len(wanted.keys() & known.keys()), len(wanted)
    present = done
    if progress:
        progress(done, total)
    for start in range(0, len(prompts), SLAB):
        slab = prompts[start : start + SLAB]
        answers = [todo[p] for p in slab]
        found = model.score(slab, answers, token_budget=token_budget, autocast=autocast)
        lines = [
            line
            for prompt, texts, scores in zip(slab, answers, found, strict=True)
            for line in _lines(prompt, texts, scores, aggregation, stamp)
        ]
        _append(file, lines)
        done += len(lines)
        if progress:
            progress(done, total)
    after = read_scores(file) if wanted else {}
    reasons = Counter(str(after[name].reason) for name in wanted if not after[name].scored)
    return Written(len(wanted) - reasons.total(), reasons, present, len(given) - len(wanted))


def _lines(
    prompt: Prompt, texts: Sequence[str], scores: Scores, aggregation: Aggregation, stamp: Mapping[str, str]
) -> list[dict[str, Any]]:
    reward = aggregate(scores.members, aggregation.method, k=aggregation.k)
    deviation = spread(scores.members)
    lines = []
    for index, text in enumerate(texts):
        line: dict[str, Any] = {"response_id": response_id(prompt, text)}
        if (reason := scores.reasons[index]) is None:
            line["reward"] = float(reward[index])
            line["rewards"] = [float(r) for r in scores.members[:, index]]
            line["spread"] = float(deviation[index])
            if scores.width is not None:
                line["width"] = float(scores.width[index])
        else:
            line["unscored"] = reason
        lines.append({**line, **stamp})
    return lines


def _append(file: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise UsageError(f"'{file}' cannot be written ({error.strerror}). Name another --output.") from None


def _known(file: Path, stamp: Mapping[str, str]) -> dict[str, ScoreLine]:
    """The scores that are there; a last line that was cut short is taken off, so that it is written again."""
    if not file.is_file():
        return {}
    data = file.read_bytes()
    whole = data.rfind(b"\n") + 1
    rest = data[whole:]
    if rest[: len(_BEGINNING)] != _BEGINNING[: len(rest)]:  # never of a file that is another's
        raise DataError(
            f"ends with {shorten(rest.decode(errors='replace'))}, which is no score. Name another.", file=file
        )
    found = _read(data[:whole], file)
    for number, line in enumerate(data[:whole].decode("utf-8").split("\n")[:-1], start=1):
        values = json.loads(line)
        for key, value in stamp.items():
            if values.get(key) != value:
                raise DataError(
                    f"was written with the {key} {shorten(values.get(key))}, and this is {shorten(value)}; scores of "
                    "one kind in a file are accepted. Name another --output.",
                    file=file,
                    row=number,
                )
    if rest:
        os.truncate(file, whole)
    return found


def read_scores(file: Path) -> dict[str, ScoreLine]:
    """Scores by response id.

    Raises:
        DataError: a line that is no score, a reward that is not finite, a member that is missing in a line, or a
            response scored twice.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read ({error}). Name a file of `safetyvalve reward score`.", file=file) from None
    return _read(data, file)


def _read(data: bytes, file: Path) -> dict[str, ScoreLine]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"is not UTF-8 ({error}). Name a file of `safetyvalve reward score`.", file=file) from None
    found: dict[str, ScoreLine] = {}
    members = 0
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        name, one = _parsed(line, file, number)
        if name in found:
            raise DataError(f"scores response {name} a second time; remove one.", file=file, row=number)
        if one.scored:
            members = members or len(one.rewards)
            if len(one.rewards) != members:
                raise DataError(
                    f"has rewards of {len(one.rewards)} members where the lines before have {members}: one is missing. "
                    "Score the response again.",
                    file=file,
                    row=number,
                    field="rewards",
                )
        found[name] = one
    nothing = (math.nan,) * max(members, 1)
    return {k: v if v.scored else v._replace(rewards=nothing) for k, v in found.items()}


def _parsed(line: str, file: Path, number: int) -> tuple[str, ScoreLine]:
    try:
        values = json.loads(line)
        name = values["response_id"]
        if "unscored" in values:
            return name, ScoreLine((), None, str(values["unscored"]))
        rewards = tuple(float(r) for r in values["rewards"])
        width = float(values["width"]) if values.get("width") is not None else None
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"is no score ({error!r}): {shorten(line)}. A line of `safetyvalve reward score` is accepted.",
            file=file,
            row=number,
        ) from None
    if not rewards or not all(math.isfinite(r) for r in (*rewards, *([width] if width is not None else []))):
        raise DataError(
            f"has {shorten(rewards)}; finite numbers, one a member, are accepted. A response without a score has "
            "'unscored' with its reason instead.",
            file=file,
            row=number,
            field="rewards",
        )
    return name, ScoreLine(rewards, width, None)


def join_scores(scores: Mapping[str, ScoreLine], ids: Sequence[str]) -> tuple[Floats, Floats | None]:
    """Rewards [member, response] and widths [response] in the order of ``ids``; NaN where unscored.

    Raises:
        DataError: ids without a line: nothing is joined by its place.
    """
    missing = [name for name in ids if name not in scores]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(ids)} responses have no line in the scores, such as {missing[0]}; scores are "
            "joined by response id (the hash of prompt and response). Score the file that they are in."
        )
    lines = [scores[name] for name in ids]
    members = np.array([line.rewards for line in lines], dtype=np.float64).reshape(len(ids), -1).T
    if all(line.width is None for line in lines):
        return members, None
    return members, np.array([np.nan if line.width is None else line.width for line in lines])
