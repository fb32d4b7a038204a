"""docs/alarms.md is what its simulation gave, and the simulation is the code's."""

from __future__ import annotations

import json

from benchmarks.alarms import ALARMS, FILE, PAGE, SCENARIOS, onset, page, raised, simulate
from safetyvalve.stats import proportion_interval


def test_the_page_is_what_the_record_gives() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(json.loads(FILE.read_text(encoding="utf-8")))


def test_recorded_false_alarms_are_no_more_than_stated() -> None:
    record = json.loads(FILE.read_text(encoding="utf-8"))
    assert record["runs"] >= 200
    for key in ("healthy", "edge"):
        assert all(onset(name, SCENARIOS[key]) is None for name in ALARMS)
        assert proportion_interval(record["scenarios"][key]["any"]["raised"], record["runs"]).low <= 0.05


def test_scenarios_are_paired_and_strong_ones_are_seen() -> None:
    healthy, strong = (list(simulate(SCENARIOS[key], 7)) for key in ("healthy", "strong"))
    assert healthy[0].score == strong[0].score  # before the peak they are one run
    assert healthy[-1].score != strong[-1].score
    assert raised(iter(healthy)) == {}
    assert {"displacement", "length", "repetition"} <= raised(iter(strong)).keys()
