"""How near the prompts to be served are to those of the data, against how near the data's are to each other.

Arrays and texts in, results out; the sentence encoder is given by the caller (:mod:`safetyvalve.encoders` has one).
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from safetyvalve.data.personal import redact
from safetyvalve.data.schema import Place, PreferenceExample, Prompt
from safetyvalve.data.serving import ServingPrompt
from safetyvalve.data.shares import Record, Share, place_of, share_of
from safetyvalve.data.splits import opening_turn
from safetyvalve.errors import DataError

__all__ = [
    "Encoded",
    "Encoder",
    "Nearest",
    "Neighbour",
    "PromptCoverage",
    "Served",
    "nearest",
    "other_script",
    "prompt_coverage",
    "prompt_text",
    "reading_cautions",
    "within_distances",
]

Vectors = NDArray[np.float32]

LEVEL = 0.95
"""Share of the data's own prompts that count as covered by the others, which sets the threshold."""
_BASELINE = 2000
_UNKNOWN, _SCRIPT, _CUT = 0.01, 0.1, 0.05
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_SHOWN = 240

Caution = Literal["unknown", "script", "cut", "few"]


class Encoded(NamedTuple):
    """Embeddings of texts."""

    vectors: Vectors
    """[text, dimension], each of length 1."""
    unknown: float
    """Share of tokens that the encoder has no entry for."""
    cut: int
    """Texts of which only the end was read."""


class Encoder(Protocol):
    """A sentence encoder."""

    name: str
    latin_only: bool
    """Whether it was trained on text in Latin script alone."""

    def __call__(self, texts: Sequence[str]) -> Encoded: ...


class Nearest(NamedTuple):
    """Nearest rows, the nearest first; both [query, k]. Where there are fewer than k, the index is -1."""

    indices: NDArray[np.int64]
    distances: Vectors
    """1 - cosine, in [0, 2]."""


class Neighbour(Record):
    """A prompt of the data."""

    place: Place
    distance: float
    text: str


class Served(Record):
    """A prompt to be served and the prompts of the data that are nearest to it."""

    place: Place
    distance: float
    """To the nearest, 1 - cosine."""
    text: str
    nearest: list[Neighbour]


class PromptCoverage(Record):
    """How well data covers the prompts to be served. Distances are 1 - cosine, to the nearest prompt of the data."""

    file: str
    encoder: str
    serving_prompts: int
    data_prompts: int
    """Distinct prompts of the data."""
    baseline_prompts: int
    """Of these, those whose distance to the others makes the baseline."""
    level: float = LEVEL
    threshold: float
    """The ``level`` quantile of the baseline; a prompt to be served that is farther is uncovered."""
    uncovered: Share
    """Interval over prompts to be served, the threshold taken as given."""
    quantile_levels: tuple[float, ...] = _QUANTILES
    serving_quantiles: list[float]
    baseline_quantiles: list[float]
    edges: list[float]
    serving_counts: list[int]
    baseline_counts: list[int]
    worst: list[Served]
    """The farthest first."""
    unknown_tokens: dict[str, float]
    """Share of tokens unknown to the encoder, in ``serving`` and ``data``."""
    other_script: dict[str, float]
    """Share of letters outside the Latin script."""
    cut: dict[str, float]
    """Share of prompts of which the encoder read only the end."""
    warnings: list[Caution]

    def lines(self) -> Iterator[str]:
        yield (
            f"  serving prompts: {self.serving_prompts} of {self.file}, against {self.data_prompts} distinct prompts "
            f"of the data ({self.encoder})"
        )
        yield (
            f"    uncovered {self.uncovered}: farther from the data than {self.threshold:.3f}, within which "
            f"{self.level:.0%} of the data's own prompts have another"
        )
        for name, values in (("served", self.serving_quantiles), ("data", self.baseline_quantiles)):
            shown = ", ".join(f"{q:.0%} {v:.3f}" for q, v in zip(self.quantile_levels, values, strict=True))
            yield f"    distance of {name:<6} {shown}"
        for code in self.warnings:
            yield f"    caution: {self.caution(code)}"
        yield "    farthest:"
        for served in self.worst[:5]:
            yield f"      {served.distance:.3f} row {served.place.row} {served.text[:70]!r}"
            near = served.nearest[0]
            yield f"            nearest is row {near.place.row} {near.text[:70]!r}"

    def caution(self, code: Caution) -> str:
        """What a warning means here, in English."""
        worst = {
            name: max(shares.values())
            for name, shares in (("unknown", self.unknown_tokens), ("script", self.other_script), ("cut", self.cut))
        }
        return {
            "unknown": f"the encoder does not know {worst['unknown']:.1%} of the tokens; texts that differ only in "
            "these look alike to it. Name one for this language with --encoder.",
            "script": f"{worst['script']:.1%} of the letters are not in Latin script and this encoder is for English; "
            "its distances mean little there. Name one for this language with --encoder.",
            "cut": f"of {worst['cut']:.1%} of the prompts only the end was read: they are longer than the encoder "
            "takes.",
            "few": f"the baseline has only {self.baseline_prompts} prompts, so the threshold is uncertain.",
        }[code]


