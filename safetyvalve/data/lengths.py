"""How long prompts, chosen and rejected responses are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, cycle
from typing import Literal

import numpy as np

from safetyvalve.data.schema import Comparison, PreferenceExample
from safetyvalve.data.shares import Record
from safetyvalve.data.tokenizing import TokenizedExample

__all__ = ["Lengths", "Summary", "bin_edges", "character_lengths", "summary", "token_lengths"]

_SHADES = " ▁▂▃▄▅▆▇█"


class Summary(Record):
    """Order statistics of some values."""

    count: int
    least: float
    median: float
    mean: float
    p95: float
    greatest: float


class Lengths(Record):
    """Histograms over the same bins; bin i holds lengths from ``edges[i]`` to below ``edges[i + 1]``."""

    unit: Literal["characters", "tokens"]
    edges: list[int]
    counts: dict[str, list[int]]
    """By part: ``prompt`` (one an example), ``chosen`` and ``rejected`` (one a comparison each); ``response`` in place
    of these where nothing is compared."""
    summary: dict[str, Summary]

    def lines(self) -> Iterator[str]:
        yield f"  length in {self.unit}, bins from {', '.join(map(str, self.edges[:-1]))}"
        for part, counts in self.counts.items():
            s, top = self.summary[part], max(counts)
            bars = "".join(_SHADES[-(-8 * count // top)] for count in counts)
            yield (
                f"    {part:<9}|{bars}|  median {s.median:g}, mean {s.mean:.1f}, 95% below {s.p95:g}, "
                f"{s.least:g} to {s.greatest:g}"
            )


def character_lengths(examples: Sequence[PreferenceExample]) -> Lengths:
    """Lengths in characters (Unicode code points); a prompt's is the sum over its turns."""
    prompts = [sum(len(m.content) for m in e.prompt) for e in examples]
    responses = [[len(r.content) for r in e.responses] for e in examples]
    return _lengths("characters", prompts, responses, [e.comparisons for e in examples])


def token_lengths(examples: Sequence[TokenizedExample]) -> Lengths:
    """Lengths in tokens as they are trained on: after truncation, with the template's and the end token."""
    prompts = [len(e.prompt_ids) for e in examples]
    responses = [[len(ids) for ids in e.response_ids] for e in examples]
    return _lengths("tokens", prompts, responses, [e.comparisons for e in examples])


def summary(values: Sequence[float] | np.ndarray) -> Summary:
    """Order statistics of at least one value."""
    array = np.asarray(values, dtype=np.float64)
    least, median, p95, greatest = np.quantile(array, [0, 0.5, 0.95, 1]).tolist()
    mean = float(array.mean())
    return Summary(count=array.size, least=least, median=median, mean=mean, p95=p95, greatest=greatest)


def bin_edges(least: int, greatest: int) -> list[int]:
    """Edges 0, 1, 2, 5, 10, 20, 50, ... from the last at or below ``least`` to the first above ``greatest``."""
    edges, power = [0, 1], 1
    for step in cycle((2, 5, 10)):
        edges.append(step * power)
        if edges[-1] > greatest:
            break
        power *= 10 if step == 10 else 1
    return edges[max(i for i, edge in enumerate(edges) if edge <= least) :]


def _lengths(
    unit: Literal["characters", "tokens"],
    prompts: list[int],
    responses: Sequence[list[int]],
    comparisons: Sequence[Sequence[Comparison]],
) -> Lengths:
    compared = [(lengths, c) for lengths, given in zip(responses, comparisons, strict=True) for c in given]
    parts = {"prompt": prompts}
    if compared:
        parts["chosen"] = [lengths[c.winner] for lengths, c in compared]
        parts["rejected"] = [lengths[c.loser] for lengths, c in compared]
    else:
        parts["response"] = list(chain.from_iterable(responses))
    everything = list(chain.from_iterable(parts.values()))
    edges = bin_edges(min(everything), max(everything))
    return Lengths(
        unit=unit,
        edges=edges,
        counts={part: np.histogram(values, edges)[0].tolist() for part, values in parts.items()},
        summary={part: summary(values) for part, values in parts.items()},
    )
