"""The benchmark's arithmetic: medians of alternating rounds, and the guard on what was recorded."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.speed import measuring
from benchmarks.speed.guard import fallen
from benchmarks.speed.measuring import Clock, peak_over
from benchmarks.speed.record import Rounds, merged, row_of, rows_of
from benchmarks.speed.table import table
from benchmarks.speed.workloads import WORKLOADS
from safetyvalve.errors import UsageError

MACHINE: dict[str, Any] = {
    "hardware": {"processor": "a processor", "cores": 2, "instructions": ["avx2"], "kernels": "compiled"},
    "versions": {"torch": "2"},
}

NOW = MACHINE | {"code": "a"}


def rounds(ours: list[float], peer: list[float]) -> dict[str, Any]:
    """Of 8 pairs; 100 operations in all on a machine of 50 a second."""
    about = {"units": 8, "threads": 2, "settings": {}, "data": "0", "operations": 100}
    return {
        "ours": [{"seconds": s, "memory": 10 + i, "operations_per_second": 50.0} for i, s in enumerate(ours)],
        "trl": [{"seconds": s, "memory": 48} for s in peer],
        "about": {"ours": about, "trl": about},
    }


def test_row() -> None:
    row = row_of(WORKLOADS["hh_pairs_bf16"], rounds([8, 16, 10], [80, 96, 88]))
    assert (row["ours"], row["peer"]) == (10 / 8, 88 / 8)
    assert row["ratio"] == pytest.approx(8.8)
    assert row["spread"] == {"ours": [1, 2], "peer": [10, 12], "ratio": [6, 10], "utilisation": [0.125, 0.25]}
    assert row["peak_memory_ratio"] == 12 / 48
    assert row["utilisation"] == pytest.approx(100 / (50 * 10))


def test_peak_while_steps_ran() -> None:
    """A second at 4 and three at the mean of 4 and 8."""
    assert peak_over([1, 3], [4, 4, 8]) == pytest.approx((4 + 3 * 6) / 4)


def test_the_clock_stops_while_the_peak_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each measurement takes 100 s, a step 1 s, and between the two data are loaded for 10 s."""
    now = [0.0]

    def after(seconds: float, value: float = 0.0) -> float:
        now[0] += seconds
        return value

    monkeypatch.setattr(measuring.time, "perf_counter", lambda: now[0])
    clock = Clock(SimpleNamespace(measure=lambda _: after(100, 5.0)))  # type: ignore[arg-type]
    for _ in range(2):
        clock.on_train_begin()
        for data in (0, 10):
            after(data)
            clock.on_step_begin()
            after(1)
            clock.on_step_end()
        clock.on_train_end()
        assert clock.figures == {"seconds": 12, "operations_per_second": 5}
        assert len(clock.peaks) == 3
    assert set(Clock().figures) == {"seconds"}


def test_rounds_of_another_machine_are_not_gone_on_with(tmp_path: Path) -> None:
    file = tmp_path / "results.partial"
    Rounds(file, keep=False, machine=NOW).add("hh_pairs_bf16", "ours", {"seconds": 1.0}, {})
    assert Rounds(file, keep=True, machine=NOW).of("hh_pairs_bf16")["ours"] == [{"seconds": 1.0}]
    for other in (NOW | {"versions": {"torch": "3"}}, NOW | {"code": "b"}):
        with pytest.raises(UsageError, match="leave out --resume"):
            Rounds(file, keep=True, machine=other).of("hh_pairs_bf16")
        assert Rounds(file, keep=True, machine=other).of("hh_pairs_fp32") == {}
    more = NOW | {"hardware": NOW["hardware"] | {"memory_gib": 1}}
    Rounds(file, keep=True, machine=more).drop("hh_pairs_bf16")
    assert Rounds(file, keep=True, machine=NOW).of("hh_pairs_bf16") == {}


