"""Changes in tickets: worked by hand, by design, and how often their intervals hold."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from scipy import stats

from safetyvalve.errors import DataError, UsageError
from safetyvalve.release.roi_effects import Changes, measure_changes
from safetyvalve.release.roi_study import Study, divide
from safetyvalve.release.tickets import Ticket
from safetyvalve.stats import Interval, clustered_mean
from tests.release.tickets import START, ticket, tickets

RANDOMISED = Study("randomised", "customer", "old", "new")
LAUNCH = START + timedelta(days=50)


def measure(rows: list[Ticket], study: Study = RANDOMISED, **options: Any) -> Changes:
    return measure_changes(divide(tickets(rows), study), study, **({"replicates": 2000} | options))


def test_by_hand() -> None:
    """Old: 4 tickets, 2 edited with 6 and 10 minutes: r = 1/2, m = 8, r m = 4. New: 1 of 4 edited, 4 minutes: 1."""
    old = [(20, True, 6), (30, True, 10), (10, False, 0), (20, False, 0)]
    new = [(14, True, 4), (12, False, 0), (10, False, 0), (8, False, 0)]
    rows = [
        ticket(
            4 * i + j, variant, handle_min=h, edited=e, edit_min=m, complaint=j == 0 and variant == "old", csat=3 + i
        )
        for i, (variant, cases) in enumerate((("old", old), ("new", new)))
        for j, (h, e, m) in enumerate(cases)
    ]
    found = measure(rows).found
    expected = {
        "share_edited": (0.5, 0.25),
        "edit_minutes": (8, 4),
        "rework_minutes": (4, 1),
        "handle_minutes": ((14 + 20 + 10 + 20) / 4, (10 + 12 + 10 + 8) / 4),  # without the minutes of correction
        "complaints": (0.25, 0),
        "satisfaction": (3, 4),
    }
    assert found.keys() == expected.keys()
    for key, values in expected.items():
        assert (found[key].control, found[key].treated) == pytest.approx(values)
    assert found["rework_minutes"].difference.estimate == -3
    assert found["edit_minutes"].known == (2, 1) and found["complaints"].known == (4, 4)
    whole = measure(rows, handle_includes_edit=False).found["handle_minutes"]
    assert (whole.control, whole.treated) == (20, 11)


def test_means_and_not_medians() -> None:
    rows = [ticket(i, "old" if i < 5 else "new", handle_min=m) for i, m in enumerate([1, 1, 1, 1, 96, 1, 1, 1, 1, 6])]
    found = measure(rows).found["handle_minutes"]
    assert (found.control, found.treated) == (20, 2)


def did_rows(trend: float, effect: float, each: int = 40) -> list[Ticket]:
    """Old group at 20 minutes, new group at 15: both move by the trend, the new one by the effect too."""
    noise = np.random.default_rng(0)
    return [
        ticket(
            1000 * g + i,
            variant,
            day=day,
            customer=f"{variant}-{i}",
            handle_min=level + (trend + effect * (variant == "new")) * (day > 50) + float(noise.normal()),
        )._replace(ticket_id=f"{variant}-{i}-{day}")
        for g, (variant, level) in enumerate((("old", 20.0), ("new", 15.0)))
        for i in range(each)
        for day in (10, 30, 60, 80)
    ]


def test_difference_in_differences_takes_off_level_and_trend() -> None:
    study = Study("did", "customer", "old", "new", LAUNCH)
    found = measure(did_rows(trend=-4, effect=-3), study).found["handle_minutes"]
    assert found.difference.low < -3 < found.difference.high
    assert found.difference.estimate == pytest.approx(-3, abs=0.5)
    assert found.control == pytest.approx(15 - 4, abs=0.5)  # where the new group would be without the new system
    before_after = measure(did_rows(-4, -3), Study("before-after", "customer", None, "new", LAUNCH)).found
    assert before_after["handle_minutes"].difference.estimate == pytest.approx(-7, abs=0.5)  # the trend is in it


def test_did_exact() -> None:
    cells = {("old", 10): [10, 12], ("old", 60): [13, 13], ("new", 10): [20, 22], ("new", 60): [18, 20]}
    rows = [
        ticket(i, v, day=d, customer=f"{v}{j}", handle_min=m)._replace(ticket_id=f"{v}{d}{j}")
        for i, ((v, d), values) in enumerate(cells.items())
        for j, m in enumerate(values)
    ]
    found = measure(rows, Study("did", "customer", "old", "new", LAUNCH)).found["handle_minutes"]
    assert (found.control, found.treated, found.difference.estimate) == (21 + 13 - 11, 19, -4)


@pytest.mark.parametrize(("units", "studies"), [(8, 400), (35, 200)])
def test_intervals_hold_95_percent_of_the_time(units: int, studies: int) -> None:
    """Customers with effects of their own, 1 to 6 tickets each; three standard errors of the simulation around 95%."""
    generator, held = np.random.default_rng(1), 0
    for _ in range(studies):
        rows, number = [], 0
        for customer in range(2 * units):
            variant, own = "new" if customer % 2 else "old", generator.normal(0, 2)
            for _ in range(generator.integers(1, 7)):
                minutes = 20 + own - 3 * (variant == "new") + generator.normal(0, 3)
                rows.append(ticket(number, variant, customer=f"c{customer}", handle_min=float(minutes)))
                number += 1
        changes = measure(rows, replicates=400, generator=generator)
        interval = changes.found["handle_minutes"].difference
        assert changes.few == (units < 30)
        held += interval.low <= -3 <= interval.high
    assert abs(held / studies - 0.95) <= 3 * np.sqrt(0.95 * 0.05 / studies)


def test_few_units_give_a_t_interval() -> None:
    """Of a mean over 6 units a variant, one ticket each: the bootstrap's error, C/(C-1), t with 5 degrees."""
    generator = np.random.default_rng(2)
    rows = [
        ticket(i, "new" if i % 2 else "old", handle_min=float(m)) for i, m in enumerate(generator.normal(20, 3, 12))
    ]
    interval = measure(rows, replicates=200_000).found["handle_minutes"].difference
    values = {v: [t.handle_min for t in rows if t.variant == v] for v in ("old", "new")}
    error = np.sqrt(sum(np.var(v, ddof=1) / 6 for v in values.values()))
    reach = stats.t.ppf(0.975, 5) * error
    assert (interval.high - interval.low) / 2 == pytest.approx(reach, rel=0.03)


