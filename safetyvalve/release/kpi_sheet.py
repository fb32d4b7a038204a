"""The key figures in words: one sentence on what people prefer, one table, and what to know."""

from __future__ import annotations

from safetyvalve.release.kpi_record import Kpi, Kpis
from safetyvalve.release.kpi_text import MESSAGES
from safetyvalve.release.sheet import Sheet, Table, Words

__all__ = ["kpi_sheet"]

_SHARES = ("human_win_rate", "both_bad", "share_edited", "complaints", "harm")


def kpi_sheet(kpis: Kpis, lang: str = "en") -> Sheet:
    """Raises:
    UsageError: a language that there is none of.
    """
    words = Words(lang, MESSAGES)
    names = [f"column.{c}" for c in ("what", "value", "interval", "baseline", "better", "from")]
    table = Table(
        words("table", confidence=f"{kpis.confidence:.0%}"),
        [words(n) for n in names],
        [_row(figure, words) for figure in kpis.figures],
    )
    notes = [words(f"caution.{c.key}", **c.values) for c in kpis.cautions]
    if kpis.files:
        notes.append(words("files", files=", ".join(kpis.files)))
    return Sheet(_title(kpis, words), [_sentence(kpis, words)], [table], words("notes"), notes)


def _title(kpis: Kpis, words: Words) -> str:
    if kpis.candidate is None:
        return words("title")
    key = "title.of" if kpis.baseline is None else "title.against"
    return words(key, candidate=kpis.candidate, baseline=kpis.baseline)


def _sentence(kpis: Kpis, words: Words) -> str:
    rate = kpis.figures[0]
    if rate.value is None:
        return words("unknown")
    low, high = (0.0 if rate.low is None else rate.low), (1.0 if rate.high is None else rate.high)
    key = "better" if low > 0.5 else "worse" if high < 0.5 else "open"
    return words(
        key,
        candidate=kpis.candidate,
        baseline=kpis.baseline,
        rate=f"{rate.value:.1%}",
        low=f"{low:.1%}",
        high=f"{high:.1%}",
    )


def _row(figure: Kpi, words: Words) -> list[str]:
    name = words(f"figure.{figure.key}")
    if figure.value is None:
        how = words(figure.missing) if figure.missing else ""
        return [name, "–", "–", "–", words(f"better.{figure.better}"), words("missing", how=how)]
    ends = "–"
    if figure.low is not None and figure.high is not None:
        ends = f"[{_number(figure, figure.low)}, {_number(figure, figure.high)}]"
    return [
        name,
        _number(figure, figure.value),
        ends,
        "–" if figure.baseline is None else _number(figure, figure.baseline),
        words(f"better.{figure.better}"),
        _source(figure, words),
    ]


def _source(figure: Kpi, words: Words) -> str:
    judge = words("source.verdicts.judge", judge=figure.judge) if figure.judge else ""
    unit = words(f"unit.{figure.unit}") if figure.unit else ""
    return words(f"source.{figure.source}", n=figure.n, unit=unit, judge=judge)


def _number(figure: Kpi, value: float) -> str:
    text = f"{value:.1%}" if figure.key in _SHARES else f"{value:.2f}"
    return text.replace("-", "−")
