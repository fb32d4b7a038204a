"""Sequence classifiers: the form in which a reward model is kept, so that plain transformers loads it.

A decoder is read at the last token of a response, found by its place and never by its pad id; its head is one matrix
named ``score``. An encoder sees both directions, so that nothing of it can be shared between the responses of a prompt;
it pools and reads as its own class does.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor, nn
from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, MODEL_MAPPING, PreTrainedModel
from transformers.modeling_layers import GenericForSequenceClassification

from safetyvalve.errors import EngineError, ModelError
from safetyvalve.trees import (
    Engine,
    Quantity,
    Tree,
    body_of,
    check_length,
    pack_row,
    packed_hidden_states,
    underlying,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PretrainedConfig

__all__ = ["FEATURES", "Reading", "classifier_class", "from_causal", "is_decoder", "read_rewards"]


class Reading(NamedTuple):
    """What a classifier says of each response, over the trees in order."""

    features: Tensor
    """[response, hidden]: what the last layer is applied to."""
    rewards: Tensor
    """[response, output]."""


def classifier_class(config: PretrainedConfig) -> type[PreTrainedModel]:
    """The sequence classifier of an architecture: transformers' own, or for a decoder without one its generic form.

    Raises:
        ModelError: an encoder with a decoder, or an architecture that transformers has no body of.
    """
    if config.is_encoder_decoder:
        raise ModelError(
            f"{config.model_type} has an encoder and a decoder; a decoder or an encoder alone is accepted as reward "
            "model. Name a causal language model, or an encoder."
        )
    kind = type(config)
    if kind in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        return cast(type[PreTrainedModel], MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[kind])
    if kind not in MODEL_MAPPING:
        raise ModelError(f"transformers has no model of the type '{config.model_type}' to put a scalar head on.")
    body = MODEL_MAPPING[kind]
    base = next(c for c in body.__mro__[1:] if issubclass(c, PreTrainedModel))
    return type(f"{body.__name__}ForSequenceClassification", (GenericForSequenceClassification, base), {})


def from_causal(causal: PreTrainedModel, outputs: int) -> PreTrainedModel:
    """A classifier on the body of a causal language model, which is used up; its head is drawn by torch's generator."""
    config = causal.config  # the body holds this very object, and so must the whole
    config.num_labels = outputs
    made = classifier_class(config)
    with torch.device("meta"):
        model = made(config)
    if not hasattr(model, "score"):
        raise ModelError(
            f"{made.__name__} has no head named 'score' that is read at the last token; it is accepted as an encoder "
            "only, from files without a language-model head."
        )
    body = body_of(causal)
    setattr(model, model.base_model_prefix, body)
    hidden = config.get_text_config().hidden_size
    model.score = nn.Linear(hidden, outputs, bias=False)
    # Stiennon et al., arXiv 2009.01325: small enough that the first rewards are near zero.
    nn.init.normal_(model.score.weight, std=(hidden + 1) ** -0.5)
    model.score.to(body.device)
    return model.eval()


def is_decoder(model: PreTrainedModel) -> bool:
    """Whether the classifier is read at the last token."""
    return hasattr(underlying(model), "score")


def read_rewards(model: PreTrainedModel, trees: Sequence[Tree], engine: Engine) -> Reading:
    """Features and rewards of every response, with the graph.

    Args:
        model: a classifier, or one that PEFT wrapped.
        trees: prompts with their responses.
        engine: ``tree`` computes each prompt once; an encoder takes ``padded``.

    Raises:
        EngineError: ``tree`` is not available for the model.
        ModelError: a sequence so long that this model would compute its neighbours differently.
    """
    inner = underlying(model)
    if not is_decoder(inner):
        if engine == "tree":
            raise EngineError(
                f"{type(inner).__name__} is an encoder: each token sees the response after it, so that no prompt can "
                "be computed once for several. Use --engine auto or --engine padded."
            )
        return _encoder_reading(inner, trees)
    if engine == "tree":
        row = pack_row(trees, inner.device, shared=True)
        features = packed_hidden_states(inner, row, row.last)
    else:
        rows = _padded(inner, trees)
        states = body_of(inner)(input_ids=rows.ids, attention_mask=rows.mask, use_cache=False).last_hidden_state
        features = states[torch.arange(len(rows.last), device=rows.last.device), rows.last]
    # In bf16 a reward would have three digits, and the margin of two good answers fewer.
    with torch.autocast(features.device.type, enabled=False):
        features = features.to(next(inner.score.parameters()).dtype)
        return Reading(features, inner.score(features))


def _encoder_reading(model: PreTrainedModel, trees: Sequence[Tree]) -> Reading:
    rows = _padded(model, trees)
    seen: list[Tensor] = []
    with _input_of(_last_layer(model), seen):
        logits = model(input_ids=rows.ids, attention_mask=rows.mask).logits
    return Reading(seen[-1].reshape(len(logits), -1).float(), logits.float())


def _last_layer(model: PreTrainedModel) -> nn.Linear:
    """The matrix that gives the rewards: the last one with as many outputs."""
    found = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == model.config.num_labels]
    if not found:
        raise ModelError(f"{type(model).__name__} has no last layer with {model.config.num_labels} outputs.")
    return found[-1]


@contextmanager
def _input_of(layer: nn.Module, seen: list[Tensor]) -> Iterator[None]:
    handle = layer.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    try:
        yield
    finally:
        handle.remove()


class _Rows(NamedTuple):
    ids: Tensor
    mask: Tensor
    last: Tensor
    """int64 [row]: place of the last token."""


def _padded(model: PreTrainedModel, trees: Sequence[Tree]) -> _Rows:
    """One row a response, padded on the right."""
    rows = [[*tree.prompt_ids, *response] for tree in trees for response in tree.response_ids]
    lengths = torch.tensor([len(r) for r in rows])
    longest = int(lengths.max())
    check_length(model, longest)
    # Some encoders count positions from the pad id on.
    ids = torch.full((len(rows), longest), model.config.get_text_config().pad_token_id or 0)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
    mask = (torch.arange(longest)[None] < lengths[:, None]).long()
    return _Rows(ids.to(model.device), mask.to(model.device), (lengths - 1).to(model.device))


def _features(model: PreTrainedModel, trees: Sequence[Tree], engine: Engine) -> Tensor:
    features = read_rewards(model, trees, engine).features
    return features / features.square().mean(dim=1, keepdim=True).sqrt()  # each alone: they are compared one by one


FEATURES = Quantity(_features, "of a last state's root mean square", 1e-3)
"""What the two forwards are compared by: exact ones differ by 1e-5, a wrong mask by 0.1 or more."""
