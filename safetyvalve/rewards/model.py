"""A reward model: one scalar a response from each member, on the shared-prefix engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safetyvalve.errors import UsageError
from safetyvalve.rewards.classifier import FEATURES, Reading, is_decoder, read_rewards
from safetyvalve.rewards.scores import Scores
from safetyvalve.rewards.width import Width
from safetyvalve.trees import Engine, EngineChoice, Tree, choose_engine, underlying

if TYPE_CHECKING:
    from collections.abc import Callable

    from safetyvalve.data.schema import Prompt
    from safetyvalve.rewards.record import RewardRecord

__all__ = ["SHARINGS", "RewardModel", "Sharing"]

Sharing = Literal["heads", "lora", "separate"]
SHARINGS: dict[Sharing, str] = {
    "heads": "one trunk, a head a member",
    "lora": "one frozen base, an adapter and a head a member",
    "separate": "a whole model a member",
}
"""What members share."""


class RewardModel(nn.Module):
    """One member or an ensemble.

    Args:
        classifiers: sequence classifiers: one for ``heads`` (an output a member) and ``lora`` (wrapped by PEFT), one a
            member for ``separate``.
        tokenizer: of all of them.
        sharing: what members share.
        adapters: names of the members' adapters, for ``lora``.
        engine: the forward that was found exact; None compares the two on the first trees.
        widths: one for each classifier or adapter, or none.
        record: where it comes from; None for one made in Python.
    """

    def __init__(
        self,
        classifiers: Sequence[PreTrainedModel],
        tokenizer: PreTrainedTokenizerBase,
        *,
        sharing: Sharing = "heads",
        adapters: Sequence[str] = (),
        engine: Engine | None = None,
        widths: Sequence[Width] = (),
        record: RewardRecord | None = None,
    ) -> None:
        super().__init__()
        if not classifiers or (len(classifiers) > 1 and sharing != "separate"):
            raise UsageError(f"{len(classifiers)} classifiers with sharing '{sharing}'; only 'separate' has several.")
        if bool(adapters) != (sharing == "lora"):
            raise UsageError(f"{len(adapters)} adapters with sharing '{sharing}'; 'lora' has one a member.")
        self.classifiers = nn.ModuleList(classifiers)
        self.tokenizer, self.sharing, self.adapters = tokenizer, sharing, tuple(adapters)
        self.widths, self.record = tuple(widths), record
        self.choice = EngineChoice(engine, "as it was when it was trained") if engine else None
        self.eval()

    @property
    def parts(self) -> list[Any]:
        """The classifiers, typed as what they are."""
        return list(self.classifiers)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    @property
    def members(self) -> int:
        """How many rewards a response gets."""
        if self.adapters:
            return len(self.adapters)
        return sum(int(underlying(c).config.num_labels) for c in self.parts)

    @property
    def passes(self) -> int:
        """Forwards that :meth:`rewards` takes: 1 where the members are heads on one trunk."""
        return len(self.adapters) or len(self.classifiers)

    @property
    def max_length(self) -> int | None:
        """Most tokens of a prompt with a response; None where the model does not say."""
        longest: int | None = getattr(self._inner.config.get_text_config(), "max_position_embeddings", None)
        return longest

    @property
    def _inner(self) -> PreTrainedModel:
        return underlying(self.parts[0])

    def choose_engine(self, trees: Sequence[Tree], *, wanted: str = "auto") -> EngineChoice:
        """Compare the two forwards on ``trees``, and take the shared-prefix one where it is exact.

        Raises:
            EngineError: ``tree`` was wanted and is not exact, or the model is an encoder.
        """
        if wanted == "auto" and not is_decoder(self._inner):
            self.choice = EngineChoice("padded", "an encoder sees both directions, so that no prompt can be shared")
        else:
            self.choice = choose_engine(self._inner, trees, wanted=wanted, quantity=FEATURES)
        return self.choice

    def rewards(self, trees: Sequence[Tree]) -> Tensor:
        """[member, response], over the trees in order, differentiable with respect to the parameters.

        Raises:
            ModelError: a sequence so long that the model would compute its neighbours differently.
        """
        return torch.cat([self.read(index, trees).rewards.T for index in range(self.passes)])

    def read(self, index: int, trees: Sequence[Tree]) -> Reading:
        """One of the forwards that :meth:`rewards` consists of, with the features that its last layer is applied to."""
        engine = (self.choice or self.choose_engine(trees)).engine
        if not self.adapters:
            return read_rewards(self.parts[index], trees, engine)
        with self._active(self.adapters[index]):
            return read_rewards(self.parts[0], trees, engine)

    @contextmanager
    def _active(self, adapter: str) -> Iterator[None]:
        """PEFT freezes the adapters that it turns off; here they go on being trained in turn."""
        model = self.parts[0]
        trained = [(p, p.requires_grad) for p in model.parameters()]
        model.set_adapter(adapter)
        for parameter, wanted in trained:
            parameter.requires_grad_(wanted)
        yield

    def score(
        self,
        prompts: Sequence[Prompt],
        responses: Sequence[Sequence[str]],
        *,
        token_budget: int = 4096,
        autocast: torch.dtype | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> list[Scores]:
        """Rewards of texts, without gradient; the model's own tokenizer and template write them.

        Args:
            prompts: [prompt] turns before the response.
            responses: [prompt][response] answers.
            token_budget: tokens computed together.
            autocast: type to compute in; None takes the parameters' own.
            progress: told how many prompts were done since it was last told.

        Returns:
            One a prompt. A response with a special token as text, one longer than the context, and one with a reward
            that is not finite are unscored: NaN, with the reason.
        """
        from safetyvalve.rewards.scoring import score_texts

        return score_texts(self, prompts, responses, token_budget=token_budget, autocast=autocast, progress=progress)