def test_guard() -> None:
    recorded = merged({}, "hh_pairs_bf16", {"ratio": 6.0, "utilisation": 0.5}, MACHINE)
    assert recorded["utilisation_bf16"] == 0.5
    assert fallen("hh_pairs_bf16", {"ratio": 5.11}, MACHINE, recorded) is None
    said = fallen("hh_pairs_bf16", {"ratio": 5.09}, MACHINE, recorded)
    assert said is not None and "5.09" in said and "6.00" in said
    assert fallen("hh_pairs_fp32", {"ratio": 1.0}, MACHINE, recorded) is None
    other = MACHINE | {"hardware": MACHINE["hardware"] | {"processor": "another"}}
    assert fallen("hh_pairs_bf16", {"ratio": 1.0}, other, recorded) is None
    assert fallen("hh_pairs_bf16", {"ratio": 1.0, "data": "other"}, MACHINE, recorded) is None
    more = MACHINE | {"hardware": MACHINE["hardware"] | {"memory_gib": 1}}
    assert fallen("hh_pairs_bf16", {"ratio": 1.0}, more, recorded) is not None


def generation(told: str) -> dict[str, Any]:
    return MACHINE | {"hardware": MACHINE["hardware"] | {"generation": told}}


@pytest.mark.parametrize(
    ("recorded", "now", "one"),
    [
        ("family 25 model 17", "family 25 model 17", True),
        ("family 25 model 17", "family 26 model 2", False),
        ("family 6 model 143", "family 6 model 173", False),
        ("family 25", "family 25 model 17", True),
        ("family 25", "family 26 model 2", False),
        ("", "family 26 model 2", True),
        (None, "family 26 model 2", True),
        ("family 26 model 2", "", True),
    ],
)
def test_guard_knows_generations_of_one_name(recorded: str | None, now: str, one: bool) -> None:
    """Names and instructions of Zen 4 and Zen 5 may be the same; what a record does not tell holds for all."""
    row = {"ratio": 6.0, "utilisation": 0.5}
    record = merged({}, "hh_pairs_bf16", row, MACHINE if recorded is None else generation(recorded))
    assert (fallen("hh_pairs_bf16", {"ratio": 1.0}, generation(now), record) is not None) == one
    assert len(rows_of(merged(record, "hh_pairs_bf16", row, generation(now)), "hh_pairs_bf16")) == (1 if one else 2)


def test_table_shows_what_was_measured() -> None:
    name = "hh_pairs_bf16"
    text = table(merged({}, name, row_of(WORKLOADS[name], rounds([8, 16, 10], [80, 96, 88])), MACHINE))
    assert f"`{name}`" in text and "**8.80** (6.00 to 10.00)" in text
    assert "`hh_pairs_fp32`" not in text


def test_rows_of_several_machines() -> None:
    """Each says its own, and is compared with its own."""
    row = row_of(WORKLOADS["hh_pairs_bf16"], rounds([8, 16, 10], [80, 96, 88]))
    other = MACHINE | {"hardware": MACHINE["hardware"] | {"processor": "another"}}
    record = merged(merged({}, "hh_pairs_bf16", row, MACHINE), "hh_pairs_fp32", row, other)
    assert record["hardware"]["processor"] == "another"
    again = {"ratio": 1.0, "data": row["data"]}
    assert fallen("hh_pairs_bf16", again, MACHINE, record) is not None
    assert fallen("hh_pairs_bf16", again, other, record) is None
    lines = table(record).splitlines()
    numbers = {line.split("|")[1].split("`")[1]: line.split("|")[2].strip() for line in lines if "`hh" in line}
    assert numbers == {"hh_pairs_bf16": "1", "hh_pairs_fp32": "2"}
    assert sum("a processor" in line for line in lines) == sum("another" in line for line in lines) == 1


def test_one_workload_on_two_machines() -> None:
    """Both rows stay, each is the one that its machine is compared with, and another go replaces its own."""
    name = "hh_pairs_bf16"
    row = row_of(WORKLOADS[name], rounds([8, 16, 10], [80, 96, 88]))
    other = MACHINE | {"hardware": MACHINE["hardware"] | {"processor": "another"}}
    record = merged(merged({}, name, row, MACHINE), name, row | {"ratio": 2.0}, other)
    assert [r["ratio"] for r in rows_of(record, name)] == [2.0, row["ratio"]]
    again = {"ratio": 2.0, "data": row["data"]}
    assert fallen(name, again, MACHINE, record) is not None
    assert fallen(name, again, other, record) is None
    assert [line.split("|")[2].strip() for line in table(record).splitlines() if f"`{name}`" in line] == ["1", "2"]
    record = merged(record, name, row | {"ratio": 9.0}, MACHINE)
    assert [r["ratio"] for r in rows_of(record, name)] == [9.0, 2.0]
