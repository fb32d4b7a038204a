"""Which curves a report shows, from the records of its runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from safetyvalve.report.evidence import final_interval
from safetyvalve.report.plots import Line, draw, style_of
from safetyvalve.report.record import RunRecord, number
from safetyvalve.report.text import Text

__all__ = ["FigureBlock", "Panel", "against_kl", "figures"]

_BY_STEP = {
    "losses": ("preference_loss", "sft_term", "preference_grad_norm", "sft_grad_norm"),
    "ranking": ("margin", "accuracy"),
}
_WITHOUT_COMPARISONS = {"losses": ("nll_per_token", "sft_grad_norm")}
_SAMPLED = {"length": "tokens", "repetition": "repetition", "eos_rate": "finished"}


class Panel(NamedTuple):
    """One plot with its heading."""

    title: str
    svg: str
    """Empty where nothing was recorded to draw."""
    absent: tuple[str, ...] = ()
    """Runs that have no such values."""


class FigureBlock(NamedTuple):
    """Panels that share a caption."""

    key: str
    title: str
    caption: str
    panels: tuple[Panel, ...]


def figures(records: Sequence[RunRecord], text: Text) -> list[FigureBlock]:
    """All figures of a report, in reading order."""
    blocks = [FigureBlock("against_kl", "", "", against_kl(records, text))]
    if not _nothing_compared(records):
        blocks.insert(0, FigureBlock("displacement", "", "", _displacement(records, text)))
    for key, metrics in (_WITHOUT_COMPARISONS if _nothing_compared(records) else _BY_STEP).items():
        blocks.append(FigureBlock(key, "", "", tuple(_step_panel(records, f"held_out/{m}", m, text) for m in metrics)))
    blocks.append(FigureBlock("answers", "", "", tuple(_sampled_panel(records, m, text) for m in _SAMPLED)))
    return [b._replace(title=text(f"figure.{b.key}.title"), caption=text(f"figure.{b.key}.caption")) for b in blocks]


def against_kl(records: Sequence[RunRecord], text: Text) -> tuple[Panel, ...]:
    """Independent score against KL and, where comparisons were learned from, the learned reward beside it."""
    if _nothing_compared(records):
        return (_score_panel(records, text),)
    return (_score_panel(records, text), _reward_panel(records, text))


def _nothing_compared(records: Sequence[RunRecord]) -> bool:
    """Whether all runs learned from responses alone, so that there is no reward and nothing to displace."""
    return all(r.series("held_out/nll_per_token")[1] and not r.series("held_out/margin")[1] for r in records)


def _displacement(records: Sequence[RunRecord], text: Text) -> tuple[Panel, ...]:
    """A panel a run for the sum over a response, then for a token, each row on one scale."""
    panels = []
    for suffix in ("", "_per_token"):
        values = [v for r in records for side in ("chosen", "rejected") for v in _displaced(r, side, suffix)[1]]
        limits = _limits(values)
        reach = _limits([float(max(r.last_step, 1)) for r in records], room=0.03)
        for place, record in enumerate(records):
            colour, marker = style_of(place)
            lines = [
                Line(text(f"side.{side}"), *_displaced(record, side, suffix), colour, marker, side == "rejected")
                for side in ("chosen", "rejected")
            ]
            title = text(f"panel.displacement{suffix}", run=record.name)
            panels.append(
                _panel(lines, (), title, f"displaced{suffix}-{place}", text, x_range=reach, y_range=limits, zero=True)
            )
    return tuple(panels)


def _displaced(record: RunRecord, side: str, suffix: str) -> tuple[list[int], list[float]]:
    return record.series(f"held_out/{side}_displacement{suffix}")


def _limits(values: Sequence[float], room: float = 0.06) -> tuple[float, float] | None:
    """Limits that hold all values and 0, with a share of room around."""
    if not values:
        return None
    low, high = min(*values, 0.0), max(*values, 0.0)
    room *= (high - low) or 1.0
    return low - room, high + room


def _score_panel(records: Sequence[RunRecord], text: Text) -> Panel:
    """Independent score with its interval over prompts, against KL."""
    lines = []
    for place, record in enumerate(records):
        kls = dict(zip(*record.series("samples/kl"), strict=True))
        rows = [
            (step, kls[step], final_interval(record, step, "score")) for step in sorted(record.samples) if step in kls
        ]
        found = [(step, kl, score) for step, kl, score in rows if score is not None]
        known = bool(found) and all(math.isfinite(score.low) for _, _, score in found)
        lines.append(
            Line(
                record.name,
                [kl for _, kl, _ in found],
                [score.estimate for _, _, score in found],
                *style_of(place),
                low=[score.low for _, _, score in found] if known else (),
                high=[score.high for _, _, score in found] if known else (),
                steps=[step for step, _, _ in found],
            )
        )
    return _panel(lines, records, text("panel.score"), "score", text, x_key="axis.kl", whole_x=False)


def _reward_panel(records: Sequence[RunRecord], text: Text) -> Panel:
    lines = []
    for place, record in enumerate(records):
        kls = dict(zip(*record.series("samples/kl"), strict=True))
        steps, gains = record.series("samples/implicit_reward_gain")
        rows = [(step, kls[step], gain) for step, gain in zip(steps, gains, strict=True) if step in kls]
        x, y = [kl for _, kl, _ in rows], [gain for _, _, gain in rows]
        lines.append(Line(record.name, x, y, *style_of(place), steps=[step for step, _, _ in rows]))
    return _panel(lines, records, text("panel.reward"), "reward", text, x_key="axis.kl", whole_x=False, zero=True)


def _step_panel(records: Sequence[RunRecord], metric: str, name: str, text: Text) -> Panel:
    lines = [Line(r.name, *r.series(metric), *style_of(i)) for i, r in enumerate(records)]
    return _panel(lines, records, text(f"panel.{name}"), name, text)


def _sampled_panel(records: Sequence[RunRecord], name: str, text: Text) -> Panel:
    """A property of the answers: the recorded mean, with the interval over prompts where the answers are there."""
    lines = []
    for place, record in enumerate(records):
        steps, values = record.series(f"samples/{name}")
        found = [final_interval(record, step, _SAMPLED[name]) for step in steps]
        known = bool(found) and all(i is not None and math.isfinite(i.low) for i in found)
        low = [i.low for i in found if i is not None] if known else ()
        high = [i.high for i in found if i is not None] if known else ()
        lines.append(Line(record.name, steps, values, *style_of(place), low=low, high=high))
    return _panel(lines, records, text(f"panel.{name}"), name, text, width=320.0)


def _panel(
    lines: Sequence[Line],
    records: Sequence[RunRecord],
    title: str,
    key: str,
    text: Text,
    *,
    x_key: str = "axis.step",
    **options: Any,
) -> Panel:
    """A panel with the runs that have values; ``options`` are those of :func:`draw`."""
    drawn = [line for line in lines if len(line.x)]
    absent = tuple(r.name for r, line in zip(records, lines, strict=False) if not len(line.x))
    if not drawn:
        return Panel(title, "")
    description = text("plot.description", title=title, ends=text.join([_ends(line, text) for line in drawn]))
    svg = draw(drawn, key=key, x_label=text(x_key), description=description, **options)
    return Panel(title, svg, absent)


def _ends(line: Line, text: Text) -> str:
    first, last = number(line.y[0]), number(line.y[-1])
    return text("plot.ends", label=line.label, first=f"{first:.3g}", last=f"{last:.3g}")
