"""Key figures: by hand, in their order, and said to be unknown where they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy.stats import beta

from safetyvalve.cli import main
from safetyvalve.errors import DataError, UsageError
from safetyvalve.release.examples import write_examples
from safetyvalve.release.kpi import compute_kpis
from safetyvalve.release.kpi_record import Kpi, Kpis
from safetyvalve.release.kpi_sheet import kpi_sheet
from safetyvalve.release.labour import Judging
from safetyvalve.release.quality import HumanWinRate
from safetyvalve.stats import Interval, append_verdicts, clustered_mean
from tests.release.test_roi import WINS
from tests.release.tickets import ticket, tickets
from tests.stats.simulated import verdicts

JUDGING = Judging(2.0, 3, 100, 10, 0, 200, 10, Interval(4.0, 3.0, 5.0, 0.5, 3))


class Run:
    """A run with evaluations at two steps."""

    name = "rpo-1"

    def __init__(self, **metrics: list[float]) -> None:
        self.metrics = metrics

    def series(self, metric: str) -> tuple[list[int], list[float]]:
        values = self.metrics.get(metric.replace("samples/", ""), [])
        return list(range(len(values))), values


def of(kpis: Kpis, key: str) -> Kpi:
    return next(f for f in kpis.figures if f.key == key)


def test_people_first_and_the_reward_last_and_not_sufficient() -> None:
    found = compute_kpis(quality=WINS, run=Run(implicit_reward_gain=[0.0, 4.2]))
    assert [f.key for f in found.figures][:2] == ["human_win_rate", "both_bad"]
    last = found.figures[-1]
    assert (last.key, last.value, last.baseline, last.sufficient) == ("reward", 4.2, 0.0, False)
    assert all(f.sufficient for f in found.figures[:-1])
    sheet = kpi_sheet(found)
    assert sheet.sentences == ["People prefer new: 60.0% of comparisons (55.0% to 65.0%)."]
    assert "not sufficient" in sheet.tables[0].rows[-1][0]


def test_tickets_by_hand() -> None:
    """New: customers of 1, 1 and 2 tickets; edited 1 of 4, complaints none of 4. Old: one ticket each."""
    rows = [
        ticket(0, "new", customer="a", edited=True, edit_min=6.0, complaint=False, csat=4.0, handle_min=10.0),
        ticket(1, "new", customer="b", edited=False, edit_min=0.0, complaint=False, csat=5.0, handle_min=20.0),
        ticket(2, "new", customer="c", edited=False, edit_min=0.0, complaint=False, handle_min=30.0),
        ticket(3, "new", customer="c", edited=False, edit_min=0.0, complaint=False, csat=3.0),
        ticket(4, "old", customer="d", edited=True, edit_min=9.0, complaint=True, csat=2.0),
        ticket(5, "old", customer="e", edited=False, edit_min=0.0, complaint=False, csat=3.0),
    ]
    found = compute_kpis(tickets=tickets(rows), control="old", treatment="new")
    edited, minutes = of(found, "share_edited"), of(found, "edit_minutes")
    assert (edited.value, edited.baseline, edited.n, edited.unit) == (0.25, 0.5, 3, "customers")
    assert (minutes.value, minutes.baseline, minutes.low) == (6, 9, None)  # one customer has no spread
    expected = clustered_mean([4, 5, 3], ["a", "b", "c"])
    satisfaction = of(found, "satisfaction")
    assert (satisfaction.low, satisfaction.high) == pytest.approx((expected.low, expected.high))
    assert of(found, "handle_minutes").value == 20
    none = of(found, "complaints")
    assert (none.value, none.low, none.high) == pytest.approx((0, 0, beta.ppf(0.975, 1, 3)))
    assert of(found, "harm").value is None and of(found, "harm").missing == "get.harm"


def test_variants_that_are_not_told_apart_or_never_appear() -> None:
    rows = [ticket(i, "new" if i % 2 else "old", csat=4.0, customer=None) for i in range(6)]
    together = compute_kpis(tickets=tickets(rows))
    assert [c.key for c in together.cautions] == ["variants_mixed"] and of(together, "satisfaction").unit == "agents"
    alone = compute_kpis(tickets=tickets(rows), treatment="new")
    assert [c.key for c in alone.cautions] == ["no_control"] and of(alone, "satisfaction").baseline is None
    with pytest.raises(
        DataError, match=r"tickets\.csv:1, field 'variant': has no ticket of the variant 'rpo'; there are new, old"
    ):
        compute_kpis(tickets=tickets(rows), treatment="rpo")
    with pytest.raises(UsageError, match="there are no tickets"):
        compute_kpis(quality=WINS, treatment="new")
    with pytest.raises(UsageError, match="there is nothing to read key figures from"):
        compute_kpis()


def test_tickets_go_before_the_app_and_verdicts_before_the_run() -> None:
    rows = [ticket(i, edited=i == 0, edit_min=3.0 * (i == 0)) for i in range(4)]
    run = Run(length=[100.0, 150.0], proxy_reward=[1.0, 2.0], implicit_reward_gain=[0.0, 9.0])
    both = compute_kpis(quality=WINS, tickets=tickets(rows), judging=JUDGING, run=run)
    assert of(both, "share_edited").source == "tickets" and of(both, "length_ratio").value == 1.1
    assert of(both, "reward").value == 2.0
    app = compute_kpis(judging=JUDGING, run=run)
    assert (of(app, "share_edited").value, of(app, "edit_minutes").value) == (0.05, 4.0)
    assert of(app, "length_ratio").value == 1.5
    assert [c.key for c in app.cautions] == ["reward_without_people"]
    assert kpi_sheet(app).sentences[0].startswith("What people prefer is not known")


@pytest.mark.parametrize(
    ("rate", "words"),
    [(0.6, "People prefer new"), (0.4, "People prefer old: new wins 40.0%"), (0.52, "show no difference yet")],
)
def test_the_sentence(rate: float, words: str) -> None:
    interval = Interval(rate, rate - 0.05, rate + 0.05, 0.025, 200)
    assert words in kpi_sheet(compute_kpis(quality=WINS._replace(interval=interval))).sentences[0]


def test_every_figure_and_caution_in_both_languages() -> None:
    few = Interval(0.5, 0.3, 0.7, 0.1, 20)
    hard: HumanWinRate = WINS._replace(interval=few, people_only=few, judge="j", random_sample=False, none=3)
    for kpis in (
        compute_kpis(quality=hard, judging=JUDGING, files=["v.jsonl"]),
        compute_kpis(run=Run(length=[1.0, 2.0])),
    ):
        for lang in ("en", "ja"):
            sheet = kpi_sheet(kpis, lang)
            assert len(sheet.tables[0].rows) == 11
    assert {c.key for c in compute_kpis(quality=hard).cautions} == {
        "few_prompts",
        "no_difference",
        "not_drawn",
        "no_verdict",
    }


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "verdicts.jsonl"
    found = verdicts({"rpo": 1.0, "current": 0.0}, prompts=120, raters=1, seed=3, judge="j")
    append_verdicts(file, [v for v in found if v.rater_kind == "judge" or int(v.prompt_id[1:]) < 40])
    tickets_file = write_examples(tmp_path)[1]
    words = ["kpi", str(tickets_file), "--control", "現行", "--treatment", "新方式", "--verdicts", str(file)]
    assert main([*words, "--candidate", "rpo", "--output", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "40 prompts judged by people, with judge j (PPI++)" in out and "not known: " in out
    assert out.index("human win rate") < out.index("satisfaction") < out.index("reward score")
    kpis = Kpis.model_validate_json((tmp_path / "out" / "kpi.json").read_text())
    assert of(kpis, "human_win_rate").judge == "j" and of(kpis, "share_edited").unit == "customers"
    assert main([*words, "--candidate", "rpo", "--lang", "ja"]) == 0
    assert "主要指標: rpo(current との比較)" in capsys.readouterr().out
    assert main(words) == 2
    assert "--candidate is missing; name the new model, one of: current, rpo" in capsys.readouterr().err
    assert main(["kpi"]) == 2
    assert "there is nothing to read key figures from" in capsys.readouterr().err
