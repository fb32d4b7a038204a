"""A reward model as a judge: a sequence classifier with one output, fed through its own chat template."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from safetensors import SafetensorError
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from safetyvalve.data.schema import Prompt
from safetyvalve.errors import ModelError, UsageError, shorten
from safetyvalve.judges.ensemble import EnsembleJudge
from safetyvalve.judges.protocol import Failure, Opinion, Question, now, opinion_of_scores
from safetyvalve.judges.scoring import check_margin, check_scores
from safetyvalve.lineage import weights_hash
from safetyvalve.models import load_tokenizer, resolve
from safetyvalve.rewards import Aggregation, load_reward
from safetyvalve.rewards.folder import reward_folder
from safetyvalve.stats.verdicts import RaterKind

__all__ = ["RewardJudge", "load_reward_judge"]


class RewardJudge:
    """Scores conversations; the higher reward wins.

    A conversation longer than the model's context is no verdict: cut text is not what was answered.

    Args:
        model: with one output.
        tokenizer: with a chat template.
        name: of the rater.
        margin: rewards that differ by this or less tie.
        batch_size: questions scored together, two conversations each.
    """

    kind: RaterKind = "reward"
    both_orders = False
    cacheable = True

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        name: str,
        *,
        margin: float = 0.0,
        batch_size: int = 4,
    ) -> None:
        if model.config.num_labels != 1:
            raise ModelError(
                f"model '{name}' has {model.config.num_labels} outputs; a reward model with one is accepted."
            )
        if not tokenizer.chat_template:
            raise ModelError(f"model '{name}' has no chat template; pass --chat-template FILE, as it was trained with.")
        if batch_size < 1:
            raise UsageError(f"--batch-size is {batch_size}; at least 1 is accepted.")
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name
        self.margin, self.batch_size = check_margin(margin), batch_size
        self.longest: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self._weights = weights_hash(model)

    @property
    def settings(self) -> Mapping[str, Any]:
        return {
            "judge": "reward",
            "model": self.name,
            "weights_sha256": self._weights,
            "dtype": str(self.model.dtype),
            "chat_template": self.tokenizer.chat_template,
            "margin": self.margin,
        }

    def opinions(self, questions: Sequence[Question]) -> Iterator[tuple[int, Opinion | Failure]]:
        """As the protocol says.

        Raises:
            ModelError: the chat template refuses a conversation.
            JudgeError: a reward is not finite.
        """
        ids = [[self._tokens(conversation) for conversation in question] for question in questions]
        fitting = []
        for index, both in enumerate(ids):
            longest = max(map(len, both))
            if self.longest is not None and longest > self.longest:
                yield index, self._too_long(longest)
            else:
                fitting.append(index)
        fitting.sort(key=lambda i: max(map(len, ids[i])))
        for start in range(0, len(fitting), self.batch_size):
            batch = fitting[start : start + self.batch_size]
            given = self._rewards([tokens for i in batch for tokens in ids[i]])
            texts = [c[-1].content for i in batch for c in questions[i]]
            scores = check_scores(given, texts, f"the reward model '{self.name}'")
            for place, index in enumerate(batch):
                yield index, opinion_of_scores(*scores[2 * place : 2 * place + 2], margin=self.margin, model=self.name)

    def _too_long(self, tokens: int) -> Opinion:
        return Opinion(
            choice="none", cause="longer than the context", model=self.name, time=now(), prompt_tokens=tokens
        )

    def _tokens(self, conversation: Prompt) -> list[int]:
        messages = [m.model_dump(mode="json") for m in conversation]
        try:
            text = self.tokenizer.apply_chat_template(messages, tokenize=False)
        except TemplateError as error:
            raise ModelError(
                f"the chat template of '{self.name}' refuses a conversation ({error}): {shorten(messages)}. Another "
                "template can be given with --chat-template."
            ) from None
        # The template writes the special tokens itself.
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    @torch.no_grad()
    def _rewards(self, rows: Sequence[Sequence[int]]) -> list[float]:
        pad = self.model.config.get_text_config().pad_token_id
        if pad is None:  # decoders find the last token of a row by it; alone a row needs none
            return [r for row in rows for r in self._forward(torch.tensor([list(row)]), torch.ones(1, len(row)))]
        longest = max(map(len, rows))
        ids = torch.full((len(rows), longest), int(pad))
        mask = torch.zeros(len(rows), longest)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(list(row))
            mask[i, : len(row)] = 1
        return self._forward(ids, mask)

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor) -> list[float]:
        device = self.model.device
        logits = self.model(input_ids=ids.to(device), attention_mask=mask.long().to(device)).logits
        return [float(x) for x in logits[:, 0].float().cpu()]


def load_reward_judge(
    name: str,
    *,
    chat_template: Path | None = None,
    margin: float = 0.0,
    batch_size: int = 4,
    trust_remote_code: bool = False,
    dtype: torch.dtype = torch.float32,
    aggregation: Aggregation | None = None,
) -> RewardJudge | EnsembleJudge:
    """Load a reward model by folder or hub name; weights in safetensors only.

    One that safetyvalve trained, an ensemble too, is read by the shared-prefix engine; others by their own forward.

    Raises:
        ModelError: it cannot be loaded, or its head is not in the files and would be random.
        UsageError: an aggregation for a model that is no ensemble of ours.
    """
    if reward_folder(name) is not None:
        model = load_reward(name, chat_template=chat_template, trust_remote_code=trust_remote_code).to(dtype)
        return EnsembleJudge(model, _label(name), margin=margin, aggregation=aggregation)
    if aggregation is not None:
        raise UsageError(
            f"--aggregation is for reward models of `safetyvalve reward train`, and '{name}' is another one, with a "
            "single reward. Leave it out."
        )
    place = resolve(name)
    tokenizer = load_tokenizer(name, chat_template=chat_template, trust_remote_code=trust_remote_code)
    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            place, dtype=dtype, use_safetensors=True, trust_remote_code=trust_remote_code, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"reward model '{name}' cannot be loaded: {shorten(first, 200)} A folder or hub name of a sequence "
            "classifier with safetensors is accepted."
        ) from error
    if missing := sorted(info["missing_keys"]):
        raise ModelError(
            f"model '{name}' lacks {len(missing)} weights ({', '.join(missing[:3])}), which would be random: it is no "
            "trained reward model. Name one that was saved with its scalar head."
        )
    return RewardJudge(model, tokenizer, _label(name), margin=margin, batch_size=batch_size)


def _label(name: str) -> str:
    """A rater's name: the folder's, of a run's model/ the run's; else as it was given."""
    place = Path(name)
    if not place.is_dir():
        return name
    return place.resolve().parent.name if place.name == "model" else place.name
