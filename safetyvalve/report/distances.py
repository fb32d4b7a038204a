"""How far a run's samples are from its training data in embedding space; kept as they are computed."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from safetyvalve.data import Encoder, PreferenceExample, Prompt
from safetyvalve.data.coverage import nearest, prompt_text
from safetyvalve.hashing import content_hash
from safetyvalve.report.record import RunRecord, json_lines, number

__all__ = ["FILE", "sample_distances"]

FILE = "distances.jsonl"
_SLAB = 256
"""Answers that are encoded between two writes."""
_DATA_LIMIT = 4000
"""Responses of the data that samples are compared with; more are drawn from by a fixed seed."""


def sample_distances(
    record: RunRecord,
    examples: Sequence[PreferenceExample],
    load_encoder: Callable[[], Encoder],
    folder: Path,
) -> dict[str, float]:
    """Distance of each sample, with its prompt, to the nearest prompt with response of the data: 1 - cosine.

    What ``distances.jsonl`` holds of the same encoder and data is not computed again.

    Args:
        record: of the run.
        examples: of its data; held-out ones included would be near their own samples, so leave these out.
        load_encoder: called where something is to be computed.
        folder: of the run.
    """
    texts = {
        a.response_id: _turns(a.prompt, a.response)
        for rows in record.samples.values()
        for a in rows
        if a.response_id and a.proxy_reward is not None
    }
    data = sorted({_text(e.prompt, r.content) for e in examples for r in e.responses})
    if len(data) > _DATA_LIMIT:
        data = random.Random(0).sample(data, _DATA_LIMIT)
    key = content_hash([data])
    file = folder / FILE
    known = _known(file, key)
    todo = [name for name in texts if name not in known]
    if todo and data:
        encoder = load_encoder()
        base = encoder(data).vectors
        for start in range(0, len(todo), _SLAB):
            names = todo[start : start + _SLAB]
            found = nearest(encoder([texts[n] for n in names]).vectors, base).distances[:, 0].tolist()
            known |= dict(zip(names, found, strict=True))
            _append(file, [{"response_id": n, "distance": known[n], "data": key} for n in names])
    return {name: known[name] for name in texts if name in known}


def _text(prompt: Prompt, response: str) -> str:
    return f"{prompt_text(prompt)}\n{response}"


def _turns(prompt: Sequence[tuple[str, str]], response: str) -> str:
    return "\n".join([*(content for role, content in prompt if role != "system"), response])


def _known(file: Path, key: str) -> dict[str, float]:
    """Distances to the same data; a line cut short is taken off the file's end."""
    if not file.is_file():
        return {}
    rows, cut = json_lines(file)
    if cut:
        raw = file.read_bytes()
        os.truncate(file, raw.rfind(b"\n") + 1)
    return {
        str(row["response_id"]): value
        for row in rows
        if row.get("data") == key and "response_id" in row and (value := number(row.get("distance"))) is not None
    }


def _append(file: Path, rows: Sequence[Mapping[str, object]]) -> None:
    with file.open("a", encoding="utf-8") as stream:
        stream.write("".join(json.dumps(row) + "\n" for row in rows))
        stream.flush()
        os.fsync(stream.fileno())