def test_the_error_of_a_ratio_is_cochrans() -> None:
    """Linearised: the residuals summed by customer, C/(C-1). 60 customers with 1 to 8 tickets, a ratio of sums."""
    generator, rows = np.random.default_rng(4), []
    for customer in range(120):
        for _ in range(generator.integers(1, 9)):
            edited = bool(generator.random() < 0.4)
            minutes = float(generator.gamma(4, 2)) if edited else 0.0
            variant = "new" if customer % 2 else "old"
            rows.append(ticket(len(rows), variant, customer=f"c{customer}", edited=edited, edit_min=minutes))
    found = measure(rows, replicates=20_000).found["rework_minutes"].difference
    errors = [
        clustered_mean([t.edit_min or 0.0 for t in mine], [t.customer for t in mine]).standard_error
        for mine in ([t for t in rows if t.variant == v] for v in ("old", "new"))
    ]
    assert found.standard_error == pytest.approx(np.hypot(*errors), rel=0.03)


def test_units_and_not_tickets_are_drawn() -> None:
    """The same tickets, from 40 customers or each from its own: dependence widens the interval."""
    generator, rows = np.random.default_rng(3), []
    for customer in range(80):
        own = generator.normal(0, 5)
        rows += [
            ticket(10 * customer + i, "new" if customer % 2 else "old", customer=f"c{customer}", handle_min=20 + own)
            for i in range(10)
        ]
    by_customer = measure(rows).found["handle_minutes"].difference
    by_ticket = measure(rows, RANDOMISED._replace(unit="ticket")).found["handle_minutes"].difference
    ratio = (by_customer.high - by_customer.low) / (by_ticket.high - by_ticket.low)
    assert ratio == pytest.approx(np.sqrt(10), rel=0.1)


