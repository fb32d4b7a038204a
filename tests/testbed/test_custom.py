"""A loss of one's own by name."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from safetyvalve.errors import UsageError
from safetyvalve.objectives import dpo_loss
from safetyvalve.testbed import expected_reward, load_objective, preference_only
from safetyvalve.testbed.experiments import overoptimization

MODULE = """
import torch
import torch.nn.functional as F

def mine(pc, pr, rc, rr, *, beta):
    return F.softplus(-beta * ((pc - rc) - (pr - rr)))

def hinge(pc, pr, rc, rr, *, beta):
    return torch.relu(1 - beta * ((pc - rc) - (pr - rr)))

def averaged(pc, pr, rc, rr, *, beta):
    return mine(pc, pr, rc, rr, beta=beta).mean()

def constant(pc, pr, rc, rr, *, beta):
    return torch.zeros_like(rc)

def broken(pc, pr):
    return pc - pr

def number(pc, pr, rc, rr, *, beta):
    return 1.0

def overflowing(pc, pr, rc, rr, *, beta):
    return torch.log(torch.zeros_like(pc)) * pc

not_a_function = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"losses_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_it_runs_beside_the_others_and_dpo_written_again_is_dpo(folder: str) -> None:
    loss = load_objective(f"{folder}:mine")
    outcome = overoptimization.run(sets=6, seed=1, settings=("data reference",), objective=loss, objective_name="mine")
    raw = outcome.raw["overoptimization"]
    values = {
        name: np.array([row[raw.columns.index("value")] for row in raw.rows if row[1] == name], dtype=float)
        for name in ("mine", "DPO", "IPO")
    }
    assert len(values["mine"]) == 6 * len(overoptimization.BETAS)
    assert np.allclose(values["mine"], values["DPO"], atol=1e-5)
    assert not np.allclose(values["IPO"], values["DPO"], atol=1e-2)


def test_a_loss_without_a_second_derivative_runs(folder: str) -> None:
    drawn = overoptimization.draw("data reference", 4, np.random.default_rng(2))
    hinge = partial(preference_only, loss=load_objective(f"{folder}:hinge"))
    curve = overoptimization.measure(drawn.problem, drawn.data, hinge, (0.2,))
    blind = expected_reward(drawn.problem, drawn.problem.ref).numpy()
    assert np.isfinite(curve.kl).all()
    assert curve.value[0].mean() > blind.mean() + 0.2


@pytest.mark.parametrize(
    ("name", "fragment"),
    [
        ("{}", "must be module:function"),
        ("no_such_module:loss", "cannot import no_such_module"),
        ("{}:missing", "has no function missing; it has averaged|has no function missing; it has mine"),
        ("{}:not_a_function", "has no function not_a_function"),
        ("{}:averaged", "returned shape .* for 3 pairs"),
        ("{}:constant", "carry no gradient"),
        ("{}:broken", "failed on three pairs: TypeError"),
        ("{}:number", "returned 1.0; it must return a tensor"),
        ("{}:overflowing", "not finite"),
    ],
)
def test_refusals(folder: str, name: str, fragment: str) -> None:
    with pytest.raises(UsageError, match=fragment):
        load_objective(name.format(folder))


def test_a_shipped_loss_has_the_signature() -> None:
    assert load_objective("safetyvalve.objectives:dpo_loss") is dpo_loss
