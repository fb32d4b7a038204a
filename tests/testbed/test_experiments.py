"""The experiments: small runs for their form and their reproducibility, longer ones for what the page claims."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from safetyvalve.errors import RunError, UsageError
from safetyvalve.testbed import Outcome, Steps, Table, write
from safetyvalve.testbed.experiments import duality, eta, limits, maximin, overoptimization, rate
from safetyvalve.testbed.output import markdown
from safetyvalve.testbed.summary import log_slope, mean, peak, worst


def small(name: str, seed: int = 0) -> Outcome:
    if name == "overoptimization":
        return overoptimization.run(sets=3, seed=seed, settings=("data reference",))
    if name == "duality":
        return duality.run(problems=3, seed=seed)
    if name == "rate":
        return rate.run(sets=4, seed=seed, sizes=(100, 1000))
    if name == "eta":
        return eta.run(sets=3, seed=seed, sizes=(50, 200), grid=(0.02, 0.1, 0.5))
    if name == "maximin":
        return maximin.run(sets=2, seed=seed, how=Steps(steps=20), settings=("data reference",))
    return limits.run(sets=3, seed=seed)


@pytest.mark.parametrize("name", ["overoptimization", "rate", "eta", "limits", "maximin"])
def test_a_small_run_writes_what_it_found(name: str, tmp_path: Path) -> None:
    outcome = small(name)
    files = write(outcome, tmp_path / "new" / "folder")
    kinds = {f.suffix for f in files}
    assert kinds == {".csv", ".md", ".svg"}
    assert all(f.stat().st_size > 100 for f in files)
    for table in outcome.raw.values():
        assert all(len(row) == len(table.columns) for row in table.rows)
        figures = [c for row in table.rows for c in row if isinstance(c, float)]
        assert np.isfinite(figures).all()
    text = (tmp_path / "new" / "folder" / f"{name}.md").read_text()
    assert all(line in text for line in outcome.headline)


@pytest.mark.parametrize("name", ["duality", "rate", "maximin"])
def test_the_seed_decides(name: str, tmp_path: Path) -> None:
    first, again, other = (write(small(name, seed), tmp_path / str(i)) for i, seed in enumerate((1, 1, 2)))
    for a, b in zip(first, again, strict=True):
        assert a.read_bytes() == b.read_bytes(), a.name
    assert any(a.read_bytes() != c.read_bytes() for a, c in zip(first, other, strict=True))


def test_an_unwritable_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="Pass another folder with --out"):
        write(Outcome("x", [], {}, {}, {}), tmp_path / "file")


def test_tables_as_people_read_them() -> None:
    assert markdown(Table(("a", "b"), [(1.23456789, True)])) == "| a | b |\n| --- | --- |\n| 1.23457 | yes |"


class TestSummary:
    def test_mean_by_hand(self) -> None:
        found = mean([1.0, 2.0, 3.0])
        half = 1.959963984540054 / math.sqrt(3)
        assert tuple(found) == pytest.approx((2.0, 2.0 - half, 2.0 + half))
        assert f"{found}" == f"2.000 [{2 - half:.3f}, {2 + half:.3f}]"

    def test_slope_of_a_power_law(self) -> None:
        x = np.array([10.0, 100.0, 1000.0])
        rng = np.random.default_rng(0)
        noise = 1 + 0.01 * rng.normal(size=(3, 1, 200))
        samples = np.concatenate([(x**-0.5)[:, None, None] * noise, np.full((3, 1, 200), 1e-9)], axis=1)
        slope = log_slope(x, samples, worst, rng)
        assert slope.low < slope.value < slope.high
        assert slope.value == pytest.approx(-0.5, abs=0.002)
        assert slope.high - slope.low < 0.005

    def test_peak_of_a_parabola(self) -> None:
        x = np.linspace(-2, 2, 9)
        assert peak(x, -((x - 0.3) ** 2)) == pytest.approx(0.3)
        assert peak(x, x) == 2.0

    def test_means_need_a_vector(self) -> None:
        with pytest.raises(UsageError, match="shape"):
            mean(np.zeros((2, 2)))


def test_best_etas_finds_each_sizes_peak() -> None:
    grid = np.log(np.array(eta.GRID))
    values = np.stack([-((grid - math.log(top)) ** 2) for top in (0.05, 0.5)])[..., None]
    assert eta.best_etas(values) == pytest.approx([0.05, 0.5], rel=1e-3)


def test_cyclic_preferences_are_preferences() -> None:
    import torch

    win = limits.cyclic_wins(torch.rand(2, 3, 6, dtype=torch.float64), 0.7)
    assert torch.allclose(win + win.transpose(-1, -2), torch.ones_like(win))
    pure = limits.cyclic_wins(torch.zeros(1, 1, 4, dtype=torch.float64), 1.0)[0, 0]
    assert pure[0, 1] == pure[1, 2] == pure[2, 3] == pure[3, 0] == 0.9
    problem = overoptimization.draw("data reference", 1, np.random.default_rng(0)).problem
    problem = problem._replace(win=limits.cyclic_wins(problem.reward, 1.0))
    even = torch.zeros_like(problem.ref)
    even[..., :4] = 0.25
    first = torch.zeros_like(even)
    first[..., 0] = 1.0
    assert limits.exploitability(problem, even).item() == pytest.approx(0.5)
    assert limits.exploitability(problem, first).item() == pytest.approx(0.9)


@pytest.fixture(scope="module")
def curves() -> dict[tuple[str, str], np.ndarray]:
    outcome = overoptimization.run(sets=120, seed=7)
    raw = outcome.raw["overoptimization"]
    found: dict[tuple[str, str], list[float]] = {}
    for row in raw.rows:
        found.setdefault((str(row[0]), str(row[1])), []).append(float(str(row[4])))
    return {key: np.array(values).reshape(len(overoptimization.BETAS), -1) for key, values in found.items()}


@pytest.mark.slow
class TestClaims:
    """What docs/testbed.md says, on fewer data sets and another seed."""

    def test_rpo_is_flat_in_beta_where_dpo_falls(self, curves: dict[tuple[str, str], np.ndarray]) -> None:
        dpo, rpo = curves["long tail", "DPO"], curves["long tail", "RPO, base chosen, eta for small beta"]
        assert mean(dpo[-1] - dpo.mean(-1).max()).high < -0.15
        assert mean(rpo[-1] - rpo.mean(-1).max()).low > -0.08
        assert mean(rpo[-1] - dpo[-1]).low > 0.15

    def test_the_ensemble_is_better(self, curves: dict[tuple[str, str], np.ndarray]) -> None:
        for setting in ("data reference", "long tail"):
            ensemble, rpo = curves[setting, "ensemble min (10)"], curves[setting, "RPO, base chosen"]
            assert ensemble.mean(-1).max() > rpo.mean(-1).max()

    def test_an_uncovered_baseline_fails(self, curves: dict[tuple[str, str], np.ndarray]) -> None:
        for setting in ("data reference", "long tail"):
            uncovered, rpo = curves[setting, "RPO, base uncovered"], curves[setting, "RPO, base chosen"]
            assert mean(rpo[-1] - uncovered[-1]).low > 0.1
            assert uncovered.mean(-1).max() < curves[setting, "DPO"].mean(-1).max()

    def test_the_rate(self) -> None:
        outcome = rate.run(sets=150, seed=7)
        slopes = {row[0]: float(str(row[1]).split()[0]) for row in outcome.tables["rate"].rows}
        assert slopes["RPO, base chosen"] == pytest.approx(-0.5, abs=0.05)
        assert slopes["DPO"] > -0.15
        assert slopes["RPO, base uncovered"] > 0
        assert slopes["DPO, full coverage"] == pytest.approx(-0.5, abs=0.08)

    def test_the_bound_holds_and_is_loose(self) -> None:
        rows = rate.run(sets=30, seed=8).tables["rate_bound"].rows
        for row in rows:
            assert float(str(row[3])) > 1000 * float(str(row[1]).split()[0])