def nearest(
    queries: Vectors,
    base: Vectors,
    *,
    k: int = 1,
    groups: tuple[Sequence[Any], Sequence[Any]] | None = None,
    block: int = 512,
) -> Nearest:
    """Nearest rows of ``base`` by cosine.

    Args:
        queries: [q, dimension], rows of length 1.
        base: [n, dimension], rows of length 1, n at least 1.
        k: neighbours of each.
        groups: a label for each query and each row of ``base``; a query's neighbours have another label than it.
        block: queries at a time, which bounds the memory.
    """
    k = min(k, len(base))
    indices, distances = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
    codes = None
    if groups is not None:
        number: dict[Any, int] = {}
        codes = [np.array([number.setdefault(label, len(number)) for label in side]) for side in groups]
    for start in range(0, len(queries), block):
        part = slice(start, min(start + block, len(queries)))
        similarity = queries[part] @ base.T
        if codes is not None:
            similarity[codes[0][part, None] == codes[1][None, :]] = -np.inf
        best = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        values = np.take_along_axis(similarity, best, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        values = np.take_along_axis(values, order, axis=1)
        indices[part] = np.where(np.isfinite(values), np.take_along_axis(best, order, axis=1), -1)
        distances[part] = np.clip(1 - values, 0, None)
    return Nearest(indices, distances)


def within_distances(vectors: Vectors, groups: Sequence[Any], *, limit: int = _BASELINE, seed: int = 0) -> Vectors:
    """Distance of each row to its nearest row of another group: how near data is to itself, leaving one group out.

    Args:
        vectors: [n, dimension], rows of length 1.
        groups: a label for each row.
        limit: rows that are measured, drawn by ``seed`` where there are more; all rows can be neighbours.
    """
    chosen = np.arange(len(vectors))
    if len(chosen) > limit:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, limit, replace=False))
    return nearest(vectors[chosen], vectors, groups=([groups[i] for i in chosen.tolist()], groups)).distances[:, 0]


def prompt_text(prompt: Prompt) -> str:
    """What is embedded: the turns in order, a line each, without those of the system, which say nothing of the request.

    An encoder reads the end where the text is too long for it.
    """
    return "\n".join(m.content for m in prompt if m.role != "system")