def test_nothing_edited_is_no_rework_and_unknown_is_unknown() -> None:
    rows = [ticket(i, "old" if i < 3 else "new", edited=i < 2, edit_min=5.0 if i < 2 else 0.0) for i in range(6)]
    changes = measure(rows)
    assert changes.found["rework_minutes"].treated == 0
    assert changes.missing["edit_minutes"] == "no ticket of new knows it"
    assert "csat" not in changes.found and changes.missing["satisfaction"] == "no ticket of old, new knows it"


def test_minutes_of_the_app_stand_in() -> None:
    rows = [ticket(i, "old" if i < 40 else "new", edited=i % 2 == 0 or i > 60) for i in range(80)]
    minutes = Interval(4.0, 3.0, 5.0, 0.5, 30)
    changes = measure(rows, edit_minutes=minutes, replicates=20_000)
    rework, share = changes.found["rework_minutes"], changes.found["share_edited"]
    assert rework.difference.estimate == pytest.approx(4 * share.difference.estimate)
    assert np.corrcoef(changes.draws["rework_minutes"], changes.draws["share_edited"])[0, 1] > 0.8


def test_a_correction_longer_than_its_handling_is_refused() -> None:
    rows = [
        ticket(i, "old" if i < 3 else "new", handle_min=5.0, edited=True, edit_min=9.0 if i == 4 else 1)
        for i in range(6)
    ]
    with pytest.raises(DataError, match=r"tickets\.csv:6, field 'edit_min': has 9 minutes of correction in 5 minutes"):
        measure(rows)
    assert measure(rows, handle_includes_edit=False).found["handle_minutes"].treated == 5


REFUSED = {
    "never appears": (RANDOMISED._replace(treatment="neu"), r"no ticket of the variant 'neu'; .*Did you mean 'new'"),
    "crossed": (
        RANDOMISED._replace(unit="agent"),
        r"tickets\.csv:\d+, field 'agent': agent 'agent-0' is under 'new' here",
    ),
    "no launch": (Study("did", "customer", "old", "new"), "Say --launch"),
    "launch too much": (RANDOMISED._replace(launch=LAUNCH), "takes none"),
    "nothing before": (
        Study("before-after", "customer", launch=datetime(2025, 1, 1)),
        "no ticket of 'before' the launch",
    ),
    "control before and after": (Study("before-after", "customer", "old", launch=LAUNCH), "with its own past"),
    "same": (RANDOMISED._replace(treatment="old"), "are both 'old'"),
    "no variant named": (RANDOMISED._replace(control=None), "Name both as they stand"),
    "design": (RANDOMISED._replace(design="coin"), "accepted: randomised, did, before-after"),  # type: ignore[arg-type]
    "unit": (RANDOMISED._replace(unit="team"), "accepted: customer, agent, ticket"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("case", REFUSED)
def test_studies_that_are_refused(case: str) -> None:
    study, message = REFUSED[case]
    rows = [ticket(i, "new" if i % 2 else "old", agent=f"agent-{i // 2}", handle_min=5.0, day=i) for i in range(12)]
    with pytest.raises((DataError, UsageError), match=message):
        measure(rows, study)


def test_rows_that_a_study_refuses() -> None:
    rows = [ticket(i, "new" if i % 2 else "old", handle_min=5.0, day=i) for i in range(12)]
    with pytest.raises(DataError, match=r"tickets\.csv:5, field 'variant': has no variant \(1 of 12"):
        measure([t._replace(variant=None) if i == 3 else t for i, t in enumerate(rows)])
    with pytest.raises(DataError, match=r"tickets\.csv:5, field 'customer': has no customer"):
        measure([t._replace(customer=None) if i == 3 else t for i, t in enumerate(rows)])
    with pytest.raises(DataError, match=r"tickets\.csv:8.*were not randomised"):
        measure([t._replace(variant="old" if i < 6 else "new") for i, t in enumerate(rows)])
    with pytest.raises(DataError, match=r"only agent in 'old'"):
        measure([t._replace(agent=t.variant) for t in rows], RANDOMISED._replace(unit="agent"))


def test_other_variants_are_counted() -> None:
    rows = [ticket(i, ("old", "new", "third")[i % 3], handle_min=5.0) for i in range(12)]
    assert divide(tickets(rows), RANDOMISED).other_variants == 4
