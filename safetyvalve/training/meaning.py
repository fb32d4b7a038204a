"""What beta, eta, the reduction and the baseline amount to on the data at hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from safetyvalve.objectives import effective_token_weight, parity_margin, peer_settings
from safetyvalve.training.baseline_plan import Carried
from safetyvalve.training.objective import Objective

__all__ = ["meaning_lines", "meaning_of"]


def meaning_of(objective: Objective, kind: str, data: Carried) -> dict[str, Any]:
    """For settings.json.

    The parity margin and the peers' settings are about the chosen responses as baseline, and left out for another.

    Args:
        objective: of the run.
        kind: of its baseline.
        data: what is trained on.
    """
    chosen = [len(t.response_ids[c.winner]) for t in data.train for c in t.comparisons]
    values: dict[str, Any] = {"mean_chosen_length": sum(chosen) / len(chosen)} if chosen else {}
    if not objective.has_sft_term:
        return values
    if kind != "chosen" or not chosen:
        examples = data.train if data.sft is None else data.sft.train
        law = [(mass, len(t.response_ids[place])) for t in examples for place, mass in t.baseline_law]
        values["mean_baseline_length"] = sum(mass * n for mass, n in law) / sum(mass for mass, _ in law)
    if objective.name != "rpo":
        return values
    beta, eta, reduction, smoothing = objective.beta, objective.eta, objective.reduction, objective.label_smoothing
    length = values.get("mean_baseline_length", values["mean_chosen_length"])
    values["effective_token_weight"] = effective_token_weight(beta, eta, mean_length=length, reduction=reduction)
    if kind == "chosen":
        margin = parity_margin(eta, mean_length=length, reduction=reduction, label_smoothing=smoothing)
        peers = peer_settings(beta, eta, mean_length=length, reduction=reduction, label_smoothing=smoothing)
        values["parity_margin"] = margin if abs(margin) != float("inf") else None
        values["peers"] = [p._asdict() for p in peers]
    return values


def meaning_lines(meaning: Mapping[str, Any], objective: Objective) -> Iterator[str]:
    """The same as text for a terminal; nothing for objectives without eta."""
    if objective.name != "rpo":
        return
    side = "baseline" if "mean_baseline_length" in meaning else "chosen"
    yield (
        f"SFT term: eta {objective.eta:g} x beta {objective.beta:g}, reduction {objective.reduction}; one {side} token "
        f"weighs {meaning['effective_token_weight']:.3g} ({side} responses have {meaning[f'mean_{side}_length']:.0f} "
        "tokens on average)"
    )
    if "parity_margin" not in meaning:
        return
    margin = meaning["parity_margin"]
    if margin is not None:
        yield (
            f"parity margin: {margin:.2f} nats; below it the preference loss pulls harder on a chosen response than "
            "the SFT term, above it the SFT term does"
        )
    elif objective.eta == 0:
        yield "parity margin: none; eta is 0, which is DPO"
    else:
        yield "parity margin: none; the SFT term pulls harder on a chosen response at every margin"
    for peer in meaning["peers"]:
        yield f"nearest in {peer['trainer']}: {peer['setting']} (differs: {peer['differs']})"
