"""The displacement alarm as a plain callback of transformers' Trainer, for trainers that are not ours."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from transformers import TrainerControl, TrainerState
from transformers.trainer_callback import TrainerCallback

from safetyvalve.diagnostics.alarms import Alarm, Displacement, Estimate, advice
from safetyvalve.errors import UsageError
from safetyvalve.training.progress import Progress

__all__ = ["OveroptimizationMonitor"]

_REWARD, _LOGPS = "rewards/chosen", "logps/chosen"


class OveroptimizationMonitor(TrainerCallback):
    """Watches the chosen responses' log-probability in the logs of a preference trainer, and can stop it.

        trainer = trl.DPOTrainer(..., callbacks=[OveroptimizationMonitor(stop=True)])

    TRL logs *sums* over a response's tokens, averaged over the batches since the log before: ``rewards/chosen`` is beta
    times log(policy / reference), so that divided by beta it is the change since step 0, in nats a response; where it
    is not logged, ``logps/chosen`` minus its first value stands in, which also holds how the batches differ. A
    trainer's ``beta`` is that of its arguments. Both are divided by the mean tokens of a chosen response: what
    was given, or what the ``chosen_ids`` of the training data have.

    Rule: of every ``window`` training logs, one after the other, the upper end of the t interval of their mean (level
    ``alpha / (k (k + 1))`` at the k-th window) below minus the limit. If the true mean never is below it, the alarm is
    ever raised with a chance of at most alpha, as far as the logs of a window are independent and about normal.
    Training batches show displacement only while their examples are new: policies remember what they saw. So where the
    trainer evaluates, ``eval_rewards/chosen`` is compared with the limit too, as it is: TRL logs no spread of it, so
    that this part has no stated error.

    Args:
        limit: largest fall that is not called displacement, above 0, in nats per token.
        alpha: chance of a false alarm from the training logs.
        window: training logs that are judged together, at least 3.
        tokens: mean tokens of a chosen response; None counts them in the training data.
        stop: ask the trainer to stop when the alarm is raised.
        tell: is given each raised alarm; None writes a line to standard error.

    Raises:
        UsageError: an argument out of range; later, a trainer whose logs have no chosen log-probability or whose data
            does not tell the tokens.
    """

    def __init__(
        self,
        limit: float = 0.1,
        *,
        alpha: float = 0.05,
        window: int = 10,
        tokens: float | None = None,
        stop: bool = False,
        tell: Callable[[Alarm], None] | None = None,
    ) -> None:
        if window < 3:
            raise UsageError(f"window is {window}; at least 3 logs are needed to see their spread.")
        if tokens is not None and not (math.isfinite(tokens) and tokens > 0):
            raise UsageError(f"tokens is {tokens}; the mean tokens of a chosen response are above 0.")
        self.window, self.tokens, self.stop = window, tokens, stop
        self.tell = tell or (lambda alarm: Progress().line(f"step {alarm.step}: {alarm.says}. {advice(alarm.name)}"))
        self.alarms: list[Alarm] = []
        """What was said at each window and each evaluation, raised or not."""
        self._watch = Displacement(limit, alpha=alpha)
        self._changes: list[float] = []
        self._first: dict[str, float] = {}

    @property
    def raised(self) -> bool:
        """Whether the alarm was ever raised."""
        return any(alarm.raised for alarm in self.alarms)

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.tokens is None:
            self.tokens = _chosen_tokens(getattr(kwargs.get("train_dataloader"), "dataset", None))
        if getattr(args, "ld_alpha", None) is not None:
            raise UsageError(
                f"ld_alpha is {args.ld_alpha}, which makes TRL log weighted sums that are no log-probabilities; the "
                "monitor reads plain ones. Leave ld_alpha out, or the monitor."
            )

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any) -> None:
        logs = logs or {}
        for prefix in ("", "eval_"):
            change = self._change(args, logs, prefix)
            if change is not None:
                self._take(state.global_step, change, evaluated=bool(prefix))
        if self.stop and self.alarms and self.alarms[-1].raised:
            control.should_training_stop = True

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if not self._changes and not self.alarms and state.global_step:
            raise UsageError(
                f"the trainer logged neither {_REWARD} nor {_LOGPS} in {state.global_step} steps; the monitor reads "
                "one of them. Use it with a preference trainer, and set logging_steps below the number of steps."
            )

    def _change(self, args: Any, logs: Mapping[str, Any], prefix: str) -> float | None:
        """Of the log-probability of chosen responses since step 0, nats per token."""
        assert self.tokens is not None
        beta = getattr(args, "beta", None)
        reward, logps = logs.get(prefix + _REWARD), logs.get(prefix + _LOGPS)
        if beta and reward is not None:
            return float(reward) / float(beta) / self.tokens
        if logps is None:
            return None
        return (float(logps) - self._first.setdefault(prefix, float(logps))) / self.tokens

    def _take(self, step: int, change: float, *, evaluated: bool) -> None:
        if evaluated:
            limit = -self._watch.limit
            said: Alarm | None = Alarm("displacement", step, change < limit, change, change, limit, 1)
        else:
            self._changes.append(change)
            if len(self._changes) < self.window:
                return
            recent, self._changes = self._changes, []
            mean = math.fsum(recent) / self.window
            spread = math.sqrt(math.fsum((c - mean) ** 2 for c in recent) / (self.window - 1))
            said = self._watch.see(step, Estimate(mean, spread / math.sqrt(self.window), self.window))
        if said is not None:
            self.alarms.append(said)
            if said.raised:
                self.tell(said)


def _chosen_tokens(data: Any) -> float:
    if data is None or "chosen_ids" not in (getattr(data, "column_names", None) or ()):
        raise UsageError(
            "the training data has no column 'chosen_ids' to count the tokens of chosen responses in. Pass their mean: "
            "OveroptimizationMonitor(tokens=120)."
        )
    lengths = [len(ids) for ids in data["chosen_ids"]]
    return sum(lengths) / len(lengths)
