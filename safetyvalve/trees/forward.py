"""Log-probabilities of every response of every tree: the prompt computed once, the head on response tokens only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from safetyvalve.errors import EngineError, UsageError
from safetyvalve.trees.attention import current_row, tiles_of_mask, tree_attention
from safetyvalve.trees.decoder import written_out_layers
from safetyvalve.trees.head import one_gradient, response_token_logps
from safetyvalve.trees.padded import padded_logps
from safetyvalve.trees.plan import Engine, PackedRow, Tree, pack_row
from safetyvalve.trees.support import check_length

__all__ = ["ResponseLogps", "body_of", "packed_hidden_states", "response_logps", "underlying"]


class ResponseLogps(NamedTuple):
    """Log-probabilities of the tokens of all responses, over the trees in order."""

    tokens: Tensor
    """[token], in nats."""
    owner: Tensor
    """int64 [token]: which response the token belongs to."""
    lengths: Tensor
    """int64 [response]: tokens of each response."""

    def sums(self) -> Tensor:
        """[response]: log-probability of each whole response, in nats. Summed in fp64, returned as given."""
        # Sums of hundreds of fp32 terms lose digits that the margin of two close responses needs.
        total = torch.zeros(len(self.lengths), dtype=torch.float64, device=self.tokens.device)
        return total.index_add(0, self.owner, self.tokens.double()).to(self.tokens.dtype)

    def split(self) -> list[Tensor]:
        """The tokens' log-probabilities of each response."""
        return list(self.tokens.split(self.lengths.tolist()))


def response_logps(
    model: PreTrainedModel, trees: Sequence[Tree], *, engine: Engine = "tree", chunk: int = 256
) -> ResponseLogps:
    """Log-probabilities of every response of every tree.

    Nothing is compared here: let :func:`safetyvalve.trees.choose_engine` say first that ``tree`` is exact for an
    architecture that you have not used before.

    Args:
        model: a causal language model of transformers, or one that PEFT wrapped for LoRA.
        trees: prompts with their responses; they share one row, so their token total bounds the memory.
        engine: ``tree`` computes each prompt once; ``padded`` is the model's own forward, one row a response.
        chunk: response positions whose logits exist at one time (``tree`` only).

    Returns:
        Per-token values, differentiable with respect to the model's parameters.

    Raises:
        EngineError: ``tree`` is not available for this model.
        ModelError: a sequence so long that this model would compute its neighbours differently.
        UsageError: a tree without tokens, or an unknown engine.
    """
    if engine not in ("tree", "padded"):
        raise UsageError(f"engine is '{engine}'; accepted here: tree, padded.")
    model = underlying(model)
    row = pack_row(trees, model.device, shared=engine == "tree", ends=engine != "tree")
    if engine == "padded":
        tokens = padded_logps(model, trees)
    else:
        with one_gradient(model) as waiting:
            hidden = packed_hidden_states(model, row, row.predictor)
        tokens = response_token_logps(model, hidden, row.target, chunk=chunk, waiting=waiting)
    return ResponseLogps(tokens, row.owner, torch.bincount(row.owner, minlength=row.n_responses))


def underlying(model: PreTrainedModel) -> PreTrainedModel:
    """The model inside a PEFT wrapper, whose layers hold the adapter; other models as they are.

    Raises:
        EngineError: the wrapper's method is not in the layers, as with prompt tuning.
    """
    if not hasattr(model, "get_base_model"):
        return model
    if model.active_peft_config.is_prompt_learning:
        raise EngineError(
            f"{type(model).__name__} adapts by {model.active_peft_config.peft_type.value}, outside the model's layers; "
            "adapters within the layers, such as LoRA, are accepted."
        )
    inner: PreTrainedModel = model.get_base_model()
    return inner


def body_of(model: PreTrainedModel) -> PreTrainedModel:
    """The layers of a model without its head."""
    # Llama 4 keeps its inner model under another name than its class says, so that it is its own base.
    body: PreTrainedModel = model.model if model.base_model is model else model.base_model
    return body


def packed_hidden_states(model: PreTrainedModel, row: PackedRow, at: Tensor | None = None) -> Tensor:
    """[token, hidden]: the model's last hidden states over a packed row.

    Args:
        model: a causal language model or a classifier on one.
        row: its trees.
        at: int64, indices in the row in any order, also repeated: whose states are wanted; None for all. The last layer
            of models of the plain form then computes no others, as far as it can.
    """
    check_length(model, row.longest)
    ids = row.input_ids[None]
    body = body_of(model)
    wanted, place = (None, None) if at is None else at.unique(return_inverse=True)
    with tree_attention(model), current_row(row), written_out_layers(body, tiles_of_mask, wanted) as written_out:
        # Without a mask transformers would take the restarting positions for packed sequences of its own kind.
        output = body(
            input_ids=ids, position_ids=row.position_ids[None], attention_mask=torch.ones_like(ids), use_cache=False
        )
    hidden: Tensor = output.last_hidden_state[0]
    if at is None:
        return hidden
    return hidden[place if written_out else at]
