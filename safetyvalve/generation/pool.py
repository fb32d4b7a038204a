"""Pools of samples: a file of answers that grows batch by batch, and that the same command goes on with."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safetyvalve.data import response_id
from safetyvalve.errors import DataError, RunError, UsageError, shorten
from safetyvalve.generation.prompts import ReadyPrompt
from safetyvalve.generation.sampling import TOKEN_BUDGET, sample_in_batches
from safetyvalve.hashing import content_hash
from safetyvalve.precision import autocast_of, settled

__all__ = ["Drawn", "PoolSettings", "draw_pool"]


class PoolSettings(NamedTuple):
    """What decides the answers of a pool, besides its prompts."""

    model: str
    """Name, for the record."""
    weights_sha256: str
    n: int
    """Answers a prompt."""
    max_new_tokens: int
    temperature: float = 1.0
    seed: int = 0
    precision: str = "auto"
    """As :func:`safetyvalve.precision.settled`, which is what is kept."""

    @property
    def key(self) -> str:
        """Content hash of what an answer depends on; the number of answers is not in it: a pool may grow."""
        return content_hash({k: v for k, v in self._asdict().items() if k not in ("n", "model")})


class Drawn(NamedTuple):
    """What a call added to a pool, and what the pool held of it before."""

    added: int
    present: int


def draw_pool(
    file: Path,
    prompts: Sequence[ReadyPrompt],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    settings: PoolSettings,
    *,
    token_budget: int = TOKEN_BUDGET,
    progress: Callable[[int, int], None] | None = None,
) -> Drawn:
    """Append the answers that ``file`` lacks, one JSON object a line, each batch on disk before the next is drawn.

    A line cut short, as a killed process leaves it, is drawn again. What an answer is drawn with depends on the seed,
    its prompt and its number, so a pool drawn in parts is the pool drawn at once, but for rounding.

    Args:
        file: JSONL; made with its folder where there is none.
        prompts: distinct.
        model, tokenizer: as :func:`safetyvalve.generation.sample`.
        settings: what decides the answers.
        token_budget: of answers drawn together.
        progress: called with answers done, those of before included, and their total.

    Raises:
        UsageError: a setting out of range.
        RunError: the file holds answers drawn under other settings, is damaged before its end, is being written by
            another process, or cannot be written.
    """
    settings = settings._replace(precision=settled(settings.precision))
    autocast = autocast_of(settings.precision)
    if settings.n < 1:
        raise UsageError(f"n is {settings.n}; it must be at least 1.")
    with _opened(file) as stream:
        done = _held(file, stream, settings)
        wanted = [(p, k) for p in prompts for k in range(settings.n) if (p.id, k) not in done]
        total = settings.n * len(prompts)
        present = finished = total - len(wanted)
        if progress is not None:
            progress(finished, total)
        lacking = {p.id: p for p, _ in wanted}
        missing = {(p.id, k) for p, k in wanted}
        todo = list(lacking.values())
        for batch in sample_in_batches(
            model,
            tokenizer,
            [p.token_ids for p in todo],
            n=settings.n,
            max_new_tokens=settings.max_new_tokens,
            temperature=settings.temperature,
            seed=settings.seed,
            token_budget=token_budget,
            autocast=autocast,
        ):
            new = [s for s in batch if (todo[s.prompt_index].id, s.number) in missing]
            _append(stream, [_record(todo[s.prompt_index], s, settings) for s in new])
            finished += len(new)
            if progress is not None:
                progress(finished, total)
    return Drawn(finished - present, present)


def _record(prompt: ReadyPrompt, s: Any, settings: PoolSettings) -> dict[str, Any]:
    return {
        "response_id": response_id(prompt.prompt, s.text),
        "prompt_id": prompt.id,
        "sample": s.number,
        "model": settings.model,
        "prompt": [m.model_dump(mode="json") for m in prompt.prompt],
        "response": s.text,
        "token_ids": list(s.token_ids),
        "tokens": len(s.token_ids),
        "finished": s.finished,
        "drawn_by": settings.key,
    }


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """The file, for this process alone."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a+b") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RunError(f"'{file}' is being written by another process. Wait for it, or end it first.") from None
            yield stream
    except OSError as error:
        raise RunError(f"'{file}' cannot be written ({error.strerror}). Name another --output.") from None


def _held(file: Path, stream: Any, settings: PoolSettings) -> set[tuple[str, int]]:
    """(prompt, number) of the answers in the file; a line cut short is taken off its end."""
    stream.seek(0)
    whole, _, rest = stream.read().rpartition(b"\n")
    if rest:
        stream.truncate(len(whole) + 1 if whole else 0)
    found = set()
    for number, line in enumerate(whole.split(b"\n") if whole else [], 1):
        try:
            row: Mapping[str, Any] = json.loads(line)
            key = (str(row["prompt_id"]), int(row["sample"]))
            drawn_by = row["drawn_by"]
        except (ValueError, KeyError, TypeError):
            raise DataError(
                f"is {shorten(line.decode('utf-8', 'replace'))}, no sample of this command; nothing was changed. Name "
                "another --output, or mend the line.",
                file=file,
                row=number,
            ) from None
        if drawn_by != settings.key:
            raise RunError(
                f"'{file}' holds answers drawn by {row.get('model')!r} under other settings (line {number}); nothing "
                "was added. Repeat the model, --max-new-tokens, --temperature, --seed and --precision of before (this "
                f"time: {settings.precision}), or name another --output."
            )
        found.add(key)
    return found


def _append(stream: Any, records: Sequence[Mapping[str, Any]]) -> None:
    stream.write("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records).encode())
    stream.flush()
    os.fsync(stream.fileno())
