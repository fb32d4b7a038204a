"""What a report says about the data of its runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from safetyvalve.data.coverage import PromptCoverage
from safetyvalve.data.lengths import Lengths
from safetyvalve.data.preview import Preview
from safetyvalve.data.report import DataReport
from safetyvalve.data.schema import Place
from safetyvalve.data.shares import Share
from safetyvalve.report.record import RunRecord, number
from safetyvalve.report.text import Text, tidy

__all__ = ["Bars", "CoveragePart", "DataPart", "data_parts"]

_PLAIN = ("file", "sha256", "form", "rows", "kept", "chosen", "duplicates", "comparisons", "prompts_opening")
_SHOWN = 8


class Bars(NamedTuple):
    """Histograms side by side; each cell is a count and its share of the longest bar of its column, in percent."""

    caption: str
    first: str
    heads: tuple[str, ...]
    rows: list[tuple[str, list[tuple[int, int]]]]


class CoveragePart(NamedTuple):
    """How well the data covers the prompts to be served."""

    says: list[str]
    cautions: list[str]
    bars: Bars
    worst: list[tuple[str, str, str, str]]
    """Distance, the prompt to be served, the nearest prompt of the data, the row of that."""


class DataPart(NamedTuple):
    """One data report; ``run`` is empty where all runs have the same."""

    run: str
    rows: list[tuple[str, str]] | None = None
    """Names and values; None where there is no data report."""
    dropped: Sequence[tuple[str, str, str]] = ()
    """Reason, rows, the first of them."""
    checks: Sequence[tuple[str, str, str]] = ()
    """What was looked for, how often it was found, the first rows."""
    says: Sequence[str] = ()
    bars: Sequence[Bars] = ()
    previews: Sequence[Preview] = ()
    coverage: CoveragePart | None = None


def data_parts(records: Sequence[RunRecord], text: Text) -> list[DataPart]:
    """One part a distinct data report."""
    first = records[0].data_report
    if len(records) > 1 and first is not None and all(r.data_report == first for r in records):
        return [_part("", first, text)]
    return [_part(r.name, r.data_report, text) for r in records]


def _part(run: str, recorded: Mapping[str, Any] | None, text: Text) -> DataPart:
    if recorded is None:
        return DataPart(run)
    rows = [(text(f"data.{key}"), str(recorded[key])) for key in _PLAIN if recorded.get(key) is not None]
    try:
        report = DataReport.model_validate(recorded)
    except ValidationError:  # of another version: what every version has is shown
        return DataPart(run, rows)
    rows.append((text("data.dropped"), str(len(report.dropped))))
    if report.tokens is not None:
        rows.append((text("data.truncated"), str(len(report.tokens.truncated))))
    if report.quality is None and (share := number(report.longer_won)) is not None:
        rows.append((text("data.longer_won"), f"{share:.1%}"))
    return DataPart(
        run,
        rows,
        [(why, str(len(at)), _rows((Place(r.file, r.row) for r in at), text)) for why, at in report.reasons().items()],
        _checks(report, text),
        _says(report, text),
        [_lengths(part, text) for part in (report.lengths, report.tokens and report.tokens.lengths) if part],
        report.tokens.previews if report.tokens else (),
        None if report.coverage is None else _coverage(report.coverage, text),
    )


def _checks(report: DataReport, text: Text) -> list[tuple[str, str, str]]:
    found: list[tuple[str, int, Iterable[Place]]] = []
    if (q := report.quality) is not None:
        for key, groups in (("exact", q.exact_duplicates), ("same", q.same_responses)):
            found.append((key, sum(len(g) - 1 for g in groups), [p for g in groups for p in g]))
        for key, within in (("contradictory_within", True), ("contradictory_across", False)):
            pairs = [c for c in q.contradictions if c.within_row is within]
            found.append((key, len(pairs), [p for c in pairs for p in c.places]))
        found.append(("wordless", len(q.wordless), q.wordless))
        found.append(("folded", len(q.folded_equal), q.folded_equal))
        found.append(("near", len(q.near_equal), [n.place for n in q.near_equal]))
    if (p := report.personal) is not None:
        for key, kind in (("email", "e-mail"), ("phone", "phone")):
            at = [f.place for f in p.findings if f.kind == kind]
            found.append((key, len(at), at))
    if (t := report.tokens) is not None:
        shortened = [row for row in t.truncated if row.turns]
        cut = [row for row in t.truncated if row.cut]
        for key, rows in (("turns", shortened), ("cut", cut)):
            found.append((key, len(rows), [Place(row.file, row.row) for row in rows]))
    return [(text(f"check.{key}"), str(n), _rows(places, text)) for key, n, places in found]


def _says(report: DataReport, text: Text) -> list[str]:
    says = []
    if (q := report.quality) is not None:
        if q.longer_won is not None:
            says.append(text("data.says.longer", n=q.longer_won.n, **_share(q.longer_won)))
        if (noise := q.label_noise) is None:
            says.append(text("data.says.no_noise"))
        else:
            disagree = f"{noise.disagreement.share:.1%}"
            counts = {"pairs": noise.pairs, "labels": noise.labels, "disagree": disagree}
            says.append(text("data.says.noise", **counts, **_share(noise.error_rate)))
        says.append(text("data.says.near", threshold=f"{q.near_equal_threshold:g}"))
    if report.personal is not None:
        says.append(text("data.says.personal", regions=text.join(report.personal.regions)))
    if (t := report.tokens) is not None:
        limit = text("data.no_limit") if t.max_length is None else str(t.max_length)
        says.append(text("data.says.tokens", model=t.model, limit=limit, on_long=t.on_long))
    return says


def _lengths(lengths: Lengths, text: Text) -> Bars:
    parts = list(lengths.counts)
    heads = [
        text("data.head", part=text(f"data.part.{p}"), median=tidy(s.median), p95=tidy(s.p95))
        for p, s in lengths.summary.items()
    ]
    labels = [
        str(low) if high == low + 1 else text("data.bin", low=low, high=high - 1)
        for low, high in zip(lengths.edges, lengths.edges[1:], strict=False)
    ]
    caption = text(f"data.lengths.{lengths.unit}")
    return _bars(caption, text("data.length"), heads, labels, [lengths.counts[p] for p in parts])


def _coverage(c: PromptCoverage, text: Text) -> CoveragePart:
    level = {"level": f"{c.level:.0%}", "rest": f"{1 - c.level:.0%}", "threshold": f"{c.threshold:.2f}"}
    says = [
        text("coverage.says", n=c.serving_prompts, **level, **_share(c.uncovered)),
        text("coverage.how", data=c.data_prompts, baseline=c.baseline_prompts, encoder=c.encoder, file=c.file),
        text("coverage.limits"),
    ]
    worst = {
        "unknown": max(c.unknown_tokens.values()),
        "script": max(c.other_script.values()),
        "cut": max(c.cut.values()),
        "few": 0.0,
    }
    cautions = [
        text(f"coverage.caution.{code}", share=f"{worst[code]:.1%}", n=c.baseline_prompts) for code in c.warnings
    ]
    used = [i for i, pair in enumerate(zip(c.serving_counts, c.baseline_counts, strict=True)) if any(pair)]
    bins = range(used[0], used[-1] + 1)
    labels = [text("data.bin", low=f"{c.edges[i]:.2f}", high=f"{c.edges[i + 1]:.2f}") for i in bins]
    columns = [[counts[i] for i in bins] for counts in (c.serving_counts, c.baseline_counts)]
    median = c.quantile_levels.index(0.5)
    heads = [
        text("coverage.head", part=text(f"coverage.{key}"), median=f"{values[median]:.2f}")
        for key, values in (("serving", c.serving_quantiles), ("baseline", c.baseline_quantiles))
    ]
    rows = [(f"{s.distance:.2f}", s.text, s.nearest[0].text, str(s.nearest[0].place.row)) for s in c.worst]
    bars = _bars(text("coverage.caption"), text("coverage.distance"), heads, labels, columns)
    return CoveragePart(says, cautions, bars, rows)


def _bars(caption: str, first: str, heads: Sequence[str], labels: Sequence[str], columns: Sequence[list[int]]) -> Bars:
    tops = [max(column) or 1 for column in columns]
    rows = [
        (label, [(column[i], round(100 * column[i] / top)) for column, top in zip(columns, tops, strict=True)])
        for i, label in enumerate(labels)
    ]
    return Bars(caption, first, tuple(heads), rows)


def _share(share: Share) -> dict[str, str]:
    return {"share": f"{share.share:.1%}", "low": f"{share.low:.1%}", "high": f"{share.high:.1%}"}


def _rows(places: Iterable[Place], text: Text) -> str:
    found = list(dict.fromkeys(places))
    several = len({p.file for p in found}) > 1
    shown = [str(p) if several else str(p.row) for p in found[:_SHOWN]]
    return text.join(shown) if len(found) <= _SHOWN else text("list.more", items=text("list.comma").join(shown))
