"""A step of the game on tiny models: one tree equals separate forwards, any split, the limits, what is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from safetyvalve.data import Comparison, Message, PreferenceExample, Response
from safetyvalve.errors import NonFiniteLossError, UsageError
from safetyvalve.generation import Sample
from safetyvalve.objectives import bradley_terry_loss, rloo_loss
from safetyvalve.rewards import RewardModel
from safetyvalve.rewards.classifier import from_causal
from safetyvalve.training import Algorithm, DataSource, Forward, Objective, RunSettings
from safetyvalve.training.maximin import Adversary, Draws, MaximinTrainer, Reader, Sampling
from safetyvalve.training.maximin.reading import Written
from safetyvalve.trees import Tree, response_logps
from tests.tiny import tiny_model, tiny_tokenizer

N = 3


def example(index: int, *answers: str, comparisons: tuple[tuple[int, int, float], ...] = ((0, 1, 1.0),)) -> Any:
    return PreferenceExample(
        prompt=(Message(role="user", content=f"Question {index}?"),),
        responses=tuple(Response(content=a) for a in answers),
        comparisons=tuple(Comparison(winner=w, loser=lo, weight=x) for w, lo, x in comparisons),
    )


EXAMPLES = [
    example(0, "Yes.", "No no no."),
    example(1, "A longer answer.", "Short", "Middle", comparisons=((0, 1, 1.0), (2, 1, 2.0), (0, 2, 0.5))),
    example(2, "x", "yy"),
]
TEXTS = [["one", "two", "three"], ["", "four four", "5"], ["six", "seven", "eight eight"]]


def reward_model(engine: str = "tree") -> RewardModel:
    torch.manual_seed(3)
    return RewardModel([from_causal(tiny_model(), 1)], tiny_tokenizer(), engine=engine)  # type: ignore[arg-type]


def adversary(*, eta: float = 0.7, budget: int = 2048, engine: str = "tree", **changes: Any) -> Adversary:
    model = reward_model(engine)
    settings: dict[str, Any] = {"reward_range": 4.0, "learning_rate": 1e-3, "max_grad_norm": 1.0, **changes}
    return Adversary(model, Reader(model, EXAMPLES), eta=eta, forward=Forward(engine, budget), **settings)  # type: ignore[arg-type]


def draws(texts: list[list[str]] = TEXTS) -> list[Draws]:
    """Answers with the policy's tokens, here the reward's own."""
    tokenizer = tiny_tokenizer()
    result = []
    for index, (one, answers) in enumerate(zip(EXAMPLES, texts, strict=True)):
        prompt = tuple(tokenizer(f"Question {index}?")["input_ids"])
        samples = tuple(
            Sample(index, (*tokenizer(a)["input_ids"], tokenizer.eos_token_id), a, finished=True) for a in answers
        )
        result.append(Draws(one.id, prompt, samples))
    return result


def written(player: Adversary) -> list[Written]:
    return [player.reader.write(d) for d in draws()]


def gradient(player: Adversary) -> dict[str, Tensor]:
    player.reward.zero_grad()
    player.gradient(written(player), N)
    return {name: p.grad.clone() for name, p in player.trained().items() if p.grad is not None}


def assert_close(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


class TestReward:
    def test_one_tree_is_separate_forwards(self) -> None:
        """Comparisons and samples behind one prompt, against a row for each response."""
        assert_close(gradient(adversary()), gradient(adversary(engine="padded")))

    def test_the_split_changes_nothing(self) -> None:
        assert_close(gradient(adversary()), gradient(adversary(budget=1)))

    def test_without_eta_it_is_bradley_terry(self) -> None:
        """The gradient is that of the comparisons alone, with the samples' leaves or without."""
        player = adversary(eta=0.0)
        ours = gradient(player)
        player.reward.zero_grad()
        tokens = [player.reader.example(e.id) for e in EXAMPLES]
        rewards = player.reward.rewards([Tree(t.prompt_ids, t.response_ids) for t in tokens])[0]
        loss, offset, total = torch.zeros(()), 0, 0.0
        for t in tokens:
            for c in t.comparisons:
                pair = (rewards[offset + c.winner][None], rewards[offset + c.loser][None])
                loss, total = loss + c.weight * bradley_terry_loss(*pair)[0], total + c.weight
            offset += len(t.response_ids)
        (loss / total).backward()
        assert_close(ours, {n: p.grad for n, p in player.trained().items() if p.grad is not None})
        with_ = gradient(adversary(eta=0.7))
        assert max((with_[n] - ours[n]).abs().max() for n in ours) > 1e-3

    def test_it_takes_from_the_policy(self) -> None:
        """Some updates with the adversary leave the samples a smaller gap than without; the loss falls in both."""
        gaps, losses = {}, {}
        for eta in (0.0, 0.7):
            player = adversary(eta=eta)
            seen = [player.update(draws(), step).meters for step in range(4)]
            gaps[eta] = seen[-1]["adversarial_gap"]
            losses[eta] = seen[0]["reward_loss"] - seen[-1]["reward_loss"]
        assert gaps[0.7] < gaps[0.0] - 0.05
        assert min(losses.values()) > 0

    def test_the_box_bounds_the_loss(self) -> None:
        """However long it plays, the penalty is at least minus eta times the range."""
        player = adversary(eta=0.7, reward_range=0.5, learning_rate=1e-2)
        seen = [player.update(draws(), step).meters for step in range(6)]
        assert all(m["reward_loss"] >= m["reward_preference_loss"] - 0.7 * 0.5 - 1e-5 for m in seen)
        assert any(m["gap_cut"] > 0 for m in seen)

    def test_rewards_are_those_of_the_updated_model(self) -> None:
        player = adversary()
        step = player.update(draws(), 0)
        scores = player.reward.score([e.prompt for e in EXAMPLES], TEXTS)
        torch.testing.assert_close(
            step.rewards, torch.from_numpy(np.stack([s.members[0] for s in scores])).float(), rtol=1e-4, atol=1e-4
        )
        assert step.readable == [0, 1, 2]
        assert step.meters["unscored"] == 0

    def test_an_answer_that_cannot_be_read_is_counted(self) -> None:
        """Its prompt's comparisons go on being learned, and its answers stay out of both players' losses."""
        texts = [TEXTS[0], ["fine", "forged <|im_end|>", "fine too"], TEXTS[2]]
        step = adversary().update(draws(texts), 0)
        assert step.readable == [0, 2]
        assert step.rewards.shape == (2, N)
        assert step.meters["unscored"] == N
        assert step.meters["reward_accuracy"] >= 0

    def test_a_loss_that_is_not_finite_changes_nothing(self) -> None:
        player = adversary()
        before = copy.deepcopy(player.reward.state_dict())
        with torch.no_grad():
            player.reward.parts[0].score.weight.mul_(float("nan"))
        poisoned = {n: p.detach().clone() for n, p in player.trained().items()}
        with pytest.raises(NonFiniteLossError, match="lower --reward-learning-rate"):
            player.update(draws(), 4)
        assert all(torch.equal(p, poisoned[n]) or p.isnan().any() for n, p in player.trained().items())
        assert before.keys() == player.reward.state_dict().keys()

    def test_checkpoint(self, tmp_path: Path) -> None:
        """Saved and loaded it goes on bitwise as if it had not been."""
        first = adversary()
        first.update(draws(), 0)
        first.save(tmp_path)
        second = adversary()
        second.load(tmp_path)
        for player in (first, second):
            player.update(draws(), 1)
        assert all(torch.equal(a, second.trained()[n]) for n, a in first.trained().items())


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., MaximinTrainer]:
    from safetyvalve.training.optimization import Optimization
    from safetyvalve.training.run import trainer_arguments
    from safetyvalve.training.trackers import Trackers

    def make(forward: Forward, policy: PreTrainedModel | None = None) -> MaximinTrainer:
        model = policy if policy is not None else tiny_model(seed=1)
        return MaximinTrainer(
            model=model,
            args=trainer_arguments(tmp_path, Optimization(steps=2, prompts_per_step=3), Trackers()),
            adversary=adversary(),
            reference=tiny_model(seed=0),
            tokenizer=tiny_tokenizer(),
            objective=Objective("maximin", beta=0.3),
            sampling=Sampling(N, 6, 0),
            forward=forward,
        )

    return make


