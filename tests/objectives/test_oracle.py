"""The objectives against exact values and gradients (tests/oracle.json)."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from safetyvalve.objectives import dpo_loss, implicit_rewards, ipo_loss, rpo_loss, sft_loss

TIGHT = {"rel": 1e-12, "abs": 1e-14}


def scalars(case: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    chosen, rejected, ref_chosen, ref_rejected = (
        torch.tensor([case["input"][k]], dtype=torch.float64) for k in ("pc", "pr", "rc", "rr")
    )
    return chosen.requires_grad_(), rejected.requires_grad_(), ref_chosen, ref_rejected


def check(loss: torch.Tensor, inputs: Any, expected: float, grad: dict[str, float]) -> None:
    assert loss.item() == pytest.approx(expected, **TIGHT)
    got = torch.autograd.grad(loss.sum(), inputs[:2])
    assert got[0].item() == pytest.approx(grad["pc"], **TIGHT)
    assert got[1].item() == pytest.approx(grad["pr"], **TIGHT)


@pytest.mark.parametrize("index", range(5))
class TestPairwise:
    def test_rewards_and_dpo(self, oracle: dict[str, Any], index: int) -> None:
        case = oracle["pairwise"]["cases"][index]
        inputs, beta = scalars(case), case["input"]["beta"]
        rewards = implicit_rewards(*inputs, beta=beta)
        assert rewards.chosen.item() == pytest.approx(case["chosen_reward"], **TIGHT)
        assert rewards.rejected.item() == pytest.approx(case["rejected_reward"], **TIGHT)
        assert rewards.margin.item() == pytest.approx(case["margin_h"], **TIGHT)
        check(dpo_loss(*inputs, beta=beta), inputs, case["dpo_loss"], case["dpo_grad"])

    def test_rpo_sum(self, oracle: dict[str, Any], index: int) -> None:
        case = oracle["pairwise"]["cases"][index]
        inputs, beta, eta = scalars(case), case["input"]["beta"], case["input"]["eta"]
        loss = rpo_loss(*inputs, beta=beta, eta=eta)
        check(loss, inputs, case["rpo_loss_sum"], case["rpo_grad_sum"])
        term = eta * beta * sft_loss(inputs[0])
        assert term.item() == pytest.approx(case["sft_term_sum"], **TIGHT)

    def test_rpo_sequence_mean(self, oracle: dict[str, Any], index: int) -> None:
        case = oracle["pairwise"]["cases"][index]
        inputs, beta, eta = scalars(case), case["input"]["beta"], case["input"]["eta"]
        lengths = torch.tensor([float(case["input"]["Lc"])], dtype=torch.float64)
        loss = rpo_loss(*inputs, beta=beta, eta=eta, reduction="sequence_mean", baseline_lengths=lengths)
        check(loss, inputs, case["rpo_loss_seqmean"], case["rpo_grad_seqmean"])
        term = eta * beta * sft_loss(inputs[0], lengths, reduction="sequence_mean")
        assert term.item() == pytest.approx(case["sft_term_seqmean"], **TIGHT)

    def test_ipo(self, oracle: dict[str, Any], index: int) -> None:
        case = oracle["pairwise"]["cases"][index]
        inputs = scalars(case)
        loss = ipo_loss(*inputs, beta=case["input"]["beta"])
        check(loss, inputs, case["ipo_loss_tau_eq_beta"], case["ipo_grad"])


def test_token_level_from_logits(oracle: dict[str, Any]) -> None:
    """Sums over response tokens only; the gradient reaches exactly the logits that predict them."""
    data, expected = oracle["token_level"]["input"], oracle["token_level"]["output"]
    logits = {
        side: torch.tensor(data[f"policy_logits_{side}"], dtype=torch.float64, requires_grad=True)
        for side in ("chosen", "rejected")
    }
    ref = {s: torch.tensor(data[f"ref_logits_{s}"], dtype=torch.float64) for s in ("chosen", "rejected")}

    def summed(values: torch.Tensor, side: str) -> torch.Tensor:
        ids = torch.tensor(data[f"input_ids_{side}"])[1:]
        mask = torch.tensor(data[f"shifted_mask_{side}"], dtype=torch.float64)
        logps = values.log_softmax(-1).gather(-1, ids[:, None])[:, 0]
        return (logps * mask).sum()[None]

    args = (
        summed(logits["chosen"], "chosen"),
        summed(logits["rejected"], "rejected"),
        summed(ref["chosen"], "chosen"),
        summed(ref["rejected"], "rejected"),
    )
    assert args[0].item() == pytest.approx(expected["logp_chosen"], **TIGHT)
    assert args[1].item() == pytest.approx(expected["logp_rejected"], **TIGHT)
    beta, eta = data["beta"], data["eta"]
    assert dpo_loss(*args, beta=beta).item() == pytest.approx(expected["dpo_loss"], **TIGHT)
    length = torch.tensor([float(sum(data["shifted_mask_chosen"]))], dtype=torch.float64)
    mean = rpo_loss(*args, beta=beta, eta=eta, reduction="sequence_mean", baseline_lengths=length)
    assert mean.item() == pytest.approx(expected["rpo_loss_seqmean"], **TIGHT)
    loss = rpo_loss(*args, beta=beta, eta=eta)
    assert loss.item() == pytest.approx(expected["rpo_loss"], **TIGHT)
    loss.sum().backward()
    for side in ("chosen", "rejected"):
        torch.testing.assert_close(
            logits[side].grad,
            torch.tensor(expected[f"grad_policy_logits_{side}"], dtype=torch.float64),
            rtol=1e-10,
            atol=1e-14,
        )


def test_tabular_point(oracle: dict[str, Any]) -> None:
    """Loss and logit gradients of a tabular policy, where the baseline and d0 are given distributions."""
    data, expected = oracle["tabular_point"]["input"], oracle["tabular_point"]["output"]
    d0, ref, base = (
        torch.tensor([[float(v) for v in r] if isinstance(r, list) else float(r) for r in data[k]], dtype=torch.float64)
        for k in ("d0", "ref", "base")
    )
    logits = torch.tensor(data["logits"], dtype=torch.float64, requires_grad=True)
    logps, ref_logps = logits.log_softmax(-1), ref.log()
    x, won, lost = (torch.tensor(column) for column in zip(*data["pairs"], strict=True))
    preference = dpo_loss(
        logps[x, won], logps[x, lost], ref_logps[x, won], ref_logps[x, lost], beta=data["beta"]
    ).mean()
    sft = (d0[:, None] * base * sft_loss(logps.flatten()).view_as(logps)).sum()
    loss = preference + data["eta"] * data["beta"] * sft
    assert preference.item() == pytest.approx(expected["dpo_loss"], **TIGHT)
    assert sft.item() == pytest.approx(expected["sft_ce"], **TIGHT)
    assert loss.item() == pytest.approx(expected["rpo_loss"], **TIGHT)
    loss.backward()
    torch.testing.assert_close(
        logits.grad, torch.tensor(expected["grad_logits"], dtype=torch.float64), rtol=1e-10, atol=1e-14
    )


def test_length_tilt(oracle: dict[str, Any]) -> None:
    """The SFT minimiser is the baseline under the sum, and base / length under the mean per sequence."""
    case = oracle["length"]
    base = torch.tensor(case["base"], dtype=torch.float64)
    lengths = torch.tensor([float(n) for n in case["lengths"]], dtype=torch.float64)

    def gradient_at(policy: torch.Tensor, **reduction: Any) -> torch.Tensor:
        logits = policy.log().clone().requires_grad_()
        (base * sft_loss(logits.log_softmax(-1), **reduction)).sum().backward()
        assert logits.grad is not None
        return logits.grad

    tilted = torch.tensor(case["tilted"], dtype=torch.float64)
    mean_length = case["E_len_base"]
    assert gradient_at(base).abs().max() < 1e-15
    assert gradient_at(base, reduction="batch_token_mean", mean_length=mean_length).abs().max() < 1e-15
    assert gradient_at(tilted, lengths=lengths, reduction="sequence_mean").abs().max() < 1e-15
    assert gradient_at(base, lengths=lengths, reduction="sequence_mean").abs().max() > 1e-2
    assert case["eta_factor_tokenmean"] == pytest.approx(1 / mean_length)
