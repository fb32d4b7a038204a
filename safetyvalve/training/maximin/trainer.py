"""The policy's side of the game: answers, what the adversary says of them, and a step up the policy gradient."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safetyvalve.generation import sample
from safetyvalve.objectives import rloo_loss
from safetyvalve.training.forward import Forward
from safetyvalve.training.maximin.adversary import Adversary
from safetyvalve.training.maximin.reading import Draws
from safetyvalve.training.objective import Objective, ReferencedExample
from safetyvalve.training.trainer import TreeTrainer, refuse_non_finite, resident_gib

__all__ = ["MaximinTrainer", "Sampling"]


class Sampling(NamedTuple):
    """How the policy answers the prompts of a step: at temperature 1, from its whole distribution."""

    n: int
    """Answers a prompt, at least 2."""
    max_new_tokens: int
    seed: int


class _Sums(NamedTuple):
    """Log-probabilities of the answers of a step, [prompt, sample], in nats; without the graph."""

    policy: Tensor
    reference: Tensor


class MaximinTrainer(TreeTrainer):
    """Plays a step of Algorithm 1: sample, move the reward, move the policy by the leave-one-out gradient.

    The Trainer's optimizer, schedule and clipping are the policy's; the reward's are the adversary's own. Each sample
    is used once, so that the gradient is that of the policy it was drawn from.

    Args:
        adversary: the reward.
        reference: the reference policy.
        reference_mode: entered around its forwards, where it is the policy with its adapter off.
        tokenizer: of policy and reference.
        objective: gives beta, the strength of the KL; the meters report it.
        sampling: numbers and lengths of answers.
        forward: how the policy's log-probabilities are computed.
        **kwargs: of :class:`transformers.Trainer`; ``train_dataset`` holds :class:`ReferencedExample` with comparisons.
    """

    def __init__(
        self,
        *,
        adversary: Adversary,
        reference: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        objective: Objective,
        sampling: Sampling,
        forward: Forward,
        reference_mode: Callable[[], AbstractContextManager[object]] = nullcontext,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.adversary, self.reference, self.reference_mode = adversary, reference, reference_mode
        self.tokenizer, self.objective, self.sampling, self.forward = tokenizer, objective, sampling, forward

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """One step of each player; returns minus what the policy makes large, gap - beta KL, detached."""
        # Dropout stays off: the reference has none, and with it the policy would differ from it before any update.
        model.eval()
        started = time.perf_counter()
        draws = self.draw(inputs)
        sampled = time.perf_counter()
        moved = self.adversary.update(draws, self.state.global_step)
        sums = self.policy_gradient([draws[i] for i in moved.readable], moved.rewards)
        kl = float((sums.policy - sums.reference).mean()) if len(moved.readable) else 0.0
        gap = moved.meters.get("adversarial_gap", 0.0)
        tokens = sum(d.tree.n_tokens for d in draws)
        answers = [s for d in draws for s in d.samples]
        loss = self.objective.beta * kl - gap
        self._meters = moved.meters | {
            "loss": loss,  # the alarms follow it
            "kl_k1": kl,
            "length": sum(len(s.token_ids) for s in answers) / len(answers),
            "eos_rate": sum(s.finished for s in answers) / len(answers),
            "sampling_seconds": sampled - started,
            "tokens_per_second": tokens / (time.perf_counter() - started),
            "resident_gib": resident_gib(),
        }
        if moved.readable:
            read = [s for i in moved.readable for s in draws[i].samples]
            self._meters["entropy_per_token"] = -float(sums.policy.sum()) / sum(len(s.token_ids) for s in read)
        return torch.tensor(loss, device=self.args.device)

    def draw(self, examples: Sequence[ReferencedExample]) -> list[Draws]:
        """Answers of the current policy to the examples' prompts; the seed and the step decide them."""
        step_seed = int(np.random.SeedSequence([self.sampling.seed, self.state.global_step]).generate_state(1)[0])
        answers = sample(
            self.model,
            self.tokenizer,
            [e.tokens.prompt_ids for e in examples],
            n=self.sampling.n,
            max_new_tokens=self.sampling.max_new_tokens,
            seed=step_seed,
            autocast=self.forward.autocast,
        )
        n = self.sampling.n
        return [
            Draws(e.tokens.id, e.tokens.prompt_ids, tuple(answers[i * n : (i + 1) * n])) for i, e in enumerate(examples)
        ]

    def policy_gradient(self, draws: Sequence[Draws], rewards: Tensor) -> _Sums:
        """Add the gradient of the mean leave-one-out loss to the policy's.

        Args:
            draws: answers of the current policy; those to a prompt are one tree, whose prompt is computed once.
            rewards: [prompt, sample] of them.
        """
        policy, reference = torch.zeros_like(rewards), torch.zeros_like(rewards)
        with self.forward.attention(self.model):
            for group in self.forward.groups([d.tree for d in draws]):
                trees = [draws[i].tree for i in group]
                with torch.no_grad(), self.reference_mode():
                    reference[group] = self.forward.sums(self.reference, trees).view(len(group), -1)
                logps = self.forward.sums(self.model, trees).view(len(group), -1)
                loss = rloo_loss(logps, reference[group], rewards[group].to(logps), beta=self.objective.beta).sum()
                loss = loss / rewards.numel()
                refuse_non_finite(
                    loss,
                    [draws[i].example_id for i in group],
                    self.state.global_step,
                    "lower --learning-rate or raise --beta",
                )
                self.accelerator.backward(loss)
                policy[group] = logps.detach()
        return _Sums(policy, reference)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """A checkpoint holds both players."""
        super()._save(output_dir, state_dict)
        self.adversary.save(Path(str(output_dir or self.args.output_dir)))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.adversary.load(Path(resume_from_checkpoint))
