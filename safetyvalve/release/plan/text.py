"""A plan as Markdown for a person, in English or Japanese."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from safetyvalve.release.money import money
from safetyvalve.release.plan.curve import CurvePlan
from safetyvalve.release.plan.make import ProjectPlan
from safetyvalve.release.plan.settings import BETAS
from safetyvalve.release.plan.words import WORDS
from safetyvalve.stats import Interval

__all__ = ["plan_markdown"]

GIB = 2**30
Words = dict[str, str]


def plan_markdown(plan: ProjectPlan, lang: str = "en") -> str:
    """The whole plan; ``lang`` is ``en`` or ``ja``."""
    words = WORDS[lang]
    parts = (
        ("short", _short(plan, words)),
        ("data_head", _data(plan, words)),
        ("curve_head", _curve(plan.curve, words)),
        ("noise_head", _noise(plan, words)),
        ("coverage_head", _coverage(plan, words)),
        ("settings_head", _settings(plan, words)),
        ("evaluation_head", _evaluation(plan, words)),
        ("machine_head", _machine(plan, words)),
        ("cost_head", _costs(plan, words, lang)),
        ("limits_head", iter([words["limits"]])),
    )
    title = words["title"].format(file=plan.data.file)
    made = words["made"].format(created=plan.created, version=plan.version)
    sections = [f"## {words[head]}\n\n" + "\n\n".join(blocks) for head, blocks in parts]
    return "\n\n".join([f"# {title}", made, *sections]) + "\n"


def _short(plan: ProjectPlan, words: Words) -> Iterator[str]:
    lines = [_data_line(plan, words), _curve_line(plan.curve, words)]
    noise = plan.noise
    if noise.estimated is not None and noise.ceiling is not None:
        lines.append(words["short_noise"].format(rate=noise.estimated.error_rate.share, most=noise.ceiling[1]))
    else:
        lines.append(words["short_noise_unknown"])
    if plan.coverage is not None:
        lines.append(words["short_coverage"].format(share=plan.coverage.uncovered.share))
    s = plan.settings
    lines.append(words["short_settings"].format(beta=s.beta, eta=s.eta, runs=s.n_runs))
    chosen = plan.evaluation.plans[0]
    if not plan.evaluation.chosen:
        lines.append(words["short_evaluation_open"])
    elif chosen.hours is not None and chosen.win_rate is not None:
        lines.append(
            words["short_evaluation"].format(judgments=chosen.judgments, hours=chosen.hours, rate=chosen.win_rate)
        )
    yield "\n".join(f"- {line}" for line in lines)


def _data_line(plan: ProjectPlan, words: Words) -> str:
    d = plan.data
    return words["data"].format(
        comparisons=d.comparisons,
        kept=d.chosen or d.kept,
        conversations=d.prompts_opening,
        dropped=len(d.dropped),
        rows=d.rows,
    )


def _data(plan: ProjectPlan, words: Words) -> Iterator[str]:
    yield _data_line(plan, words)
    if plan.data.chosen is not None:
        yield words["chosen"].format(chosen=plan.data.chosen)
    if (q := plan.data.quality) is not None:
        yield words["defects"].format(
            duplicates=plan.data.duplicates, contradictions=len(q.contradictions), near_equal=len(q.near_equal)
        )
        if q.longer_won is not None:
            yield words["longer"].format(**q.longer_won.model_dump())


def _curve_line(curve: CurvePlan, words: Words) -> str:
    if curve.too_few is not None:
        return words["short_few"]
    key = {True: "helps", False: "harms", None: "unclear"}[curve.more_helps]
    return words[key].format(gain=_gain(curve.gains[-1], words))


def _gain(gain: Interval, words: Words) -> str:
    return words["gain"].format(estimate=100 * gain.estimate, low=100 * gain.low, high=100 * gain.high)


def _curve(curve: CurvePlan, words: Words) -> Iterator[str]:
    if curve.too_few is not None:
        yield words["few"].format(**curve.too_few._asdict())
    else:
        yield words[f"probe_{curve.probe.kind}"].format(**curve.probe._asdict())
        yield words["probe_means"]
        yield words["curve_how"].format(draws=curve.draws, held_out=curve.held_out)
        rows = [
            (
                f"{p.comparisons:,}",
                f"{p.accuracy.estimate:.1%}",
                f"{p.accuracy.low:.1%} – {p.accuracy.high:.1%}",
                f"{p.spread:.1%}",
                f"{p.log_loss.estimate:.3f}",
                "" if k == 0 else _gain(curve.gains[k - 1], words),
            )
            for k, p in enumerate(curve.points)
        ]
        yield _table(words["curve_table"], rows)
        yield _curve_line(curve, words)
        yield from _ahead(curve, words)
    if curve.probe.left_out:
        yield words["left_out"].format(left_out=curve.probe.left_out)
    for code in curve.probe.cautions:
        yield words[f"caution_{code}"]


def _ahead(curve: CurvePlan, words: Words) -> Iterator[str]:
    last = curve.points[-1]
    if (ahead := curve.next) is not None:
        yield words["next"].format(
            times=ahead.comparisons / last.comparisons,
            now=last.accuracy.estimate,
            then=ahead.accuracy.estimate,
            low=ahead.accuracy.low,
            high=ahead.accuracy.high,
            gain=_gain(ahead.gain, words),
        )
    if (known := curve.checked) is not None:
        inside = known.accuracy.low <= last.accuracy.estimate <= known.accuracy.high
        yield words["checked"].format(
            then=known.accuracy.estimate,
            low=known.accuracy.low,
            high=known.accuracy.high,
            now=last.accuracy.estimate,
            inside=words["inside" if inside else "outside"],
        )


def _noise(plan: ProjectPlan, words: Words) -> Iterator[str]:
    noise = plan.noise
    if noise.estimated is not None and noise.ceiling is not None and noise.ceiling_widest is not None:
        rate = noise.estimated.error_rate
        yield words["noise"].format(rate=rate.share, low=rate.low, high=rate.high, pairs=noise.estimated.pairs)
        (least, most), (least_wide, most_wide) = noise.ceiling, noise.ceiling_widest
        yield words["ceiling"].format(least=least, most=most, least_wide=least_wide, most_wide=most_wide)
    else:
        hours = next(line.people_hours for line in plan.costs.lines if line.work == "repeats")
        yield words["noise_unknown"].format(repeats=noise.repeats, hours=hours)
    if noise.scenarios:
        yield words["scenario_assumed" if noise.assumed else "scenarios"]
        missing = words["no_probe" if plan.curve.reached is None else "impossible"]
        rows = [
            (
                f"{s.error_rate:.0%}",
                f"{s.ceiling:.0%}",
                missing if s.probe_on_truth is None else f"{s.probe_on_truth:.1%}",
            )
            for s in noise.scenarios
        ]
        yield _table(words["scenario_table"], rows)


def _coverage(plan: ProjectPlan, words: Words) -> Iterator[str]:
    found = plan.coverage
    if found is None:
        yield words["coverage_none"]
        return
    yield words["coverage"].format(**found.uncovered.model_dump())
    for code in found.warnings:
        yield words[f"caution_{code}"]
    yield words["coverage_do"]
    yield "\n".join(
        words["farthest"].format(row=s.place.row, distance=s.distance, text=" ".join(s.text.split())[-100:])
        for s in found.worst[:5]
    )


def _settings(plan: ProjectPlan, words: Words) -> Iterator[str]:
    s = plan.settings
    yield words["start"].format(beta=s.beta, eta=s.eta, reduction=s.reduction)
    yield words["eta_why"].format(comparisons=s.comparisons, scale=s.scale)
    yield words["beta_why"].format(beta=s.beta, betas=", ".join(f"{b:g}" for b in BETAS))
    yield words["constants"]
    yield words["parity"].format(margin=s.parity_margin)
    yield words["sweep"].format(runs=s.n_runs)
    rows = []
    for run in s.runs:
        purpose = "repeat_dpo" if run.purpose == "repeat" and run.objective == "dpo" else run.purpose
        eta = "" if run.eta is None else f"{run.eta:g}"
        rows.append((run.objective, f"{run.beta:g}", eta, str(run.seeds), words[f"purpose_{purpose}"]))
    yield _table(words["sweep_table"], rows)


def _evaluation(plan: ProjectPlan, words: Words) -> Iterator[str]:
    e = plan.evaluation
    if not e.chosen:
        yield words["evaluation_open"]
    rows = []
    for p in e.plans:
        rate = words["none"] if p.win_rate is None else f"{p.win_rate:.1%}"
        if p.hours is None or p.win_rate is None:
            rows.append((rate, words["not_enough"], "", "", "", ""))
            continue
        peek = words["more_than_six"] if p.anytime_prompts is None else f"{p.anytime_prompts:,}"
        rows.append((rate, f"{p.need.prompts:,}", f"{p.judgments:,}", f"{p.people:,}", f"{p.hours:,.1f}", peek))
    yield _table(words["evaluation_table"], rows)
    yield words["evaluation_assumed"].format(
        power=e.power,
        confidence=e.confidence,
        ties=e.design.ties,
        agreement=e.design.agreement,
        seconds=e.seconds,
        raters=e.design.raters,
        extra=e.extra,
    )


def _machine(plan: ProjectPlan, words: Words) -> Iterator[str]:
    m = plan.machine
    if m is None:
        yield words["machine_none"]
    elif m.seconds is None or m.peak_bytes is None:
        yield words["machine_refused"].format(machine=m.machine, reason=m.refused)
    else:
        yield words["machine"].format(
            steps=m.steps,
            prompts=m.prompts_per_step,
            epochs=m.epochs,
            model=m.model,
            hours=_duration(m.seconds / 3600, words),
            machine=m.machine,
            gib=m.peak_bytes / GIB,
        )


def _costs(plan: ProjectPlan, words: Words, lang: str) -> Iterator[str]:
    costs = plan.costs
    currency = costs.rates.currency

    def amount(value: float | None) -> str:
        return words["unknown"] if value is None or currency is None else money(value, currency, lang)

    rows = []
    for line in costs.lines:
        of_people, of_machine = line.work != "sweep", line.work == "sweep"
        people = words["unknown"] if line.people_hours is None else f"{line.people_hours:,.1f}"
        machine = words["unknown"] if line.machine_hours is None else f"{line.machine_hours:,.1f}"
        rows.append(
            (
                words[f"work_{line.work}"],
                people if of_people else "",
                machine if of_machine else "",
                amount(line.money),
            )
        )
    yield _table(words["cost_table"], rows)
    if costs.total is not None:
        yield words["total"].format(money=amount(costs.total))
    else:
        yield words["missing"].format(options=", ".join(f"--{name}" for name in costs.missing))


def _duration(hours: float, words: Words) -> str:
    return words["minutes"].format(value=60 * hours) if hours < 1.5 else words["hours"].format(value=hours)


def _table(head: str, rows: Sequence[Sequence[str]]) -> str:
    columns = head.count("|") - 1
    return "\n".join([head, "|" + " --- |" * columns, *("| " + " | ".join(row) + " |" for row in rows)])
