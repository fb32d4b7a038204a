"""``safetyvalve annotate plan``: how many judgments, people and hours a planned evaluation needs."""

from __future__ import annotations

import json as json_module
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from safetyvalve.stats import Design, Plan

__all__ = ["Agreement", "Extra", "HoursEach", "Overlap", "Power", "Raters", "Seconds", "Ties", "plan"]

Raters = Annotated[int, typer.Option(help="People who judge a prompt that several judge.")]
Overlap = Annotated[float, typer.Option(help="Share of the prompts that several judge.")]
Ties = Annotated[float, typer.Option(help="Share of verdicts that will be ties or both bad.")]
Agreement = Annotated[float, typer.Option(help="Correlation of two people on a prompt, about alpha.")]
Power = Annotated[float, typer.Option(help="Chance to show a difference that is there.")]
Seconds = Annotated[float, typer.Option(help="Active time of a judgment; measure it in a trial.")]
Extra = Annotated[float, typer.Option(help="Gold items, practice and repeats, as a share of the judgments.")]
HoursEach = Annotated[float, typer.Option(help="Longest time for one person.")]


def plan(
    win_rate: Annotated[
        float | None,
        typer.Option(help="Smallest win rate that matters, such as 0.55; or --prompts.", show_default=False),
    ] = None,
    prompts: Annotated[
        int | None, typer.Option(help="Prompts there are; says the win rate that they would show.", show_default=False)
    ] = None,
    raters: Raters = 1,
    overlap: Overlap = 1.0,
    ties: Ties = 0.2,
    agreement: Agreement = 0.4,
    annotators: Annotated[
        int | None,
        typer.Option(help="People there are. Default: as many as --hours-each asks for.", show_default=False),
    ] = None,
    annotator_spread: Annotated[
        float,
        typer.Option(
            help="Correlation of a person's verdicts on different prompts; above 0 to conclude for others too."
        ),
    ] = 0.0,
    judge_correlation: Annotated[
        float, typer.Option(help="Correlation of a judge with people, to be used by prediction-powered inference.")
    ] = 0.0,
    judge_prompts: Annotated[int, typer.Option(help="Prompts with a judge's verdict only.")] = 0,
    power: Power = 0.8,
    confidence: Annotated[float, typer.Option(help="Of the two-sided interval.")] = 0.95,
    seconds: Seconds = 60.0,
    extra: Extra = 0.1,
    hours_each: HoursEach = 4.0,
    lang: Annotated[Literal["en", "ja"], typer.Option(help="Language of the answer.")] = "en",
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say how many prompts, judgments, people and hours show a difference of so much.

    Two models are compared once on each prompt. Ties, agreement and seconds are assumptions: run a small trial and put
    in what it showed.
    """
    from safetyvalve.stats import Design, plan_evaluation
    from safetyvalve.stats.overview import plain

    design = Design(
        raters=raters,
        overlap=overlap,
        ties=ties,
        agreement=agreement,
        annotator_spread=annotator_spread,
        annotators=annotators,
        judge_correlation=judge_correlation,
        judge_prompts=judge_prompts,
    )
    found = plan_evaluation(
        design,
        win_rate=win_rate,
        prompts=prompts,
        power=power,
        confidence=confidence,
        seconds=seconds,
        extra=extra,
        hours_each=hours_each,
    )
    if json:
        typer.echo(json_module.dumps(plain(found), indent=2))
    else:
        typer.echo("\n".join(_lines(found, design, power, confidence, seconds, extra, TEXT[lang])))


TEXT = {
    "en": {
        "shows": "A win rate of {rate:.1%} shows with a chance of {power:.0%} ({confidence:.0%} interval) from:",
        "nothing": "{prompts:,} prompts are too few to show any difference with a chance of {power:.0%}.",
        "few": "{people} people are too few with any number of prompts: tastes vary. At least {least} are needed.",
        "prompts": "  prompts          {0:,}",
        "verdicts": "  verdicts         {0:,}",
        "judgments": "  judgments        {0:,} with gold items, practice and repeats ({1:.0%} more)",
        "people": "  people           {0:,}, {1:.1f} hours each",
        "hours": "  hours            {0:,.1f} in all, {1:g} seconds a judgment",
        "effect": "  design effect    {0:.2f}: times the verdicts that one verdict a prompt would need",
        "anytime": "  looked at all the time (anytime-valid interval): about {0:,} prompts",
        "anytime_no": "  looked at all the time (anytime-valid interval): more than six times the prompts",
        "assumed": "Assumed: ties {ties:.0%}, agreement {agreement:g}, spread of people {spread:g}, judge {judge:g}. "
        "Check them in a trial.",
        "these": "The answer holds for these people; --annotator-spread above 0 plans for others like them.",
    },
    "ja": {
        "shows": "勝率 {rate:.1%}(基準 50%)を確率 {power:.0%} で示すために必要な量(信頼水準 {confidence:.0%}):",
        "nothing": "プロンプト {prompts:,} 件では、どんな差も確率 {power:.0%} では示せません。",
        "few": "評価者 {people} 人では、好みの個人差のためプロンプトを増やしても足りません。最低 {least} 人必要です。",
        "prompts": "  プロンプト    {0:,} 件",
        "verdicts": "  判定          {0:,} 件",
        "judgments": "  作業件数      {0:,} 件(確認用・練習・再判定を {1:.0%} 加算)",
        "people": "  評価者        {0:,} 人、1 人あたり {1:.1f} 時間",
        "hours": "  時間          合計 {0:,.1f} 時間(1 件 {1:g} 秒)",
        "effect": "  デザイン効果  {0:.2f}(1 プロンプト 1 判定の場合に対する判定数の倍率)",
        "anytime": "  途中で何度でも結果を見る場合(逐次有効な信頼区間): プロンプト約 {0:,} 件",
        "anytime_no": "  途中で何度でも結果を見る場合(逐次有効な信頼区間): 6 倍を超えるプロンプト",
        "assumed": "仮定: 引き分け {ties:.0%}、評価者間の一致 {agreement:g}、個人差 {spread:g}、"
        "判定モデルとの相関 {judge:g}。"
        "小規模な試行で確かめてください。",
        "these": "この結果はこの評価者たちについてのものです。"
        "他の人にも当てはめるには --annotator-spread を 0 より大きくしてください。",
    },
}


def _lines(
    found: Plan, design: Design, power: float, confidence: float, seconds: float, extra: float, text: dict[str, str]
) -> list[str]:
    need = found.need
    if need.prompts is None:
        return [text["few"].format(people=design.annotators, least=need.least_annotators)]
    if found.win_rate is None:
        return [text["nothing"].format(prompts=need.prompts, power=power)]
    head = text["shows"].format(rate=found.win_rate, power=power, confidence=confidence)
    lines = [
        head,
        text["prompts"].format(need.prompts),
        text["verdicts"].format(need.verdicts),
        text["judgments"].format(found.judgments, extra),
        text["people"].format(found.people, found.hours_each),
        text["hours"].format(found.hours, seconds),
        text["effect"].format(need.design_effect),
    ]
    if design.annotator_spread == 0 and design.judge_prompts == 0:
        peeking = found.anytime_prompts
        lines.append(text["anytime"].format(peeking) if peeking else text["anytime_no"])
    lines.append(
        text["assumed"].format(
            ties=design.ties, agreement=design.agreement, spread=design.annotator_spread, judge=design.judge_correlation
        )
    )
    if design.annotator_spread == 0:
        lines.append(text["these"])
    return lines
