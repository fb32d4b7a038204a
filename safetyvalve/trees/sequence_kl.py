"""How far a policy is from its reference on given responses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from safetyvalve.errors import UsageError
from safetyvalve.trees.forward import packed_hidden_states, underlying
from safetyvalve.trees.head import CHUNK, logits_function
from safetyvalve.trees.padded import padded_logits
from safetyvalve.trees.plan import Engine, PackedRow, Tree, pack_row

__all__ = ["Divergence", "sequence_kl"]


class Divergence(NamedTuple):
    """Policy against reference, [response] each, in nats."""

    kl: Tensor
    """Sum over positions of KL(policy(. | context) || reference(. | context))."""
    log_ratio: Tensor
    """log policy(response) - log reference(response)."""


@torch.no_grad()
def sequence_kl(
    policy: PreTrainedModel,
    reference: PreTrainedModel,
    trees: Sequence[Tree],
    *,
    engine: Engine = "tree",
    chunk: int = CHUNK,
    reference_mode: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Divergence:
    """KL between two policies along responses, with the expectation over each next token taken exactly.

    Averaged over responses sampled from the policy (temperature 1, nothing cut from the distribution) ``kl`` is an
    unbiased estimate of the KL between the sequence distributions, never negative, and of lower variance than the
    mean of ``log_ratio``, because each step's expectation is computed and not sampled. Responses cut at a length
    limit give the KL of the cut distributions.

    Args:
        policy, reference: models with one vocabulary. Call both in evaluation mode.
        trees: prompts with responses.
        engine: as :func:`safetyvalve.trees.response_logps`.
        chunk: positions whose two sets of logits exist at one time (``tree`` only).
        reference_mode: entered around every forward of the reference; where ``reference`` is the policy with an
            adapter, the wrapper's ``disable_adapter``.

    Raises:
        UsageError: the vocabularies differ in size.
    """
    if policy.config.get_text_config().vocab_size != reference.config.get_text_config().vocab_size:
        raise UsageError("policy and reference have vocabularies of different sizes; their KL is not defined.")
    policy, reference = underlying(policy), underlying(reference)
    row = pack_row(trees, policy.device, shared=engine == "tree", ends=engine != "tree")
    kl, ratio = [], []
    pieces = zip(
        _logits(policy, trees, row, engine, chunk, nullcontext),
        _logits(reference, trees, row, engine, chunk, reference_mode),
        row.target.split(chunk),
        strict=True,
    )
    for ours, theirs, target in pieces:
        log_p, log_q = ours.log_softmax(-1), theirs.log_softmax(-1)
        kl.append((log_p.exp() * (log_p - log_q)).sum(-1))
        ratio.append((log_p - log_q).gather(-1, target[:, None])[:, 0])

    def by_response(values: list[Tensor]) -> Tensor:
        flat = torch.cat(values).double()
        return flat.new_zeros(row.n_responses).index_add(0, row.owner, flat)

    return Divergence(by_response(kl), by_response(ratio))


def _logits(
    model: PreTrainedModel,
    trees: Sequence[Tree],
    row: PackedRow,
    engine: Engine,
    chunk: int,
    mode: Callable[[], AbstractContextManager[object]],
) -> Iterator[Tensor]:
    """Logits that predict each response token, ``chunk`` positions at a time.

    ``mode`` is left before each of them is given away: policy and reference may be one model, and take turns.
    """
    if engine == "padded":
        with mode():
            logits = padded_logits(model, trees)
        yield from logits.split(chunk)
        return
    head = logits_function(model)
    with mode():
        hidden = packed_hidden_states(model, row, row.predictor)
    for part in hidden.split(chunk):
        with mode():
            logits = head(part)
        yield logits
