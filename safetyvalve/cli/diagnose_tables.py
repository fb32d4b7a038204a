"""A diagnosis as tables for a terminal or a log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape

from safetyvalve.cli.stats_tables import titled_table
from safetyvalve.report.observed import peak_words
from safetyvalve.report.text import Text

__all__ = ["print_diagnosis", "print_pool"]


def print_diagnosis(found: Mapping[str, Any]) -> None:
    """Print everything of a run's diagnosis."""
    console, text = _console(), Text("en")
    for source, points in found["points"].items():
        shown = titled_table(
            f"{found['run']}: {text(f'observed.source.{source}')}",
            "step",
            "sqrt(KL)",
            "KL",
            "score",
            "gain over the start",
        )
        for p in points:
            shown.add_row(str(p["step"]), f"{p['sqrt_kl']:.3f}", *(_span(p[k]) for k in ("kl", "score", "gain")))
        console.print(shown)
    fits = titled_table(
        "fits of the gain, d = sqrt(KL)", "score", "form", "alpha", "beta", "residual", "peak at d", text=2
    )
    for source, forms in found["fits"].items():
        if "why" in forms:
            fits.add_row(
                text(f"observed.source.{source}"), escape(text(f"observed.why.{forms['why']}")), "", "", "", ""
            )
            continue
        for form, fit in forms.items():
            fits.add_row(
                text(f"observed.source.{source}"),
                text(f"observed.form.{form}"),
                _span(fit["alpha"]),
                _span(fit["beta"]),
                f"{fit['residual']:.3f}",
                escape(peak_words(fit, text)),
            )
    console.print(fits)
    _print_gap(console, found["gap"], text)
    unscored = {k: v for k, v in found["unscored"].items() if k != "samples" and v}
    if unscored:
        console.print(f"unscored of {found['unscored']['samples']} samples: {unscored}")


def _print_gap(console: Console, gap: Mapping[str, Any], text: Text) -> None:
    if "why" in gap:
        console.print(escape(gap.get("reason") or text(f"observed.why.{gap['why']}")))
        return
    title = f"gap of the proxy over the {text('observed.source.' + gap['against'])}, in standard deviations"
    shown = titled_table(title, "covariate", "per standard deviation of it", "that deviation", "variance inflation")
    shown.add_row("(mean gap)", _span(gap["intercept"]), "", "")
    for term in gap["terms"]:
        name = text(f"observed.covariate.{term['name']}")
        shown.add_row(name, _span(term["coefficient"]), f"{term['deviation']:.3g}", f"{term['inflation']:.2f}")
    console.print(shown)
    console.print(f"R2 {gap['r_squared']:.3f}, {gap['samples']} samples of {gap['prompts']} prompts")
    console.print(escape(text("observed.gap.limits")))


def print_pool(found: Mapping[str, Any]) -> None:
    """Print the best-of-n curves."""
    console = _console()
    shown = titled_table(
        f"best of n by the proxy, {found['prompts']} prompts", "n", "KL at most", "proxy", "independent score"
    )
    for point in found["curve"]:
        independent = _span(point["independent"]) if point["independent"] else "-"
        shown.add_row(str(point["n"]), f"{point['kl']:.3f}", _span(point["proxy"]), independent)
    console.print(shown)
    lost = found["prompts_left_out"], found["unscored_proxy"], found["unscored_independent"] or 0
    if any(lost):
        console.print(f"left out: {lost[0]} prompts; unscored answers: {lost[1]} by the proxy, {lost[2]} independently")


def _span(interval: Mapping[str, Any]) -> str:
    low, high = (("?" if v is None else f"{v:.3f}") for v in (interval["low"], interval["high"]))
    return escape(f"{interval['estimate']:.3f} [{low}, {high}]")


def _console() -> Console:
    console = Console(highlight=False, soft_wrap=True)
    return console if console.is_terminal else Console(highlight=False, soft_wrap=True, width=200)
