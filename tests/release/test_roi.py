"""Money by hand, the sign, the payback, and what is said beside it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from safetyvalve.errors import UsageError
from safetyvalve.release.labour import Judging
from safetyvalve.release.quality import HumanWinRate
from safetyvalve.release.roi import compute_roi
from safetyvalve.release.roi_assumptions import Triangle, assume
from safetyvalve.release.roi_record import Net, Roi, Scenario
from safetyvalve.release.roi_sensitivity import payback
from safetyvalve.release.roi_study import Study
from safetyvalve.release.roi_value import monthly_flows
from safetyvalve.release.tickets import Ticket
from safetyvalve.stats import Interval
from tests.release.tickets import START, ticket, tickets

STUDY = Study("randomised", "customer", "old", "new")
PRICES: dict[str, Any] = {
    "currency": "JPY", "horizon_months": 12, "volume": 1000, "wage": 3000, "one_off": 1_000_000, "running": 50_000,
    "evaluation_hours": 40, "redeployed": 0.5,
}  # fmt: skip
RATE = Interval(0.6, 0.55, 0.65, 0.025, 200)
WINS = HumanWinRate("new", "old", RATE, None, True, RATE, Interval(0.1, 0.05, 0.15, 0.02, 200), 3, 250, 0, 1.1)


def rows(each: int = 40) -> list[Ticket]:
    """Old: half edited, 8 minutes, 20 of handling, 10% complain, satisfaction 3.5; new: a quarter, 4, 18, 5%, 4."""
    found = []
    for i in range(each):
        old, new = i % 2 == 0, i % 4 == 0
        found += [
            ticket(
                2 * i, "old", edited=old, edit_min=8.0 * old, handle_min=20 + 8.0 * old, complaint=i % 10 == 0,
                csat=3 + i % 2, harm=i % 20 == 0, day=i,
            ),
            ticket(
                2 * i + 1, "new", edited=new, edit_min=4.0 * new, handle_min=18 + 4.0 * new, complaint=i % 20 == 0,
                csat=4.0, harm=i % 40 == 0, day=i,
            ),
        ]  # fmt: skip
    return found


def roi(study: Study = STUDY, data: list[Ticket] | None = None, options: Any = None, **prices: Any) -> Roi:
    given = {k: v for k, v in (PRICES | prices).items() if v is not None}
    return compute_roi(tickets(data or rows()), study, assume(given), **({"replicates": 1000} | (options or {})))


def money_of(scenario: Scenario) -> dict[str, float]:
    return {a.key: a.total.estimate for a in scenario.amounts}


def net_of(found: Roi, key: str = "short", scenario: int = 0) -> Net:
    return next(n for n in found.scenarios[scenario].nets if n.key == key)


ALL = {
    "complaint_cost": 10_000, "harm_cost": 100_000, "satisfaction_point_value": 20_000, "win_rate_point_value": 3_000,
    "evaluation_hours_monthly": 5, "evaluator_wage": 2_000,
}  # fmt: skip


def test_every_formula_by_hand() -> None:
    """12 months of 1000 tickets, 3000 an hour, half of freed time used."""
    found = roi(options={"quality": WINS}, **ALL)
    assert money_of(found.scenarios[0]) == pytest.approx(
        {
            "rework": 12 * 1000 * (0.5 * 8 - 0.25 * 4) / 60 * 3000 * 0.5,  # 900,000
            "handling": 12 * 1000 * (20 - 18) / 60 * 3000 * 0.5,  # 600,000
            "quality": 12 * 100 * (0.6 - 0.5) * 3_000,
            "complaints": 12 * 1000 * (0.10 - 0.05) * 10_000,
            "satisfaction": 12 * (4 - 3.5) * 20_000,
            "harm": 12 * 1000 * (0.05 - 0.025) * 100_000,
            "one_off": -1_000_000,
            "running": -12 * 50_000,
            "evaluation_so_far": -40 * 2_000,
            "evaluation_monthly": -12 * 5 * 2_000,
        }
    )
    amounts = money_of(found.scenarios[0])
    long = amounts["complaints"] + amounts["satisfaction"]
    both = net_of(found, "both").total.estimate
    assert both == pytest.approx(sum(amounts.values()))
    assert net_of(found).total.estimate == pytest.approx(both - long)
    paid = 1_000_000 + 600_000 + 80_000 + 120_000
    back = net_of(found, "both").return_on_cost
    assert back is not None and back.estimate == pytest.approx(both / paid)
    terms = {a.key: (a.term, a.evidence) for a in found.scenarios[0].amounts}
    assert terms["rework"] == ("short", "randomised") and terms["complaints"] == ("long", "randomised")
    assert terms["quality"] == ("short", "human verdicts") and terms["running"] == ("cost", "given")


def test_shown_at_a_half_and_at_one_where_nothing_is_said() -> None:
    found = roi(redeployed=None)
    assert [(s.redeployed.mode, s.given) for s in found.scenarios] == [(0.5, False), (1.0, False)]
    half, whole = (money_of(s)["rework"] for s in found.scenarios)
    assert whole == pytest.approx(2 * half)
    assert any(c.key == "no_redeployed" for c in found.cautions)


def test_points_are_no_money_without_a_rate() -> None:
    found = roi(options={"quality": WINS})
    assert found.quality is not None and found.quality.points.estimate == pytest.approx(10)
    assert found.not_counted["quality"] == found.not_counted["satisfaction"] == "no_price"
    assert found.not_counted["complaints"] == "no_price"
    assert {"quality", "satisfaction", "complaints"}.isdisjoint(money_of(found.scenarios[0]))
    assert [n.key for n in found.scenarios[0].nets] == ["short"]
    assert roi().not_counted["quality"] == "no_verdicts"


def test_harm_that_nobody_measured_is_assumed_and_charged() -> None:
    data = [t._replace(harm=None) for t in rows()]
    found = roi(data=data, harm_rate=0.001, harm_cost=100_000)
    assert money_of(found.scenarios[0])["harm"] == pytest.approx(-12 * 1000 * 0.001 * 100_000)
    assert next(a for a in found.scenarios[0].amounts if a.key == "harm").evidence == "assumed"
    with pytest.raises(UsageError, match="harm_rate is given and the tickets have a column harm"):
        roi(harm_rate=0.001)
    silent = roi(data=data)
    assert silent.not_counted["harm"] == "not_measured" and any(c.key == "no_harm" for c in silent.cautions)


def test_the_work_of_judging_is_charged_by_timers() -> None:
    judging = Judging(25.5, 3, 100, 10, 4, 200, 10, None)
    found = roi(options={"judging": judging}, evaluation_hours=None)
    assert money_of(found.scenarios[0])["evaluation_so_far"] == pytest.approx(-25.5 * 3000)
    assert next(a for a in found.scenarios[0].amounts if a.key == "evaluation_so_far").evidence == "timed"
    assert any(c.key == "untimed" and c.values == {"untimed": "4", "of": "110"} for c in found.cautions)
    with pytest.raises(UsageError, match="nothing says how long people judged"):
        roi(evaluation_hours=None)
    with pytest.raises(UsageError, match="one of the two is accepted"):
        roi(options={"judging": judging})


def test_break_even_values_make_the_net_zero() -> None:
    found = roi(options={"quality": WINS}, **ALL, volume=Triangle(800, 1000, 1300))
    for name in ("volume", "wage", "one_off", "running", "complaint_cost", "harm_cost", "evaluation_hours"):
        flip = next(f for f in net_of(found, "both").flips if f.key == name)
        assert flip.break_even is not None
        if not flip.possible:
            assert flip.break_even < 0
            continue
        again = roi(options={"quality": WINS}, **(ALL | {name: flip.break_even}))
        if name != "volume":
            again = roi(
                options={"quality": WINS}, **(ALL | {"volume": Triangle(800, 1000, 1300), name: flip.break_even})
            )
        assert net_of(again, "both").total.estimate == pytest.approx(0, abs=1e-3)


def test_what_decides_the_sign_comes_first() -> None:
    """Net at the mean: 900,000 + 600,000 - 1,720,000 = -220,000; 1,000 x 1.1466.. tickets a month make it 0."""
    found = net_of(roi(volume=Triangle(900, 1000, 1500), running=Triangle(0, 50_000, 100_000)))
    assert found.total.estimate == pytest.approx(1_500_000 * (3400 / 3 / 1000) - 1_720_000)
    volume = next(f for f in found.flips if f.key == "volume")
    assert volume.break_even == pytest.approx(1_720_000 / 1_500) and volume.within
    share = next(f for f in found.flips if f.key == "redeployed")
    assert share.possible and not share.within
    assert found.tornado[0].key in ("running", "volume", "saved_rework_minutes", "saved_handle_minutes")
    sizes = [abs(b.net_high - b.net_low) for b in found.tornado]
    assert sizes == sorted(sizes, reverse=True)
    running = next(b for b in found.tornado if b.key == "running")
    assert running.net_low - running.net_high == pytest.approx(1_200_000)


def test_an_amount_is_the_mean_of_what_is_drawn() -> None:
    """One sided assumptions: the mode would be off. Rework is the product of three uncertain numbers."""
    given = roi(volume=Triangle(500, 500, 2000), wage=Triangle(2000, 2000, 6000), options={"replicates": 100_000})
    total = next(a for a in given.scenarios[0].amounts if a.key == "rework").total
    assert total.estimate == pytest.approx(12 * 1000 * 3 / 60 * (10_000 / 3) * 0.5)
    assert total.low < total.estimate < total.high
    assert net_of(given).p_positive == pytest.approx(0.35, abs=0.15)


def test_payback_by_hand() -> None:
    net = np.array([[-1, 1, 2, 3.0], [1, -1, 2, 3], [-3, -2, -1, 0], [-3, -2, -1, -1]])
    found = payback(net)
    assert found.by_month == [0, 0.25, 0.25, 0.25] and found.never == 0.25  # the second is back for good in month 3
    assert found.median == 3
    assert payback(net[[3, 3, 0]]).median is None
    assert payback(np.ones((2, 3))).by_month == [1, 0, 0]


def test_payback_of_sure_numbers() -> None:
    """1,500,000 a year at half less 720,000 (running, evaluation): 125,000 - 50,000 a month against 1,120,000."""
    alike = [t._replace(customer=f"{t.variant}-{i // 8}") for i, t in enumerate(rows(160))]
    net = net_of(roi(data=alike, options={"replicates": 200}, horizon_months=24))
    assert net.total.low == net.total.high == pytest.approx(24 * 75_000 - 1_120_000)
    assert net.payback.median == 15 and net.payback.by_month[14] == 1  # 14 x 75,000 = 1,050,000; 15 x = 1,125,000
    assert net_of(roi(data=alike, options={"replicates": 200}, horizon_months=14)).payback.never == 1


def test_monthly_volumes_and_discount() -> None:
    volumes = [0.0, 500.0, 1500.0]
    found = roi(horizon_months=3, volume=volumes, yearly_discount=0.1)
    weights = [1.1 ** (-(m + 1) / 12) for m in range(3)]
    rework = sum(v * w for v, w in zip(volumes, weights, strict=True)) * 3 / 60 * 3000 * 0.5
    assert money_of(found.scenarios[0])["rework"] == pytest.approx(rework)
    assert money_of(found.scenarios[0])["running"] == pytest.approx(-50_000 * sum(weights))
    assert money_of(found.scenarios[0])["one_off"] == -1_000_000


def test_designs_grade_the_amounts_and_warn() -> None:
    study = Study("before-after", "customer", None, None, START + timedelta(days=20))
    found = roi(study, horizon_months=36)
    assert {a.evidence for a in found.scenarios[0].amounts if a.term == "short"} == {"before-after"}
    keys = {c.key for c in found.cautions}
    assert {"before_after", "extrapolated", "long_term_early"} <= keys


def did(drift: float) -> list[Ticket]:
    """The new group drifts by so many minutes a day already before the launch on day 60."""
    noise = np.random.default_rng(0)
    return [
        ticket(
            i, v, day=float(day), customer=f"{v}{i % 50}",
            handle_min=20 + float(noise.normal()) + drift * day * (v == "new") - 2 * (day > 60 and v == "new"),
        )._replace(ticket_id=f"{v}{i}")
        for v in ("old", "new")
        for i, day in enumerate(np.linspace(0, 119, 400))
    ]  # fmt: skip


def test_did_is_checked_on_the_time_before() -> None:
    study = Study("did", "customer", "old", "new", START + timedelta(days=60))
    good, bad = roi(study, did(0.0)), roi(study, did(-0.05))
    assert {c.key for c in good.cautions} >= {"did_placebo_holds"}
    assert next(e for e in good.placebo if e.key == "handle_minutes").difference.low < 0
    failed = next(c for c in bad.cautions if c.key == "did_placebo_fails")
    assert failed.values == {"quantities": "handle_minutes"}
    assert good.effects[0].difference.estimate == pytest.approx(-2, abs=0.5)


def test_the_same_twice_and_as_json() -> None:
    one, two = roi(**ALL), roi(**ALL)
    assert one == two and Roi.model_validate_json(one.model_dump_json()) == one
    assert roi(options={"seed": 1}, **ALL) != one


def test_what_is_not_there_counts_nothing() -> None:
    flows = monthly_flows({"running": np.array(5.0)})
    assert all(float(v) == 0 for v in (*flows.by_volume.values(), *flows.once.values()))
    assert float(flows.level["running"]) == -5
