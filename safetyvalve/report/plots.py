"""Lines to inline SVG: one panel a call, text kept as text, the same bytes for the same numbers."""

from __future__ import annotations

import io
import re
import unicodedata
import warnings
from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

__all__ = ["Line", "draw", "style_of"]

# The colours of Okabe and Ito, which stay apart for colour-blind readers, darkened until they read as text on white.
_COLOURS = ("#0072b2", "#c04a00", "#00795a", "#97407a", "#333333", "#7d6300", "#2f7fb0")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_TICKS = (1, 2, 2.5, 5, 10)
_INK, _FAINT = "#3a3a3a", "#d9d9d6"

_HEIGHT = 290.0
"""Of a panel, in points; the page scales it."""
_LEFT, _BOTTOM, _TOP = 52.0, 40.0, 14.0
_INSIDE = _HEIGHT - _BOTTOM - _TOP
_FONT, _LABEL_LIMIT = 11.0, 16
_SETTINGS = {"svg.fonttype": "none", "svg.hashsalt": "safetyvalve", "font.size": _FONT, "path.simplify": False}


class Line(NamedTuple):
    """One curve with its label at its end.

    ``low`` and ``high`` are bounds of the interval at each point, or empty; ``steps`` label points, or is empty.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str
    marker: str = "o"
    dashed: bool = False
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    steps: Sequence[int] = ()


def style_of(index: int) -> tuple[str, str]:
    """Colour and marker of the run at a place in the report."""
    return _COLOURS[index % len(_COLOURS)], _MARKERS[(index + index // len(_COLOURS)) % len(_MARKERS)]


def draw(
    lines: Sequence[Line],
    *,
    key: str,
    x_label: str,
    description: str,
    width: float = 420.0,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    zero: bool = False,
    whole_x: bool = True,
) -> str:
    """Draw a panel.

    Args:
        lines: curves with at least one point each, in data units.
        key: prefix of the ids in the SVG; distinct within a page.
        x_label: under the axis.
        description: what a screen reader says.
        width: of the panel, in points; smaller where more panels share a row.
        x_range, y_range: fixed limits, so that panels can be compared; None for the data's own.
        zero: whether to draw the line of no change.
        whole_x: whether x counts something.

    Returns:
        An ``<svg>`` element without width and height, which refers to nothing outside itself.
    """
    with warnings.catch_warnings(), matplotlib.rc_context(_SETTINGS):
        # Measuring Japanese with the Latin font that comes with matplotlib; the browser draws with its own.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=(width / 72, _HEIGHT / 72))
        right = 14 + max(_text_width(_short(line.label)) for line in lines)
        axes = figure.add_axes((_LEFT / width, _BOTTOM / _HEIGHT, (width - _LEFT - right) / width, _INSIDE / _HEIGHT))
        _frame(axes, x_label, zero, whole_x)
        for line in lines:
            _curve(axes, line)
        axes.margins(x=0.03)
        if x_range is not None:
            axes.set_xlim(*x_range)
        if y_range is not None:
            axes.set_ylim(*y_range)
        _end_labels(axes, lines)
        _step_labels(axes, lines)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(buffer.getvalue(), key, description)


def _frame(axes: Any, x_label: str, zero: bool, whole_x: bool) -> None:
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#8a8a86")
    axes.tick_params(length=0, colors=_INK, pad=5)
    axes.grid(axis="y", color=_FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=whole_x, steps=_TICKS))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=_TICKS))
    axes.ticklabel_format(useOffset=False, style="plain")
    axes.set_xlabel(x_label, color=_INK, labelpad=6, parse_math=False)
    if zero:
        axes.axhline(0, color="#8a8a86", linewidth=0.9)


def _curve(axes: Any, line: Line) -> None:
    pattern = (0, (4, 2.5)) if line.dashed else "solid"
    axes.plot(
        line.x,
        line.y,
        color=line.colour,
        linestyle=pattern,
        linewidth=1.8,
        marker=line.marker,
        markersize=4.2,
        zorder=3,
    )
    if line.low:
        axes.vlines(line.x, line.low, line.high, color=line.colour, linewidth=1.1, alpha=0.55, zorder=2)


def _step_labels(axes: Any, lines: Sequence[Line]) -> None:
    """Steps beside their points, ends first; a label that would touch an earlier one or a name is left out."""
    taken = [place for line in lines if line.steps for place in _name_places(axes, line)]
    for place, line in enumerate(lines):
        last = len(line.steps) - 1
        indices = _spread_indices(len(line.steps), 6)
        for i in sorted(indices, key=lambda i, last=last: (i not in (0, last), i)):  # type: ignore[misc]
            x, y = _in_points(axes, line.x[i], line.y[i])
            x, y = x + (-10 if i == last else 10), y + (-7 if place % 2 else 9)
            if any(abs(x - a) < 15 and abs(y - b) < 10 for a, b in taken):
                continue
            taken.append((x, y))
            axes.annotate(
                str(line.steps[i]),
                (line.x[i], line.y[i]),
                xytext=(-4 if i == last else 4, -11 if place % 2 else 5),
                textcoords="offset points",
                ha="right" if i == last else "left",  # the name stands to the right of the last point
                color=line.colour,
                fontsize=9,
            )


def _in_points(axes: Any, x: float, y: float) -> tuple[float, float]:
    place = axes.transData.transform((x, y)) * 72 / axes.figure.dpi
    return float(place[0]), float(place[1])


def _name_places(axes: Any, line: Line) -> list[tuple[float, float]]:
    """Where the name of a curve stands that ends inside the panel, in points, every 10 of its width."""
    if _reaches(line, *axes.get_xlim()):
        return []
    x, y = _in_points(axes, line.x[-1], line.y[-1])
    return [(x + 7 + along, y) for along in range(0, int(_text_width(_short(line.label))) + 1, 10)]


def _spread_indices(count: int, limit: int) -> list[int]:
    """Places of at most ``limit`` of ``count`` things, evenly spread, first and last among them."""
    if count <= limit:
        return list(range(count))
    return sorted({round(i * (count - 1) / (limit - 1)) for i in range(limit)})


def _end_labels(axes: Any, lines: Sequence[Line]) -> None:
    """Each label beside its curve's end: in the right margin where the curve reaches it, else at its last point.

    Labels in the margin are moved apart where they would overlap, with a hairline to the curve.
    """
    low, high = axes.get_ylim()
    left, reach = axes.get_xlim()
    points = _INSIDE / ((high - low) or 1.0)
    for line in lines:
        if not _reaches(line, left, reach):
            _label(axes, line, (line.x[-1], line.y[-1]), 7)
    at_edge = [line for line in lines if _reaches(line, left, reach)]
    placed = _apart([(line.y[-1] - low) * points for line in at_edge], gap=_FONT * 1.25, top=_INSIDE)
    for line, height in zip(at_edge, placed, strict=True):
        at = (reach, low + height / points)
        hair = {"color": line.colour, "linewidth": 0.6, "alpha": 0.6, "clip_on": False, "zorder": 1}
        axes.plot([line.x[-1], reach], [line.y[-1], at[1]], **hair)
        _label(axes, line, at, 5)
    axes.set_xlim(left, reach)
    axes.set_ylim(low, high)


def _reaches(line: Line, left: float, reach: float) -> bool:
    return reach - line.x[-1] < 0.1 * (reach - left)


def _label(axes: Any, line: Line, at: tuple[float, float], offset: float) -> None:
    axes.annotate(
        _short(line.label),
        at,
        xytext=(offset, 0),
        textcoords="offset points",
        color=line.colour,
        va="center",
        annotation_clip=False,
        parse_math=False,
    )


def _apart(wanted: Sequence[float], *, gap: float, top: float) -> list[float]:
    """Heights near the wanted ones, in the same order, at least ``gap`` apart and below ``top``, in points."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = list(wanted)
    for before, i in zip([None, *order], order, strict=False):
        if before is not None:
            placed[i] = max(placed[i], placed[before] + gap)
    limit = top
    for i in reversed(order):
        placed[i] = min(placed[i], limit)
        limit = placed[i] - gap
    return placed


def _short(label: str) -> str:
    return label if len(label) <= _LABEL_LIMIT else label[: _LABEL_LIMIT - 1] + "…"


def _text_width(label: str) -> float:
    """Points that a label takes, on the wide side: a Chinese or Japanese character is as wide as high."""
    return sum(_FONT if unicodedata.east_asian_width(c) in "WF" else 0.62 * _FONT for c in label)


def _inline(svg: str, key: str, description: str) -> str:
    """Only the element, with ids of its own, scaled by the page, and named for screen readers."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\sid="|url\(#|href="#)', lambda found: found[1] + key + "-", svg)
    head, rest = svg.split(">", 1)
    head = re.sub(r'\s(?:width|height|xmlns(?::xlink)?|version)="[^"]*"', "", head)
    return f'{head} class="plot" role="img" aria-label="{escape(description)}">{rest.strip()}'
