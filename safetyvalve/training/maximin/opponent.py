"""From settings to a game: the reward model is loaded, reads the data, plays, is measured, and is saved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from safetyvalve.data import Message, PreferenceExample
from safetyvalve.lineage import BaseModel
from safetyvalve.rewards import RewardModel, RewardRecord, ensemble_hash, load_reward, save_reward, spread
from safetyvalve.training.adapters import Policies
from safetyvalve.training.algorithm import Algorithm
from safetyvalve.training.choosing import telling
from safetyvalve.training.forward import Forward
from safetyvalve.training.maximin.adversary import Adversary
from safetyvalve.training.maximin.reading import Reader
from safetyvalve.training.maximin.trainer import MaximinTrainer, Sampling
from safetyvalve.training.memory import check_weights_fit
from safetyvalve.training.objective import Objective
from safetyvalve.training.optimization import Optimization
from safetyvalve.training.progress import Progress
from safetyvalve.training.reward.examples import RewardExample
from safetyvalve.training.reward.settings import Learning
from safetyvalve.training.reward.trainer import held_out_metrics

__all__ = ["REWARD_FOLDER", "Game", "Opponent"]

REWARD_FOLDER = "reward"
"""In the run folder: the reward model as the game left it."""


class Opponent:
    """The reward model that a run names, before the game.

    Args:
        algorithm: of the run, ``maximin``.
        examples: those trained on or measured.

    Raises:
        ModelError: the reward model cannot be loaded.
        DataError: an example that it cannot read.
    """

    def __init__(self, algorithm: Algorithm, examples: Iterable[PreferenceExample]) -> None:
        self.algorithm = algorithm
        self.reward: RewardModel = load_reward(str(algorithm.reward))
        self.sha256 = ensemble_hash(self.reward)
        self.reader = Reader(self.reward, examples)

    def start(
        self, optimization: Optimization, *, train: Sequence[str], held_out: Sequence[str], progress: Progress
    ) -> Game:
        """Put the reward where training is, and choose its forward.

        Args:
            optimization: gives engine, arithmetic and clipping of the reward's forwards.
            train, held_out: ids of the examples trained on and measured.
            progress: is told the engine.
        """
        self.reward.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        trees = [RewardExample(self.reader.example(i), ()).tree for i in train]
        choice = self.reward.choose_engine(telling(trees), wanted=optimization.engine)
        progress.line(f"engine of the reward: {choice.engine} ({choice.reason})")
        a = self.algorithm
        assert a.adversary_eta is not None and a.reward_range is not None and a.reward_learning_rate is not None
        adversary = Adversary(
            self.reward,
            self.reader,
            eta=a.adversary_eta,
            reward_range=a.reward_range,
            learning_rate=a.reward_learning_rate,
            max_grad_norm=optimization.max_grad_norm,
            forward=Forward.of(choice.engine, optimization),
        )
        check_weights_fit(self.reward, own_reference=False)
        measured = [RewardExample(self.reader.example(i), (1.0,) * self.reward.members) for i in held_out]
        return Game(adversary, a, measured, seed=optimization.seed)


class Game:
    """What a run needs of the game besides the policy.

    Args:
        adversary: the reward that plays.
        algorithm: settings.
        held_out: comparisons that the reward is measured on.
        seed: of the policy's answers.
    """

    def __init__(
        self, adversary: Adversary, algorithm: Algorithm, held_out: Sequence[RewardExample], *, seed: int
    ) -> None:
        self.adversary, self.algorithm, self.held_out, self.seed = adversary, algorithm, held_out, seed

    def trainer(
        self, policies: Policies, tokenizer: PreTrainedTokenizerBase, *, objective: Objective, **kwargs: Any
    ) -> MaximinTrainer:
        """The trainer of the policy; ``kwargs`` as :class:`MaximinTrainer`."""
        a = self.algorithm
        assert a.policy_samples is not None and a.policy_max_tokens is not None
        return MaximinTrainer(
            model=policies.policy,
            adversary=self.adversary,
            reference=policies.reference,
            reference_mode=policies.reference_mode,
            tokenizer=tokenizer,
            objective=objective,
            sampling=Sampling(a.policy_samples, a.policy_max_tokens, self.seed),
            **kwargs,
        )

    def measure(self, records: Sequence[dict[str, Any]]) -> dict[str, float]:
        """The reward on held-out comparisons and on the samples of an evaluation.

        Args:
            records: of the samples, as :meth:`safetyvalve.training.SampleMeter.measure` gives them; each gains
                ``proxy_reward``, the mean over members, and ``proxy_spread``; None where there is no reward.
        """
        reward, forward = self.adversary.reward, self.adversary.forward
        values = {
            "held_out/reward_" + name.removeprefix("held_out/").removeprefix("reward_"): value
            for name, value in held_out_metrics(reward, self.held_out, forward, Learning()).items()
        }
        groups: dict[str, list[dict[str, Any]]] = {}
        for record in records:
            groups.setdefault(record["probe"], []).append(record)
        scores = reward.score(
            [tuple(Message(**m) for m in group[0]["prompt"]) for group in groups.values()],
            [[r["response"] for r in group] for group in groups.values()],
            token_budget=forward.token_budget,
            autocast=forward.autocast,
        )
        means = []
        for group, score in zip(groups.values(), scores, strict=True):
            each = score.members.mean(axis=0)
            for record, value, width in zip(group, each, spread(score.members), strict=True):
                scored = bool(np.isfinite(value))
                record["proxy_reward"] = float(value) if scored else None
                record["proxy_spread"] = float(width) if scored else None
            if np.isfinite(each).any():
                means.append(float(np.nanmean(each)))
        if means:
            values["samples/proxy_reward"] = sum(means) / len(means)
        return values

    def saved(self) -> _SavedReward:
        """The reward as the run folder saves it."""
        return _SavedReward(self.adversary.reward, self.algorithm)


class _SavedReward:
    """The reward after the game: weights and record, without a width, which was of other weights."""

    def __init__(self, reward: RewardModel, algorithm: Algorithm) -> None:
        self.reward, self.algorithm = reward, algorithm

    def save_pretrained(self, save_directory: Path, /) -> None:
        reward, before = self.reward, self.reward.record
        reward.widths = ()
        played: Mapping[str, Any] = {"maximin": {k: v for k, v in asdict(self.algorithm).items() if k != "name"}}
        if before is None:
            engine = reward.choice.engine if reward.choice else "padded"
            record = RewardRecord("maximin", reward.sharing, reward.members, engine, "", training=played)
        else:
            record = replace(
                before, version=f"{before.version}+maximin", width=None, training={**before.training, **played}
            )
        base = BaseModel(**record.base) if reward.sharing == "lora" and record.base else None
        save_reward(reward, save_directory, record, base=base)
