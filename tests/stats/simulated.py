"""Verdicts with known truth, and the exact error bound of a share counted in a simulation."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from safetyvalve.stats import Verdict


def clopper_pearson(events: int, n: int, confidence: float = 0.999) -> tuple[float, float]:
    """Exact interval of a chance of which ``events`` of ``n`` draws were seen."""
    tail = (1 - confidence) / 2
    low = 0.0 if events == 0 else float(stats.beta.ppf(tail, events, n - events + 1))
    high = 1.0 if events == n else float(stats.beta.ppf(1 - tail, events + 1, n - events))
    return low, high


def verdict(**change: Any) -> Verdict:
    """A verdict with the fields given and plain ones for the rest."""
    base = {"model_a": "x", "model_b": "y", "verdict": "a", "rater": "r1", "rater_kind": "human", "prompt_id": "p1"}
    full = base | change
    full.setdefault("item_id", "|".join([full["prompt_id"], *sorted((full["model_a"], full["model_b"]))]))
    return Verdict.model_validate(full)


def verdicts(
    strengths: dict[str, float], prompts: int, raters: int = 2, seed: int = 0, judge: str | None = None
) -> list[Verdict]:
    """Each pair on each prompt by each rater, Bradley-Terry with a tenth of ties; a judge sees both orders."""
    draw = np.random.default_rng(seed)
    names = list(strengths)
    found = []
    for p in range(prompts):
        for i, a in enumerate(names):
            for b in names[i + 1 :]:
                chance = 1 / (1 + np.exp(strengths[b] - strengths[a]))
                lengths = {"length_a": int(draw.integers(50, 150)), "length_b": int(draw.integers(50, 150))}
                common = {"prompt_id": f"p{p}", "model_a": a, "model_b": b, **lengths}

                def word(chance: float = chance) -> str:
                    return "tie" if draw.random() < 0.1 else "a" if draw.random() < chance else "b"

                for r in range(raters):
                    position = "a_first" if draw.random() < 0.5 else "b_first"
                    found.append(verdict(**common, rater=f"r{r}", verdict=word(), position=position))
                if judge:
                    for repeat, position in enumerate(("a_first", "b_first")):
                        place = {"position": position, "repeat": repeat, "rater": judge, "rater_kind": "judge"}
                        found.append(verdict(**common, **place, verdict=word()))
    return found
