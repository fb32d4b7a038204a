"""The reward's side of the game: it goes on explaining the comparisons, and takes from the policy where it can."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from safetyvalve.errors import NonFiniteLossError
from safetyvalve.objectives import adversarial_gap, bradley_terry_loss
from safetyvalve.rewards import RewardModel
from safetyvalve.training.forward import Forward
from safetyvalve.training.maximin.reading import Draws, Places, Reader, Written, places_of
from safetyvalve.training.reward.trainer import reward_attention
from safetyvalve.training.trainer import refuse_non_finite
from safetyvalve.trees import Tree

__all__ = ["Adversary", "RewardStep"]

_WEIGHTS, _OPTIMIZER = "adversary.safetensors", "adversary_optimizer.pt"


class RewardStep(NamedTuple):
    """What one update of the reward leaves for the policy's."""

    rewards: Tensor
    """[prompt, sample]: of the answers, by the updated reward, the mean over its members; fp32, without a graph."""
    readable: list[int]
    """Which of the step's prompts these are."""
    meters: dict[str, float]
    """Of the step, before the update; see docs/metrics.md."""


class Adversary:
    """A reward model with its optimizer.

    Args:
        reward: what the game starts from; trained in place. Of adapters, only these are trained.
        reader: writes comparisons and answers in its tokens.
        eta: weight of the adversary; 0 leaves Bradley-Terry alone.
        reward_range: as :func:`safetyvalve.objectives.adversarial_gap`.
        learning_rate: of its AdamW, constant and without weight decay.
        max_grad_norm: gradients are clipped to this norm; 0 does not clip.
        forward: engine, budget and arithmetic of its forwards.
    """

    def __init__(
        self,
        reward: RewardModel,
        reader: Reader,
        *,
        eta: float,
        reward_range: float,
        learning_rate: float,
        max_grad_norm: float,
        forward: Forward,
    ) -> None:
        self.reward, self.reader, self.forward = reward, reader, forward
        self.eta, self.reward_range, self.max_grad_norm = eta, reward_range, max_grad_norm
        for name, parameter in reward.named_parameters():
            parameter.requires_grad_(not reward.adapters or any(f".{a}." in name for a in reward.adapters))
        self._optimizer = torch.optim.AdamW(self.trained().values(), lr=learning_rate, weight_decay=0.0)

    def trained(self) -> dict[str, torch.nn.Parameter]:
        """What the game changes."""
        return {name: p for name, p in self.reward.named_parameters() if p.requires_grad}

    def update(self, draws: Sequence[Draws], step: int) -> RewardStep:
        """One step down the adversarial loss, and what the answers are worth afterwards.

        Args:
            draws: answers of the current policy to the prompts of the step.
            step: optimizer steps done, for messages.

        Raises:
            NonFiniteLossError: a loss or gradient that is not finite; nothing was changed.
        """
        written = [self.reader.write(d) for d in draws]
        n = len(draws[0].samples)
        meters = self._descend(written, n, step)
        readable = [i for i, w in enumerate(written) if w.samples]
        meters["unscored"] = float(n * (len(written) - len(readable)))
        return RewardStep(self._worth([written[i] for i in readable], n), readable, meters)

    def gradient(self, written: Sequence[Written], n: int, step: int = 0) -> dict[str, float]:
        """Add the step's gradient to the parameters', and say what was seen; the split into micro-batches is free.

        Comparisons count by their weights and prompts alike; the members' losses are averaged.
        """
        weight = sum(c.weight for w in written for c in w.example.comparisons)
        prompts = sum(bool(w.samples) for w in written)
        sums: dict[str, float] = {}
        with reward_attention(self.reward, self.forward):
            for group in self.forward.groups([w.tree for w in written]):
                part = [written[i] for i in group]
                with self.forward.arithmetic(self.reward):
                    rewards = self.reward.rewards([w.tree for w in part]).float()
                places = places_of(part, n, rewards.device)
                loss = self._loss(rewards, places, weight, prompts)
                refuse_non_finite(loss, [w.example.id for w in part], step, "lower --reward-learning-rate")
                loss.backward()
                for name, value in self._seen(rewards.detach(), places).items():
                    sums[name] = sums.get(name, 0.0) + value
        return self._meters(sums, weight, prompts, n)

    def _descend(self, written: Sequence[Written], n: int, step: int) -> dict[str, float]:
        self._optimizer.zero_grad(set_to_none=True)
        meters = self.gradient(written, n, step)
        limit = self.max_grad_norm or math.inf
        norm = float(torch.nn.utils.clip_grad_norm_(self.trained().values(), limit))
        if not math.isfinite(norm):
            raise NonFiniteLossError(
                f"the reward's gradient has the norm {norm} at step {step + 1} although its loss is finite. The "
                "weights were not changed by this step. Lower --reward-learning-rate, or use --precision fp32."
            )
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return meters | {"reward_grad_norm": norm}

    def _loss(self, rewards: Tensor, places: Places, weight: float, prompts: int) -> Tensor:
        """This micro-batch's part of the step's loss."""
        loss = rewards.new_zeros(())
        for member in rewards:
            preference = bradley_terry_loss(member[places.winner], member[places.loser])
            loss = loss + (places.weight.to(member) * preference).sum() / weight
            if len(places.samples) and self.eta:
                gap = adversarial_gap(member[places.samples], places.baseline(member), reward_range=self.reward_range)
                loss = loss + self.eta * gap.sum() / prompts
        return loss / len(rewards)

    def _seen(self, rewards: Tensor, places: Places) -> dict[str, float]:
        """Sums over a micro-batch, of the members' mean."""
        mean, weight = rewards.mean(0), places.weight.to(rewards)
        chosen, rejected = mean[places.winner], mean[places.loser]
        margin = chosen - rejected
        right = (margin > 0).to(weight) + 0.5 * (margin == 0).to(weight)
        values = {
            "preference": (
                weight * torch.stack([bradley_terry_loss(m[places.winner], m[places.loser]) for m in rewards])
            )
            .sum(1)
            .mean(),
            "accuracy": (weight * right).sum(),
            "margin": (weight * margin).sum(),
        }
        if len(places.samples):
            baseline, samples = places.baseline(mean), mean[places.samples]
            difference = samples - baseline[:, None]
            cut = difference.abs() > self.reward_range
            values |= {
                "gap": difference.mean(1).sum(),
                "penalty": adversarial_gap(samples, baseline, reward_range=self.reward_range).sum(),
                "cut": cut.float().mean(1).sum(),
                "policy": samples.mean(1).sum(),
                "baseline": baseline.sum(),
            }
        return {name: float(value) for name, value in values.items()}

    def _meters(self, sums: Mapping[str, float], weight: float, prompts: int, n: int) -> dict[str, float]:
        preference = sums["preference"] / weight
        meters = {
            "reward_preference_loss": preference,
            "reward_accuracy": sums["accuracy"] / weight,
            "reward_margin": sums["margin"] / weight,
        }
        if not prompts:
            return meters | {"reward_loss": preference}
        return meters | {
            "reward_loss": preference + self.eta * sums["penalty"] / prompts,
            "adversarial_gap": sums["gap"] / prompts,
            "gap_cut": sums["cut"] / prompts,
            "policy_reward": sums["policy"] / prompts,
            "baseline_reward": sums["baseline"] / prompts,
        }

    @torch.no_grad()
    def _worth(self, written: Sequence[Written], n: int) -> Tensor:
        """[prompt, sample] rewards of readable answers, in the order given."""
        result = torch.zeros(len(written), n, device=self.reward.device)
        trees = [Tree(w.example.prompt_ids, w.samples) for w in written]
        for group in self.forward.groups(trees):
            with self.forward.arithmetic(self.reward):
                rewards = self.reward.rewards([trees[i] for i in group]).float()
            result[group] = rewards.mean(0).view(-1, n)
        return result

    def save(self, folder: Path) -> None:
        """What a checkpoint holds of it."""
        weights = {name: p.detach().cpu().contiguous() for name, p in self.trained().items()}
        save_file(weights, folder / _WEIGHTS)
        torch.save(self._optimizer.state_dict(), folder / _OPTIMIZER)

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        """Go on from what :meth:`save` wrote."""
        saved = load_file(folder / _WEIGHTS)
        for name, parameter in self.trained().items():
            parameter.copy_(saved[name])
        state: dict[str, Any] = torch.load(folder / _OPTIMIZER, map_location="cpu", weights_only=True)
        self._optimizer.load_state_dict(state)
