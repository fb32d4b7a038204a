"""Intervals as bars, an SVG of a few lines without text, so that it can be read at phone width."""

from __future__ import annotations

from markupsafe import Markup

from safetyvalve.release.staged.gates import Gate

__all__ = ["gate_bar", "share_bar"]

_WIDTH, _HEIGHT = 400.0, 26.0
_COLOURS = {"pass": "#00795a", "fail": "#c04a00", "inconclusive": "#5b636d", "plain": "#0072b2"}
_SHADE, _INK = "#f6dfcf", "#3a3a3a"
_REACH = 3.0
"""Margins to either side that a gate's bar shows."""


def share_bar(low: float, estimate: float, high: float, title: str) -> Markup:
    """A share with its interval, on the scale from 0 to 1 with a line at one half."""
    return _bar(low, estimate, high, (0.0, 1.0), (0.5,), None, _COLOURS["plain"], title)


def gate_bar(gate: Gate, title: str) -> Markup | None:
    """A gate's change in units of its margin, better to the right; None where there is no change."""
    if gate.estimate is None or gate.low is None or gate.high is None:
        return None
    scale = gate.margin or max(abs(gate.low), abs(gate.high)) or 1.0
    ends = [value / scale * (1 if gate.better == "higher" else -1) for value in (gate.low, gate.estimate, gate.high)]
    low, estimate, high = sorted(ends)
    edge = -1.0 if gate.margin else 0.0
    return _bar(low, estimate, high, (-_REACH, _REACH), (0.0,), edge, _COLOURS[gate.state], title)


def _bar(
    low: float,
    estimate: float,
    high: float,
    view: tuple[float, float],
    lines: tuple[float, ...],
    shade_to: float | None,
    colour: str,
    title: str,
) -> Markup:
    """``shade_to``: what lies left of it is shaded. Ends beyond the view are cut at it."""

    def x(value: float) -> float:
        return _WIDTH * (min(max(value, view[0]), view[1]) - view[0]) / (view[1] - view[0])

    parts = [
        Markup('<svg class="span" role="img" aria-label="{}" viewBox="0 0 {:.0f} {:.0f}">').format(
            title, _WIDTH, _HEIGHT
        )
    ]
    if shade_to is not None:
        parts.append(
            Markup('<rect x="0" y="0" width="{:.1f}" height="{:.0f}" fill="{}"/>').format(x(shade_to), _HEIGHT, _SHADE)
        )
    for line in lines:
        parts.append(
            Markup('<line x1="{0:.1f}" x2="{0:.1f}" y1="0" y2="{1:.0f}" stroke="{2}"/>').format(x(line), _HEIGHT, _INK)
        )
    left, right = x(low), x(high)
    parts.append(
        Markup('<rect x="{:.1f}" y="9" width="{:.1f}" height="8" fill="{}"/>').format(
            left, max(right - left, 1.5), colour
        )
    )
    parts.append(
        Markup('<circle cx="{:.1f}" cy="13" r="6" fill="#fff" stroke="{}" stroke-width="2.5"/>').format(
            min(max(x(estimate), 8.0), _WIDTH - 8), colour
        )
    )
    return Markup("").join([*parts, Markup("</svg>")])
