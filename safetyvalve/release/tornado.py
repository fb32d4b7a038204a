"""The tornado chart as an SVG of a few lines, that prints and scales and needs no script."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup

from safetyvalve.release.roi_record import Bar

__all__ = ["tornado_chart"]

_WIDTH, _LEFT, _RIGHT, _ROW, _TOP = 640.0, 240.0, 70.0, 26.0, 22.0
_LOW, _HIGH, _INK = "#0072b2", "#c04a00", "#3a3a3a"
"""Blue at the input's low end, orange at its high end: apart for colour-blind readers."""


def tornado_chart(
    names: Sequence[str], bars: Sequence[Bar], base: float, write: Callable[[float], str], title: str, key: str
) -> Markup | None:
    """Bars from the net at an input's low end to that at its high end, around the net at the means.

    Args:
        names: [bar] of the inputs.
        bars: the longest first.
        base: net with every input at its mean.
        write: an amount as text.
        title: what a screen reader says.
        key: what the colours mean.
    """
    if not bars:
        return None
    ends = [0.0, base, *(e for b in bars for e in (b.net_low, b.net_high))]
    low, high = min(ends), max(ends)
    inside = _WIDTH - _LEFT - _RIGHT

    def x(value: float) -> float:
        return _LEFT + inside * (value - low) / ((high - low) or 1.0)

    height = _TOP + _ROW * len(bars) + 44
    parts = [
        Markup(
            '<svg class="plot tornado" role="img" aria-label="{}" viewBox="0 0 {} {}" font-size="12" fill="{}">'
        ).format(title, int(_WIDTH), int(height), _INK)
    ]
    for i, (name, bar) in enumerate(zip(names, bars, strict=True)):
        y = _TOP + _ROW * i
        parts.append(Markup('<text x="{:.0f}" y="{:.1f}" text-anchor="end">{}</text>').format(_LEFT - 8, y + 14, name))
        for end, colour in ((bar.net_low, _LOW), (bar.net_high, _HIGH)):
            left, right = sorted((x(base), x(end)))
            parts.append(
                Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="18" fill="{}"/>').format(
                    left, y + 1, max(right - left, 0.5), colour
                )
            )
    bottom = _TOP + _ROW * len(bars)
    for value, dashes in ((0.0, "3 3"), (base, "none")):
        parts.append(
            Markup(
                '<line x1="{0:.1f}" x2="{0:.1f}" y1="{1:.0f}" y2="{2:.1f}" stroke="{3}" stroke-dasharray="{4}"/>'
            ).format(x(value), _TOP - 4, bottom + 4, _INK, dashes)
        )
    parts.append(Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="middle">0</text>').format(x(0.0), bottom + 18))
    parts.append(Markup('<text x="{:.1f}" y="14" text-anchor="middle">{}</text>').format(x(base), write(base)))
    parts.append(Markup('<text x="{:.0f}" y="{:.1f}" text-anchor="end">{}</text>').format(_WIDTH, bottom + 36, key))
    return Markup("").join([*parts, Markup("</svg>")])
