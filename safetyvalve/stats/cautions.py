"""What a file of verdicts does not allow to conclude, in sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from safetyvalve.stats.judge_summary import CorrectedLine, JudgeLine
from safetyvalve.stats.power import Design, required_prompts
from safetyvalve.stats.summary import AgreementLine, PairLine, RankingLine
from safetyvalve.stats.win_rate import FEW_CLUSTERS, WinRate

__all__ = ["cautions"]

LOW_ALPHA = 0.667


def cautions(
    pairs: Sequence[PairLine],
    rankings: Iterable[RankingLine],
    agreement: Sequence[AgreementLine],
    judges: Iterable[JudgeLine],
    corrected: Iterable[CorrectedLine],
    *,
    confidence: float = 0.95,
) -> list[str]:
    """One sentence a caution; each names the pairs or raters it is about and what would help."""
    found: list[str] = []
    if not any(p.kind == "human" for p in pairs):
        found.append(
            "No person judged: these are the preferences of judges, not of people, and intervals leave out that a "
            "judge is biased. Nothing can be promoted on them; have people judge a random sample."
        )
    for raters in dict.fromkeys(p.raters for p in pairs):
        found += _about_pairs(raters, [p for p in pairs if p.raters == raters])
    if len(pairs) > 1:
        found.append(
            f"{len(pairs)} intervals are shown and each holds on its own; for all together pass --confidence "
            f"{1 - (1 - confidence) / len(pairs):.4g}."
        )
    for line in rankings:
        if line.ranking is None:
            found.append(f"No ranking by {line.raters}: {line.reason}")
        elif len(line.groups) > 1:
            shown = " > ".join("{" + ", ".join(g) + "}" for g in line.groups)
            found.append(
                f"Ranking by {line.raters}: a group never lost to the later ones ({shown}); how far it is above them "
                "comes from a prior of half a verdict a pair and is not known."
            )
    found += _about_agreement(agreement, pairs)
    for judge in judges:
        found += _about_judge(judge)
    if any(not c.weighted for c in corrected):
        found.append(
            "People and judge together: no chances of being drawn were recorded (inclusion_probability); the numbers "
            "hold only if people judged a random sample of the prompts."
        )
    return found


def _about_pairs(raters: str, lines: Sequence[PairLine]) -> list[str]:
    found = []

    def say(start: str, say_of: Callable[[PairLine, WinRate], str | None], end: str = "") -> None:
        about = [(p, text) for p in lines if p.rate is not None and (text := say_of(p, p.rate)) is not None]
        if about:
            named = "; ".join(f"{p.model_a} and {p.model_b}{text and f' ({text})'}" for p, text in about)
            found.append(f"By {raters}, {start}: {named}.{end}")

    if empty := [p for p in lines if p.rate is None]:
        named = "; ".join(f"{p.model_a} and {p.model_b} ({p.none} asked)" for p in empty)
        found.append(f"By {raters}, no verdict at all: {named}.")
    say(
        "no difference is shown",
        lambda p, r: f"{r.interval.low:.0%} to {r.interval.high:.0%} fits{_enough(r)}" if r.shows == "open" else None,
    )
    say(
        f"the difference is shown for these {max(p.people for p in lines)} people but not for others like them",
        lambda p, r: "" if r.shows != "open" and p.crossed and p.crossed.low <= 0.5 <= p.crossed.high else None,
        " Ask more people.",
    )
    say(
        f"under {FEW_CLUSTERS} prompts, so that intervals miss more often than they say",
        lambda p, r: f"{r.interval.n}" if r.interval.n < FEW_CLUSTERS else None,
    )
    say(
        "many verdicts are missing and may differ from the others",
        lambda p, r: f"{p.none} of {r.verdicts + p.none}" if p.none > 0.05 * (r.verdicts + p.none) else None,
    )
    say(
        "often both were bad, and the better of two bad answers is still bad",
        lambda p, r: f"{p.both_bad} of {r.verdicts}" if p.both_bad > 0.2 * r.verdicts else None,
    )
    say("no rate at equal length", lambda p, r: p.controlled_reason.rstrip(".") if p.controlled is None else None)
    say(
        "the rate at equal length is extrapolated, as one model nearly always wrote more",
        lambda p, r: f"{p.controlled.longer:.0%}" if p.controlled and p.controlled.extrapolated else None,
    )
    return found


def _enough(rate: WinRate) -> str:
    """How many prompts would show the rate found, where that is a number that helps to plan."""
    if abs(rate.interval.estimate - 0.5) < 0.02 or not 0.03 < rate.interval.estimate < 0.97:
        return ""
    need = required_prompts(Design(ties=0.0), rate.interval.estimate)
    return f", {need.prompts:,} prompts would show {rate.interval.estimate:.0%}"


def _about_agreement(agreement: Sequence[AgreementLine], pairs: Sequence[PairLine]) -> list[str]:
    found = [f"{line.measure} of {line.who}: {line.reason}" for line in agreement if line.agreement is None]
    for line in agreement:
        if line.measure == "alpha, nominal" and line.agreement and line.agreement.interval.estimate < LOW_ALPHA:
            found.append(
                f"People agree little (alpha {line.agreement.interval.estimate:.2f}, below {LOW_ALPHA}): the guideline "
                "may be unclear or the answers close; more people a prompt help more than usual."
            )
    if any(p.kind == "human" for p in pairs) and not any(line.measure.startswith("alpha") for line in agreement):
        found.append("One person judged: how far others would agree is not known; let at least two judge some items.")
    return found


def _about_judge(judge: JudgeLine) -> list[str]:
    found = []
    if judge.one_order and judge.kind == "judge":
        found.append(
            f"Judge {judge.judge}: {judge.one_order} of {judge.items} items were judged in one order only; if it "
            "favours a side, the rates are off. Judge both orders."
        )
    for name, interval, direction in (
        ("the answer shown first", judge.position, "than fair"),
        ("longer answers", judge.length, "than people do"),
        ("its own family", judge.family, "than people do"),
    ):
        if interval is not None and (interval.low > 0 or interval.high < 0):
            word = "more" if interval.estimate > 0 else "less"
            found.append(
                f"{judge.judge} prefers {name} {word} often {direction}: {100 * interval.estimate:+.1f} points "
                f"[{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]."
            )
    return found