def prompt_coverage(
    serving: Sequence[ServingPrompt],
    examples: Sequence[PreferenceExample],
    encoder: Encoder,
    *,
    neighbours: int = 3,
    worst: int = 10,
    seed: int = 0,
) -> PromptCoverage:
    """How well the data covers the prompts to be served.

    A prompt is uncovered if its distance to the nearest prompt of the data exceeds the 95% quantile of the distances
    that the data's own prompts have to the data's other conversations (those with another opening turn). So about 5%
    would be uncovered if the prompts to be served came from where the data comes from.

    Args:
        serving: at least one prompt.
        examples: the data; equal prompts count once.
        encoder: texts to vectors of length 1.
        neighbours, worst: how many are listed.
        seed: chooses the baseline's prompts where there are more than 2,000.

    Raises:
        DataError: no serving prompts, or all data in one conversation, so that there is no baseline.
    """
    if not serving:
        raise DataError("there are no serving prompts; at least one is accepted.")
    known: dict[str, tuple[PreferenceExample, Place]] = {}
    for number, example in enumerate(examples, 1):
        known.setdefault(prompt_text(example.prompt), (example, place_of(example, number)))
    texts, groups = list(known), [opening_turn(example) for example, _ in known.values()]
    if len(set(groups)) < 2:
        raise DataError(
            f"the data has {len(set(groups))} opening turn; with fewer than 2 there is nothing to compare the distance "
            "of serving prompts with. Add data, or leave out --serving-prompts."
        )
    served = [prompt_text(s.prompt) for s in serving]
    data, asked = encoder(texts), encoder(served)
    baseline = within_distances(data.vectors, groups, seed=seed)
    found = nearest(asked.vectors, data.vectors, k=neighbours)
    distances = found.distances[:, 0]
    threshold = float(np.quantile(baseline, LEVEL))
    edges = np.linspace(0, max(0.1, np.ceil(10 * max(distances.max(), baseline.max())) / 10), 21)
    order = np.argsort(-distances, kind="stable")[:worst]
    places = [place for _, place in known.values()]
    unknown = {"serving": asked.unknown, "data": data.unknown}
    script = {"serving": other_script(served), "data": other_script(texts)}
    cut = {"serving": asked.cut / len(served), "data": data.cut / len(texts)}
    few: list[Caution] = ["few"] if len(baseline) < 100 else []
    return PromptCoverage(
        file=serving[0].place.file,
        encoder=encoder.name,
        serving_prompts=len(served),
        data_prompts=len(texts),
        baseline_prompts=len(baseline),
        threshold=threshold,
        uncovered=share_of(int((distances > threshold).sum()), len(served)),
        serving_quantiles=np.quantile(distances, _QUANTILES).tolist(),
        baseline_quantiles=np.quantile(baseline, _QUANTILES).tolist(),
        edges=edges.tolist(),
        serving_counts=np.histogram(distances, edges)[0].tolist(),
        baseline_counts=np.histogram(baseline, edges)[0].tolist(),
        worst=[
            Served(
                place=serving[i].place,
                distance=float(distances[i]),
                text=_shown(served[i]),
                nearest=[
                    Neighbour(place=places[j], distance=float(d), text=_shown(texts[j]))
                    for j, d in zip(found.indices[i], found.distances[i], strict=True)
                ],
            )
            for i in order
        ],
        unknown_tokens=unknown,
        other_script=script,
        cut=cut,
        warnings=reading_cautions(encoder, *(max(part.values()) for part in (unknown, script, cut))) + few,
    )


def reading_cautions(encoder: Encoder, unknown: float, script: float, cut: float) -> list[Caution]:
    """What speaks against trusting an encoder on texts.

    Args:
        encoder: that read them.
        unknown: share of tokens that it has no entry for.
        script: share of letters outside the Latin script.
        cut: share of texts of which it read only the end.
    """
    seen: list[tuple[Caution, bool]] = [
        ("unknown", unknown > _UNKNOWN),
        ("script", encoder.latin_only and script > _SCRIPT),
        ("cut", cut > _CUT),
    ]
    return [code for code, holds in seen if holds]


def _shown(text: str) -> str:
    """The end of a prompt, which is what is asked, without addresses and numbers."""
    text = redact(text)
    return text if len(text) <= _SHOWN else "…" + text[-_SHOWN:]


def other_script(texts: Sequence[str]) -> float:
    """Share of letters outside the Latin script."""
    letters = {c: n for c, n in Counter("".join(texts)).items() if c.isalpha()}
    other = sum(n for c, n in letters.items() if not unicodedata.name(c, "").startswith(("LATIN", "FULLWIDTH LATIN")))
    return other / (sum(letters.values()) or 1)
