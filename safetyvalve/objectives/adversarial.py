"""The explicit adversary: a reward that explains the comparisons and, of those that do, is worst for the policy.

Algorithm 1 of arXiv 2405.16436 is a game over one number, eq. (3.3),

    phi(policy, r) = L_D(r) + eta * E_x[ E_{y ~ policy} r(x, y) - E_{y ~ baseline} r(x, y) - beta * KL(policy || ref) ]

which the policy makes large and the reward small. For the reward the KL is a constant: :func:`adversarial_reward_loss`
is the rest. For the policy the comparisons and the baseline are: :func:`rloo_loss` has the gradient of minus what is
left, divided by eta. RPO (eq. 4.8) is the same game with the policy solved for.

Rewards are in nats of preference: a difference of 1 is odds of e. Every function returns one value a prompt, pair or
sample; the caller reduces.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from safetyvalve.errors import UsageError
from safetyvalve.objectives.preference import bradley_terry_nll, check_positive
from safetyvalve.objectives.regularizers import check_eta

__all__ = ["adversarial_gap", "adversarial_reward_loss", "leave_one_out", "rloo_loss"]


def adversarial_gap(
    policy_rewards: Float[Tensor, "prompt sample"],
    baseline_rewards: Float[Tensor, "prompt"],
    *,
    reward_range: float | None = None,
) -> Float[Tensor, "prompt"]:
    """How much better the reward finds the policy's samples than the baseline's response, one value a prompt.

    ``mean_k [ r(x, y_k) - r(x, baseline) ]``: what the adversary pushes down. The gradient flows into both rewards and
    nothing is detached; the samples are fixed, so that none reaches the policy.

    Source: E[ r(x, a1) - r(x, a0) ] of arXiv 2405.16436, eq. (3.3), whose rewards lie in a box [0, R].

    Args:
        policy_rewards: of samples drawn from the *current* policy, at least one a prompt.
        baseline_rewards: of the baseline's response, or their mean by its law.
        reward_range: R, the width of the box. Two rewards in it differ by at most that: a difference is cut there and
            has no gradient beyond, so that a reward that is no table but a network cannot run off to minus infinity
            on samples that no comparison holds. None cuts nothing.

    Raises:
        UsageError: no samples, the prompts do not match, or a range not above 0.
    """
    if policy_rewards.dim() != 2 or not policy_rewards.shape[1] or policy_rewards.shape[:1] != baseline_rewards.shape:
        raise UsageError(
            f"rewards of the policy's samples have shape {tuple(policy_rewards.shape)} and of the baseline "
            f"{tuple(baseline_rewards.shape)}; [prompt, sample] with at least one sample, and [prompt], are accepted."
        )
    difference = policy_rewards - baseline_rewards[:, None]
    if reward_range is not None:
        check_positive("reward_range", reward_range)
        difference = difference.clamp(-reward_range, reward_range)
    return difference.mean(1)


def adversarial_reward_loss(
    chosen_rewards: Float[Tensor, "pair"],
    rejected_rewards: Float[Tensor, "pair"],
    policy_rewards: Float[Tensor, "pair sample"],
    baseline_rewards: Float[Tensor, "pair"] | None = None,
    *,
    eta: float,
    label_smoothing: float = 0.0,
) -> Float[Tensor, "pair"]:
    """What the adversary minimises, one value a pair, in nats: ``bradley_terry + eta * gap``.

    The sign: a reward that explains the comparisons equally well and gives the policy's own samples *less* is smaller
    here, so that a policy gains nothing by answers that the comparisons say nothing about. With ``eta = 0`` it is
    Bradley-Terry, the reward of plain RLHF.

    Source: the inner minimum of arXiv 2405.16436, eq. (3.3) and algorithm 1.

    Args:
        chosen_rewards, rejected_rewards: of the two responses of each comparison.
        policy_rewards: as :func:`adversarial_gap`, to the prompt of each pair.
        baseline_rewards: by default the chosen responses are the baseline, as in the paper's experiments. For a
            baseline with prompts of its own add :func:`bradley_terry_nll` and :func:`adversarial_gap` yourself.
        eta: weight of the adversary, at least 0.
        label_smoothing: as :func:`bradley_terry_nll`.

    Raises:
        UsageError: a coefficient out of range, or shapes that do not match.
    """
    check_eta(eta)
    if chosen_rewards.shape != rejected_rewards.shape:
        raise UsageError(
            f"rewards have shapes {tuple(chosen_rewards.shape)} and {tuple(rejected_rewards.shape)}; both must be one "
            "vector with an entry a pair."
        )
    preference = bradley_terry_nll(chosen_rewards - rejected_rewards, label_smoothing=label_smoothing)
    return preference + eta * adversarial_gap(
        policy_rewards, chosen_rewards if baseline_rewards is None else baseline_rewards
    )


def leave_one_out(rewards: Float[Tensor, "prompt sample"]) -> Float[Tensor, "prompt sample"]:
    """Each sample's reward less the mean of the *other* samples of its prompt; sums to zero over a prompt.

    A baseline that does not depend on the sample itself leaves the policy gradient unbiased. A constant added to all
    rewards of a prompt changes nothing, which matters because comparisons determine a reward only up to that.

    Source: Kool et al., "Buy 4 REINFORCE samples, get a baseline for free!", 2019; arXiv 2402.14740.

    Raises:
        UsageError: fewer than two samples a prompt.
    """
    if rewards.dim() != 2 or rewards.shape[1] < 2:
        raise UsageError(
            f"rewards have shape {tuple(rewards.shape)}; [prompt, sample] with at least 2 samples a prompt is "
            "accepted, since each is held against the others. Draw more samples."
        )
    n = rewards.shape[1]
    return (rewards - rewards.mean(1, keepdim=True)) * (n / (n - 1))


def rloo_loss(
    policy_logps: Float[Tensor, "prompt sample"],
    ref_logps: Float[Tensor, "prompt sample"],
    rewards: Float[Tensor, "prompt sample"],
    *,
    beta: float,
) -> Float[Tensor, "prompt sample"]:
    """Leave-one-out policy gradient with KL to the reference, one value a sample.

    ``-A_k log pi(y_k)`` with ``A = leave_one_out(r - beta log(pi / ref))``, *detached*: the gradient of the mean is an
    unbiased estimate of that of ``-(E[r] - beta KL(pi || ref))``, although the value means nothing. The KL is the
    estimator "k1" (the log-ratio of the sampled sequence) inside the reward; as a term of the loss, where it would be
    differentiated through the sampled log-ratio, its gradient would be zero in expectation.

    Source: arXiv 2402.14740 (RLOO); the outer maximum of arXiv 2405.16436, eq. (3.3), divided by eta.

    Args:
        policy_logps: log-probabilities of samples of the *current* policy, at temperature 1 from its whole
            distribution, summed over tokens, in nats. One update a sample: nothing corrects for older samples.
        ref_logps: the same under the reference.
        rewards: of the samples, in nats of preference.
        beta: strength of the KL, above 0.

    Raises:
        UsageError: beta is not above 0, shapes that differ, or fewer than two samples a prompt.
    """
    check_positive("beta", beta)
    if not policy_logps.shape == ref_logps.shape == rewards.shape:
        raise UsageError(
            f"policy log-probabilities, reference log-probabilities and rewards have shapes "
            f"{tuple(policy_logps.shape)}, {tuple(ref_logps.shape)} and {tuple(rewards.shape)}; all must be [prompt, "
            "sample]."
        )
    penalised = rewards - beta * (policy_logps - ref_logps)
    return -leave_one_out(penalised).detach() * policy_logps