class TestPolicy:
    REWARDS = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0], [2.0, 2.5, -1.0]])

    def test_one_tree_is_separate_forwards(self, trainer: Callable[..., MaximinTrainer]) -> None:
        """K answers behind one prompt, in any split, against a row for each and the loss written out."""
        grads = []
        for forward in (Forward("tree"), Forward("tree", token_budget=1), Forward("padded")):
            player = trainer(forward)
            sums = player.policy_gradient(draws(), self.REWARDS)
            grads.append({n: p.grad for n, p in player.model.named_parameters()})
        plain = tiny_model(seed=1)
        logps = torch.stack(
            [
                torch.stack(
                    [
                        response_logps(plain, [Tree(d.prompt_ids, (s.token_ids,))], engine="padded").sums()[0]
                        for s in d.samples
                    ]
                )
                for d in draws()
            ]
        )
        torch.testing.assert_close(sums.policy, logps.detach(), rtol=1e-4, atol=1e-3)
        rloo_loss(logps, sums.reference, self.REWARDS, beta=0.3).mean().backward()
        grads.append({n: p.grad for n, p in plain.named_parameters()})
        largest = max(float(g.abs().max()) for g in grads[-1].values() if g is not None)
        for other in grads[:-1]:
            for name, value in grads[-1].items():
                torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-5 * largest)

    def test_a_step_goes_up(self, trainer: Callable[..., MaximinTrainer]) -> None:
        """A small step along the gradient makes better answers likelier on average and worse ones less so."""
        player = trainer(Forward("tree"))
        player.objective = Objective("maximin", beta=1e-6)
        before = player.policy_gradient(draws(), self.REWARDS).policy
        with torch.no_grad():
            for p in player.model.parameters():
                if p.grad is not None:
                    p -= 1e-5 * p.grad
        after = player.policy_gradient(draws(), self.REWARDS).policy
        advantage = self.REWARDS - self.REWARDS.mean(1, keepdim=True)
        assert float(((after - before) * advantage).sum()) > 0

    def test_answers_depend_on_seed_and_step_alone(self, trainer: Callable[..., MaximinTrainer]) -> None:
        from safetyvalve.data import TokenizedExample
        from safetyvalve.training import ReferencedExample

        player = trainer(Forward("tree"))
        inputs = [
            ReferencedExample(TokenizedExample(d.example_id, d.prompt_ids, (), ()), torch.zeros(0)) for d in draws()
        ]
        first = player.draw(inputs)
        torch.manual_seed(99)
        assert player.draw(inputs) == first
        player.state.global_step = 1
        assert player.draw(inputs) != first
        assert [len(d.samples) for d in first] == [N] * 3


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"name": "best"}, "algorithm is 'best'"),
        ({"reward": None}, "needs --reward"),
        ({"adversary_eta": -0.1}, "adversary_eta is -0.1"),
        ({"adversary_eta": float("nan")}, "adversary_eta is nan"),
        ({"reward_range": 0.0}, "reward_range is 0.0"),
        ({"policy_samples": 1}, "policy_samples is 1"),
        ({"policy_max_tokens": 0}, "policy_max_tokens is 0"),
        ({"reward_learning_rate": 2.0}, "reward_learning_rate is 2.0"),
        ({"name": "direct"}, "reward rm has no meaning for the algorithm 'direct'"),
        ({"name": "direct", "reward": None, "policy_samples": 4}, "policy_samples 4 has no meaning"),
    ],
)
def test_settings_out_of_range(changes: dict[str, Any], fragment: str) -> None:
    with pytest.raises(UsageError, match=fragment):
        Algorithm(**{"name": "maximin", "reward": "rm", **changes})


def test_settings_that_do_not_fit() -> None:
    maximin, source = Algorithm("maximin", reward="rm"), DataSource("data.jsonl")
    good = RunSettings("x", source, algorithm=maximin, objective=Objective("maximin", beta=0.1))
    assert RunSettings.of(good.flat()) == good
    assert good.flat()["adversary_eta"] == 0.05
    for name in ("rpo", "dpo", "ipo", "sft"):
        with pytest.raises(UsageError, match=f"objective '{name}' has no meaning for the algorithm 'maximin'"):
            replace(good, objective=Objective(name))
    with pytest.raises(UsageError, match="Take --algorithm maximin"):
        replace(good, algorithm=Algorithm())
    with pytest.raises(UsageError, match=r"eta 0\.1 has no meaning for the objective 'maximin'"):
        Objective("maximin", eta=0.1)
    with pytest.raises(UsageError, match="label_smoothing"):
        Objective("maximin", label_smoothing=0.1)
