"""The loop that all trainers share: transformers', with whole checkpoints and a stop at what is not finite."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerControl, TrainerState
from transformers.trainer_callback import TrainerCallback

from safetyvalve.errors import NonFiniteLossError, UsageError
from safetyvalve.native.norms import total_norm
from safetyvalve.training.checkpoints import publish, staging
from safetyvalve.training.disk import explain_full_disk
from safetyvalve.training.memory import FreedMemory

__all__ = ["TreeTrainer", "refuse_non_finite", "resident_gib"]


def resident_gib() -> float:
    """Memory of this process that is resident now, in GiB."""
    return float(psutil.Process().memory_info().rss) / 2**30


class _HandBack(TrainerCallback):
    """Gives memory back between steps."""

    def __init__(self, freed: FreedMemory) -> None:
        self.freed = freed

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.freed.after_step(resident_gib())


class TreeTrainer(Trainer):
    """A :class:`transformers.Trainer` whose step covers ``args.per_device_train_batch_size`` prompts.

    A subclass gives ``training_step``, which splits them into micro-batches by a token budget, and fills ``_meters``.

    Raises:
        UsageError: several processes, or gradient accumulation by the Trainer.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(data_collator=lambda batch: batch, **kwargs)
        if self.args.world_size > 1 or self.args.n_gpu > 1:
            raise UsageError(
                f"{self.args.world_size} processes with {self.args.n_gpu} GPUs each were started; this version trains "
                "in one process on one device. Start one, and set CUDA_VISIBLE_DEVICES to one GPU."
            )
        if self.args.gradient_accumulation_steps != 1:
            raise UsageError(
                f"gradient_accumulation_steps is {self.args.gradient_accumulation_steps}; a step is split by the token "
                "budget instead. Set it to 1 and put the prompts of a step into per_device_train_batch_size."
            )
        self._meters: dict[str, float] = {}
        self.freed = FreedMemory()
        self.add_callback(_HandBack(self.freed))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the meters of the last step to what the Trainer logs for it."""
        if "loss" in logs:
            logs |= self._meters
        super().log(logs, start_time)

    @property
    def meters(self) -> Mapping[str, float]:
        """Of the last step, by the names of docs/metrics.md."""
        return self._meters

    def publish(self, values: Mapping[str, float]) -> None:
        """Tell the tracking integrations of an evaluation, under ``eval_`` names, at the current step.

        Not :meth:`log`: called from a callback, it would cancel the step's own log.
        """
        logs = {f"eval_{name}": value for name, value in values.items()}
        self.callback_handler.call_event("on_log", self.args, self.state, self.control, logs=logs)

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        """As the Trainer's, but the optimizer scales the gradients as it reads them: one pass over them less."""
        optimizer: Any = getattr(self.optimizer, "optimizer", self.optimizer)
        fused = isinstance(optimizer, torch.optim.AdamW) and all(g["fused"] for g in optimizer.param_groups)
        if not fused or self.args.device.type != "cpu":
            return super()._clip_grad_norm(model)
        norm = total_norm([p.grad for p in model.parameters() if p.grad is not None])
        # What the fused AdamW divides by; meant for mixed precision's scaled losses.
        optimizer.grad_scale = ((norm + 1e-6) / self.args.max_grad_norm).clamp(min=1).float()
        return norm

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """The Trainer asks for it before the optimizer moves anything: the last moment to stop."""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if norm is not None and not math.isfinite(float(norm)):
            raise NonFiniteLossError(
                f"the gradient's norm is {float(norm)} at step {self.state.global_step + 1} although the loss is "
                "finite. The weights were not changed by this step. Lower --learning-rate, or use --precision fp32."
            )
        return norm

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """As the Trainer's, but a checkpoint is whole or not there, and a full disk leaves the one before."""
        folder = Path(str(self.args.output_dir))
        partial = staging(folder)
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        self.args.output_dir = str(partial)  # where the Trainer takes the place of a checkpoint from
        try:
            with explain_full_disk(folder, f"the checkpoint of step {self.state.global_step}"):
                super()._save_checkpoint(model, trial)
                self.save_beside(partial / f"checkpoint-{self.state.global_step}")
                publish(partial / f"checkpoint-{self.state.global_step}", folder, keep=limit)
        finally:
            self.args.output_dir, self.args.save_total_limit = str(folder), limit
            shutil.rmtree(partial, ignore_errors=True)

    def save_beside(self, checkpoint: Path) -> None:
        """What a subclass keeps in a checkpoint beside the Trainer's own; nothing here."""

    def floating_point_ops(self, inputs: Any) -> int:
        """Zero: the Trainer's count is for padded batches and would be wrong for trees."""
        return 0


def refuse_non_finite(loss: Tensor, ids: Sequence[str], step: int, remedy: str) -> None:
    """Raises NonFiniteLossError where the loss of a micro-batch is none.

    Args:
        loss: of the micro-batch.
        ids: of its examples.
        step: done before this one.
        remedy: what to change where the examples are sound, to stand after "and".
    """
    if bool(torch.isfinite(loss)):
        return
    raise NonFiniteLossError(
        f"the loss is {loss.item()} at step {step + 1}, in the micro-batch of the examples {', '.join(ids)}. "
        "The weights were not changed by this step. Look at these examples with `safetyvalve data check`, and "
        f"{remedy} if they are sound.",
        example_ids=tuple(ids),
    )
