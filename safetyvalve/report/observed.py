"""The report's section on overoptimization as it was observed: figures, fits and the proxy's gap."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from safetyvalve.report.diagnosis import fingerprint
from safetyvalve.report.figures import FigureBlock, Panel
from safetyvalve.report.plots import Line, draw, style_of
from safetyvalve.report.record import RunRecord
from safetyvalve.report.tables import Row
from safetyvalve.report.text import Text

__all__ = ["Observed", "observed", "peak_words"]

_SOURCES = ("independent", "held_out_member", "proxy")
_CURVE = 40
"""Points of a fitted curve."""


class Observed(NamedTuple):
    """What the section shows."""

    figures: list[FigureBlock]
    fits: list[Row]
    gaps: list[tuple[str, list[Row], str]]
    """(run, rows, what to know), for each run with a proxy."""
    stale: list[str]
    """Runs whose samples are not those of their diagnosis."""


def observed(records: Sequence[RunRecord], text: Text) -> Observed | None:
    """The section, or None where no run was diagnosed."""
    found = [(i, r, r.diagnosis) for i, r in enumerate(records) if r.diagnosis and "points" in r.diagnosis]
    if not found:
        return None
    stale = [r.name for _, r, d in found if d.get("inputs") != fingerprint(r)]
    current = [(i, r, d) for i, r, d in found if r.name not in stale]
    panels = [
        _curves(current, source, text) for source in _SOURCES if any(d["points"].get(source) for _, _, d in current)
    ]
    pools = [_pool(i, r, d["best_of_n"], text) for i, r, d in current if d.get("best_of_n")]
    blocks = [("observed", panels), ("best_of_n", pools)]
    return Observed(
        [FigureBlock(k, text(f"figure.{k}.title"), text(f"figure.{k}.caption"), tuple(p)) for k, p in blocks if p],
        [row for _, r, d in current for row in _fit_rows(r.name, d["fits"], text)],
        [(r.name, *_gap_rows(d["gap"], text)) for _, r, d in current],
        stale,
    )


def _curves(found: Sequence[tuple[int, RunRecord, Mapping[str, Any]]], source: str, text: Text) -> Panel:
    """Gain over the start against sqrt(KL), a run a colour, with the form of optimised policies dashed."""
    lines = []
    for place, record, diagnosis in found:
        points = diagnosis["points"].get(source) or []
        if not points:
            continue
        colour, marker = style_of(place)
        gains = [p["gain"] for p in points]
        known = all(g["low"] is not None for g in gains)
        lines.append(
            Line(
                record.name,
                [p["sqrt_kl"] for p in points],
                [g["estimate"] for g in gains],
                colour,
                marker,
                low=[g["low"] for g in gains] if known else (),
                high=[g["high"] for g in gains] if known else (),
                steps=[p["step"] for p in points],
            )
        )
        lines += _fitted(diagnosis["fits"].get(source) or {}, colour)
    title = text(f"panel.observed.{source}")
    ends = text.join(
        [text("plot.ends", label=ln.label, first=f"{ln.y[0]:.3g}", last=f"{ln.y[-1]:.3g}") for ln in lines if ln.label]
    )
    svg = draw(
        lines,
        key=f"observed-{source}",
        x_label=text("axis.sqrt_kl"),
        description=text("plot.description", title=title, ends=ends),
        whole_x=False,
        zero=True,
    )
    return Panel(title, svg)


def _fitted(fits: Mapping[str, Any], colour: str) -> Iterator[Line]:
    fit = fits.get("optimised")
    if fit is None:
        return
    alpha, beta = fit["alpha"]["estimate"], fit["beta"]["estimate"]
    xs = [fit["reach"] * i / _CURVE for i in range(1, _CURVE + 1)]
    yield Line("", xs, [d * (alpha - beta * math.log(d)) for d in xs], colour, "", dashed=True)


def _pool(place: int, record: RunRecord, pool: Mapping[str, Any], text: Text) -> Panel:
    """Both scores of the best of n, each as its gain over one sample in standard errors' own unit."""
    lines = []
    for index, source in enumerate(("independent", "proxy")):
        curve = [(math.sqrt(p["kl"]), p[source]) for p in pool["curve"] if p[source]]
        if curve:
            known = all(v["low"] is not None for _, v in curve)
            lines.append(
                Line(
                    text(f"observed.short.{source}"),
                    [d for d, _ in curve],
                    [v["estimate"] for _, v in curve],
                    *style_of(index),
                    dashed=source == "proxy",
                    low=[v["low"] for _, v in curve] if known else (),
                    high=[v["high"] for _, v in curve] if known else (),
                    steps=[p["n"] for p in pool["curve"]],
                )
            )
    title = text("panel.best_of_n", run=record.name, prompts=pool["prompts"])
    ends = text.join(
        [text("plot.ends", label=ln.label, first=f"{ln.y[0]:.3g}", last=f"{ln.y[-1]:.3g}") for ln in lines]
    )
    svg = draw(
        lines,
        key=f"best-of-n-{place}",
        x_label=text("axis.sqrt_kl"),
        description=text("plot.description", title=title, ends=ends),
        whole_x=False,
    )
    return Panel(title, svg)


