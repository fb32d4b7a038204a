"""A return on investment in words: what an executive reads first, then the tables that it comes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from safetyvalve.release.money import money
from safetyvalve.release.roi_record import Bar, Effect, Estimate, Flip, Net, Roi, Scenario
from safetyvalve.release.roi_text import MESSAGES
from safetyvalve.release.sheet import Sheet, Table, Words
from safetyvalve.release.tornado import tornado_chart

__all__ = ["roi_sheet"]

_MONEY = frozenset(
    {
        "wage", "one_off", "running", "evaluator_wage", "complaint_cost", "harm_cost", "win_rate_point_value",
        "satisfaction_point_value",
    }
)  # fmt: skip
_SHARES = frozenset({"redeployed", "share_edited", "complaints", "harm", "avoided_complaints", "avoided_harm"})
MOST_BARS = 8


def roi_sheet(roi: Roi, lang: str = "en") -> Sheet:
    """Sentences, tables and cautions.

    Raises:
        UsageError: a language that there is none of.
    """
    words = Words(lang, MESSAGES)
    tables = [_effects(roi, roi.effects, "table.effects", words), _amounts(roi, words), _nets(roi, words)]
    for net in roi.scenarios[0].nets:
        tables += [_tornado(roi, net, words), _flips(roi, net, words)]
    if roi.placebo:
        tables.append(_effects(roi, roi.placebo, "table.placebo", words))
    if roi.not_counted:
        rows = [[words(f"amount.{k}"), words(f"why.{why}")] for k, why in roi.not_counted.items()]
        tables.append(Table(words("table.not_counted"), [words("column.amount"), words("column.reason")], rows))
    return Sheet(words("title"), _sentences(roi, words), tables, words("table.cautions"), _cautions(roi, words))


def _sentences(roi: Roi, words: Words) -> list[str]:
    found = [_headline(roi, s, n, words) for s in roi.scenarios for n in s.nets]
    if (q := roi.quality) is not None:
        found.append(
            words(
                "points",
                candidate=q.candidate,
                baseline=q.baseline,
                rate=f"{q.win_rate.estimate:.1%}",
                low=f"{q.win_rate.low:.1%}",
                high=f"{q.win_rate.high:.1%}",
                prompts=q.prompts,
                how=words(f"how.{q.method}", judge=q.judge),
                points=_signed(q.points.estimate, 1),
            )
        )
    return found


def _headline(roi: Roi, scenario: Scenario, net: Net, words: Words) -> str:
    amount = _money(roi, words)
    return words(
        "headline",
        net=words(f"net.{net.key}"),
        redeployed=_share_of(scenario),
        total=amount(net.total.estimate),
        months=roi.horizon_months,
        confidence=f"{roi.confidence:.0%}",
        low=amount(net.total.low),
        high=amount(net.total.high),
        p=_chance(net.p_positive),
        payback=words(
            "payback.chance",
            text=_payback(net, roi, words),
            months=roi.horizon_months,
            never=_chance(net.payback.never),
        ),
        evidence=words(f"evidence.{roi.study.design}"),
    )


def _payback(net: Net, roi: Roi, words: Words) -> str:
    if net.payback.median is None:
        return words("payback.never", months=roi.horizon_months)
    return words("payback.month", median=net.payback.median)


def _effects(roi: Roi, effects: Sequence[Effect], title: str, words: Words) -> Table:
    study = roi.study
    named = words(
        title,
        cells=", ".join(f"{k} {n}" for k, n in study.tickets.items()),
        unit=words(f"unit.{study.unit}"),
        units=" / ".join(map(str, study.units)),
    )
    columns = [words(f"column.{c}") for c in ("what", "without", "with", "difference", "known")]
    rows = [
        [
            words(f"quantity.{e.key}"),
            _quantity(e.key, e.control),
            _quantity(e.key, e.treated),
            _span(e.difference, _writer(e.key)),
            " / ".join(map(str, e.known.values())),
        ]
        for e in effects
    ]
    return Table(named, columns, rows)


def _amounts(roi: Roi, words: Words) -> Table:
    amount = _money(roi, words)
    columns = [
        words("column.amount"),
        words("column.term"),
        *(words("column.redeployed", share=_share_of(s)) for s in roi.scenarios),
        words("column.evidence"),
    ]
    rows = [
        [
            words(f"amount.{same[0].key}"),
            words(f"term.{same[0].term}"),
            *(_span(a.total, amount) for a in same),
            words(f"evidence.{same[0].evidence}"),
        ]
        for same in zip(*(s.amounts for s in roi.scenarios), strict=True)
    ]
    title = words("table.amounts", months=roi.horizon_months, confidence=f"{roi.confidence:.0%}")
    return Table(title, columns, rows)


def _nets(roi: Roi, words: Words) -> Table:
    amount = _money(roi, words)
    columns = [words(f"column.{c}") for c in ("net", "share", "total", "p", "return", "payback", "never", "evidence")]
    rows = [
        [
            words(f"net.{n.key}"),
            _share_of(s),
            _span(n.total, amount),
            _chance(n.p_positive),
            "–" if n.return_on_cost is None else _span(n.return_on_cost, lambda v: f"{_signed(100 * v, 0)}%"),
            _payback(n, roi, words),
            _chance(n.payback.never),
            words(f"evidence.{roi.study.design}"),
        ]
        for s in roi.scenarios
        for n in s.nets
    ]
    return Table(words("table.nets"), columns, rows)


def _tornado(roi: Roi, net: Net, words: Words) -> Table:
    amount = _money(roi, words)
    bars: list[Bar] = net.tornado[:MOST_BARS]
    rows = [
        [
            words(f"input.{b.key}"),
            f"{_input(roi, b.key, b.low, words)} … {_input(roi, b.key, b.high, words)}",
            amount(b.net_low),
            amount(b.net_high),
        ]
        for b in bars
    ]
    title = words("table.tornado", net=_named(net, roi, words))
    chart = tornado_chart(
        [words(f"input.{b.key}") for b in bars], bars, net.total.estimate, amount, title, words("chart.key")
    )
    columns = [words(f"column.{c}") for c in ("input", "range", "at_low", "at_high")]
    return Table(title, columns, rows, chart)


def _flips(roi: Roi, net: Net, words: Words) -> Table:
    def says(flip: Flip) -> str:
        return words("flip.within" if flip.within else "flip.outside" if flip.possible else "flip.impossible")

    rows = [
        [
            words(f"input.{f.key}"),
            _input(roi, f.key, f.base, words),
            _input(roi, f.key, f.break_even, words) if f.possible and f.break_even is not None else "–",
            says(f),
        ]
        for f in net.flips
    ]
    columns = [words(f"column.{c}") for c in ("input", "base", "even", "says")]
    return Table(words("table.flips", net=_named(net, roi, words)), columns, rows)


def _named(net: Net, roi: Roi, words: Words) -> str:
    return f"{words(f'net.{net.key}')} ({words('column.redeployed', share=_share_of(roi.scenarios[0]))})"


def _cautions(roi: Roi, words: Words) -> list[str]:
    found = []
    for caution in roi.cautions:
        values = dict(caution.values)
        if "quantity" in values:
            values["quantity"] = words(f"quantity.{values['quantity']}")
        if "quantities" in values:
            values["quantities"] = ", ".join(words(f"quantity.{q}") for q in values["quantities"].split(", "))
        if "unit" in values:
            values["unit"] = words(f"unit.{values['unit']}")
        found.append(words(f"caution.{caution.key}", **values))
    files = "; ".join(
        words(
            "source",
            name=s.name,
            kind=s.kind,
            encoding=f", {s.encoding}" if s.encoding else "",
            tickets=s.tickets,
            ignored=words("source.ignored", columns=", ".join(s.ignored)) if s.ignored else "",
        )
        for s in roi.sources
    )
    found.append(words("sources", files=files))
    if roi.study.outside or roi.study.other_variants:
        found.append(words("left_out", outside=roi.study.outside, other=roi.study.other_variants))
    return found


def _money(roi: Roi, words: Words) -> Callable[[float], str]:
    return lambda value: money(value, roi.currency, words.lang)


def _span(value: Estimate, write: Callable[[float], str]) -> str:
    if value.low == value.high:
        return write(value.estimate)
    return f"{write(value.estimate)} [{write(value.low)}, {write(value.high)}]"


def _signed(value: float, places: int) -> str:
    text = f"{value:+,.{places}f}"
    return text.replace("-", "−") if float(text.replace(",", "")) else f"{0:.{places}f}"


def _quantity(key: str, value: float, *, sign: bool = False) -> str:
    scale, places, end = (100.0, 1, "%") if key in _SHARES else (1.0, 2, "")
    return (_signed(scale * value, places) if sign else f"{scale * value:.{places}f}") + end


def _writer(key: str) -> Callable[[float], str]:
    return lambda value: _quantity(key, value, sign=True)


def _input(roi: Roi, key: str, value: float, words: Words) -> str:
    if key in _MONEY:
        return money(value, roi.currency, words.lang)
    if key in _SHARES:
        return f"{100 * value:.3g}%".replace("-", "−") if abs(value) > 1e-6 or not value else f"{100 * value:.1e}%"
    return f"{value:,.0f}" if key == "volume" else _signed(value, 2).lstrip("+")


def _share_of(scenario: Scenario) -> str:
    share = scenario.redeployed
    return f"{(share.low + share.mode + share.high) / 3:.0%}"


def _chance(value: float) -> str:
    return "<1%" if 0 < value < 0.01 else ">99%" if 0.99 < value < 1 else f"{value:.0%}"
