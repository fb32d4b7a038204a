"""The reward trainer: transformers' loop, the Bradley-Terry loss, all members in one step."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from safetyvalve.rewards import RewardModel
from safetyvalve.training.forward import Forward
from safetyvalve.training.reward.examples import RewardExample, pair_loss, pairs_of
from safetyvalve.training.reward.settings import Learning
from safetyvalve.training.trainer import TreeTrainer, refuse_non_finite, resident_gib
from safetyvalve.trees import underlying

__all__ = ["RewardTrainer", "Seen", "held_out_metrics", "reward_attention"]

_WEIGHTS = "trained.safetensors"


class Seen(NamedTuple):
    """What a forward says of comparisons, without the graph."""

    weight: Tensor
    """[pair]."""
    loss: Tensor
    """[member, pair]."""
    chosen: Tensor
    """[member, pair] reward."""
    rejected: Tensor

    @classmethod
    def cat(cls, parts: Sequence[Seen]) -> Seen:
        return cls(*(torch.cat(column, dim=-1) for column in zip(*parts, strict=True)))

    def metrics(self) -> dict[str, float]:
        """Weighted means over the comparisons; see docs/metrics.md."""
        share = self.weight / self.weight.sum()
        margins = self.chosen - self.rejected
        mean = margins.mean(0)
        right = (mean > 0).float() + 0.5 * (mean == 0).float()
        rewards = torch.cat([self.chosen, self.rejected], dim=1)
        values = {
            "preference_loss": float((share * self.loss).sum(1).mean()),
            "accuracy": float((share * right).sum()),
            "margin": float((share * mean).sum()),
            "reward_mean": float(rewards.mean()),
            "reward_std": float(rewards.mean(0).std(correction=0)),
        }
        if len(margins) > 1:
            values["spread"] = float(rewards.std(0, correction=0).mean())
            values["unanimous"] = float((share * (margins.sign() == margins.sign()[0]).all(0)).sum())
        return values


@contextmanager
def reward_attention(model: RewardModel, forward: Forward) -> Iterator[None]:
    """What a forward and its backward of ``model`` need; entered around both."""
    with ExitStack() as stack:
        for part in model.parts:
            stack.enter_context(forward.attention(underlying(part)))
        yield


class RewardTrainer(TreeTrainer):
    """Trains a reward model. A step is normalised by its own comparisons, so that any split into micro-batches gives
    the same gradient.

    Args:
        learning: the loss.
        forward: engine, budget and arithmetic.
        **kwargs: of :class:`transformers.Trainer`; ``train_dataset`` holds :class:`RewardExample`.
    """

    def __init__(self, *, learning: Learning, forward: Forward, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.learning, self.forward = learning, forward

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Gradient of one optimizer step; returns its loss, detached: the mean over members of the weighted mean over
        comparisons."""
        model.eval()  # without dropout: the rewards that are measured and used have none
        started = time.perf_counter()
        scale = sum(c.weight for e in inputs for c in e.tokens.comparisons) * self.model.members
        loss = torch.zeros((), device=self.args.device)
        seen: dict[int, list[Seen]] = {index: [] for index in range(self.model.passes)}
        with reward_attention(self.model, self.forward):
            # Groups outside: the members' parts of a group are joined below.
            for group in self._groups(inputs):
                for index in range(self.model.passes):
                    part, one = self._part(index, group, scale)
                    refuse_non_finite(
                        part, [e.tokens.id for e in group], self.state.global_step, "lower --learning-rate"
                    )
                    self.accelerator.backward(part)
                    loss += part.detach()
                    seen[index].append(one)
        tokens = sum(e.tree.n_tokens for e in inputs)
        self._meters = _joined(seen).metrics() | {
            "tokens_per_second": tokens / (time.perf_counter() - started),
            "resident_gib": resident_gib(),
        }
        return loss

    def _groups(self, examples: Sequence[RewardExample]) -> list[list[RewardExample]]:
        return [[examples[i] for i in group] for group in self.forward.groups([e.tree for e in examples])]

    def _part(self, index: int, group: Sequence[RewardExample], scale: float) -> tuple[Tensor, Seen]:
        """A micro-batch's part of the step's loss by one forward, and what was seen."""
        with self.forward.arithmetic(self.model):
            rewards = self.model.read(index, [e.tree for e in group]).rewards.T
        pairs = pairs_of(group, rewards.device)
        losses = pair_loss(rewards, pairs, self.learning)
        member = pairs.member_weight if self.model.passes == 1 else pairs.member_weight[index : index + 1]
        part = (pairs.weight * member * losses).sum() / scale
        kept = rewards.detach()
        return part, Seen(pairs.weight, losses.detach(), kept[:, pairs.winner], kept[:, pairs.loser])

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """A checkpoint holds what is trained; the rest is loaded again from where it came."""
        folder = Path(str(output_dir or self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {n: p.detach().contiguous() for n, p in self.model.named_parameters() if p.requires_grad}, folder / _WEIGHTS
        )

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        trained = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        saved = load_file(Path(resume_from_checkpoint) / _WEIGHTS)
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(saved[name])


@torch.no_grad()
def held_out_metrics(
    model: RewardModel, examples: Sequence[RewardExample], forward: Forward, learning: Learning
) -> dict[str, float]:
    """Metrics of comparisons that are not trained on, under ``held_out/`` names; none without comparisons."""
    if not examples:
        return {}
    seen: dict[int, list[Seen]] = {index: [] for index in range(model.passes)}
    for places in forward.groups([e.tree for e in examples]):
        group = [examples[i] for i in places]
        pairs = pairs_of(group, model.device)
        for index in range(model.passes):
            with forward.arithmetic(model):
                rewards = model.read(index, [e.tree for e in group]).rewards.T
            loss = pair_loss(rewards, pairs, learning)
            seen[index].append(Seen(pairs.weight, loss, rewards[:, pairs.winner], rewards[:, pairs.loser]))
    return {f"held_out/{name}": value for name, value in _joined(seen).metrics().items()}


def _joined(seen: dict[int, list[Seen]]) -> Seen:
    """All micro-batches of all forwards; each forward saw the same comparisons."""
    each = [Seen.cat(parts) for parts in seen.values()]
    return Seen(each[0].weight, *(torch.cat(column) for column in list(zip(*each, strict=True))[1:]))