def _fit_rows(run: str, fits: Mapping[str, Any], text: Text) -> Iterator[Row]:
    for source, forms in fits.items():
        name = f"{run}: {text(f'observed.source.{source}')}"
        if "why" in forms:
            yield Row(name, (text(f"observed.why.{forms['why']}"), "", "", "", ""))
            continue
        for form, fit in forms.items():
            cells = (
                text(f"observed.form.{form}"),
                _span(fit["alpha"], text),
                _span(fit["beta"], text),
                f"{fit['residual']:.3f}",
                peak_words(fit, text),
            )
            yield Row(name, cells)


def peak_words(fit: Mapping[str, Any], text: Text) -> str:
    """Where the peak is, or that there is none within the range."""
    peak, share = fit["peak"], f"{100 * fit['peak']['share_within']:.0f}"
    if peak["kind"] == "none":
        return text("observed.peak.none", reach=f"{fit['reach']:.2f}", share=share)
    where = peak["distance"]
    high = "∞" if where["high"] is None else f"{where['high']:.2f}"
    places = {"distance": f"{where['estimate']:.2f}", "low": f"{where['low']:.2f}", "high": high, "share": share}
    return text(f"observed.peak.{peak['kind']}", **places)


def _gap_rows(gap: Mapping[str, Any], text: Text) -> tuple[list[Row], str]:
    if "why" in gap:
        return [], gap.get("reason") or text(f"observed.why.{gap['why']}")
    rows = [Row(text("observed.covariate.mean"), (_span(gap["intercept"], text), "", ""))]
    for term in gap["terms"]:
        cells = (_span(term["coefficient"], text), f"{term['deviation']:.3g}", f"{term['inflation']:.2f}")
        rows.append(Row(text(f"observed.covariate.{term['name']}"), cells))
    says = [
        text(
            "observed.gap.says",
            against=text(f"observed.source.{gap['against']}"),
            samples=gap["samples"],
            prompts=gap["prompts"],
            r_squared=f"{gap['r_squared']:.2f}",
        )
    ]
    missing = [text(f"observed.covariate.{name}") for name in (*gap["absent"], *gap["left_out"])]
    if missing:
        says.append(text("observed.gap.absent", names=text.join(missing)))
    says += [text(f"observed.caution.{name}") for name in gap["cautions"]]
    return rows, text("observed.gap.joint").join(says)


def _span(interval: Mapping[str, Any], text: Text) -> str:
    if interval["low"] is None or interval["high"] is None:
        return f"{interval['estimate']:.3f}"
    span = text("interval.span", low=f"{interval['low']:.3f}", high=f"{interval['high']:.3f}")
    return text("cell.interval", estimate=f"{interval['estimate']:.3f}", span=span).replace("-", "−")
