"""Which models have layers of the plain form, and a forward in which :mod:`safetyvalve.trees.layer` computes them.

Everything around the layers stays the model's own: embeddings, rotary angles, masks, the last norm. So does every
layer that is anything else than it came from transformers: with an adapter, a hook, another activation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from safetyvalve.trees.copies import copy_of, kept_copies
from safetyvalve.trees.kernel import Grouping, arithmetic_dtype
from safetyvalve.trees.layer import Matrices, Plan, decode
from safetyvalve.trees.products import operand
from safetyvalve.trees.recompute import is_recomputed
from safetyvalve.trees.tiles import Tiling

__all__ = ["own_layers", "plain_layers", "written_out_layers"]

_PLAIN = {("llama", "Llama"), ("mistral", "Mistral"), ("qwen2", "Qwen2")}
"""Modules of transformers and how their classes begin, whose layers are of this form."""

_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")


_own: ContextVar[bool] = ContextVar("safetyvalve_own_layers", default=False)


@contextmanager
def own_layers() -> Iterator[None]:
    """Within it every model computes its own layers, as one with an adapter does: the two round differently."""
    token = _own.set(True)
    try:
        yield
    finally:
        _own.reset(token)


def plain_layers(body: PreTrainedModel) -> list[nn.Module]:
    """The decoder layers of a model without its head, if all of them are of the plain form and on a CPU; else none."""
    layers = [] if _own.get() else list(getattr(body, "layers", ()))
    names = {f"transformers.models.{kind}.modeling_{kind}": begin for kind, begin in _PLAIN}
    begin = names.get(type(body).__module__)
    if not layers or begin is None or type(body).__name__ != f"{begin}Model" or body.device.type != "cpu":
        return []
    return layers if all(_is_plain(layer, begin) for layer in layers) else []


def _is_plain(layer: Any, begin: str) -> bool:
    parts: list[tuple[Any, str]] = [
        (layer, f"{begin}DecoderLayer"),
        (layer.self_attn, f"{begin}Attention"),
        (layer.mlp, f"{begin}MLP"),
        (layer.input_layernorm, f"{begin}RMSNorm"),
        (layer.post_attention_layernorm, f"{begin}RMSNorm"),
        (layer.mlp.act_fn, "SiLUActivation"),
        *((getattr(layer.self_attn, name), "Linear") for name in _PROJECTIONS),
        *((getattr(layer.mlp, name), "Linear") for name in ("gate_proj", "up_proj", "down_proj")),
    ]
    known = {id(module) for module, _ in parts}
    if any(type(module).__name__ != name or _is_watched(module) for module, name in parts):
        return False
    if any(id(module) not in known for module in layer.modules()):
        return False
    return _has_plain_parameters(layer)


def _is_watched(module: nn.Module) -> bool:
    """Somebody looks at what goes through it, or computes it in another way."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks) or ("forward" in vars(module) and not is_recomputed(module))


def _has_plain_parameters(layer: Any) -> bool:
    attention, mlp = layer.self_attn, layer.mlp
    projections = [attention.q_proj, attention.k_proj, attention.v_proj]
    biased = [p.bias is not None for p in projections]
    others = [attention.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj]
    if len(set(biased)) != 1 or any(p.bias is not None for p in others):
        return False
    parameters = list(layer.parameters())
    trained = {p.requires_grad for p in parameters} == {True} or not torch.is_grad_enabled()
    dropout = layer.training and attention.attention_dropout > 0
    return trained and not dropout and {p.dtype for p in parameters} == {torch.float32}


@contextmanager
def written_out_layers(
    body: PreTrainedModel, tiles_of: Callable[[Any, torch.dtype], Tiling], at: Tensor | None
) -> Iterator[bool]:
    """Within it the layers of a plain model compute as :mod:`safetyvalve.trees.layer`; gives whether they do.

    Args:
        body: any model without its head.
        tiles_of: from a layer's mask and the type that is computed in to the tiles of its trees.
        at: the only tokens whose last hidden state is wanted, each once; None for all. What comes out of the model has
            these alone where the layers do compute so.
    """
    layers = plain_layers(body)
    dtype = arithmetic_dtype(torch.empty(0, dtype=body.dtype))
    if not layers or dtype not in (torch.float32, torch.bfloat16):
        yield False
        return
    before = {layer: vars(layer)["forward"] for layer in layers if "forward" in vars(layer)}
    for layer in layers:
        layer.forward = _forward_of(layer, dtype, tiles_of, at if layer is layers[-1] else None, layer in before)
    try:
        with kept_copies():
            yield True
    finally:
        for layer in layers:
            del layer.forward
            if layer in before:
                layer.forward = before[layer]


def _forward_of(
    layer: Any,
    dtype: torch.dtype,
    tiles_of: Callable[[Any, torch.dtype], Tiling],
    at: Tensor | None,
    recompute: bool,
) -> Callable[..., Tensor]:
    attention, mlp = layer.self_attn, layer.mlp
    config = attention.config

    def forward(hidden_states: Tensor, attention_mask: Any = None, position_embeddings: Any = None, **_: Any) -> Tensor:
        cos, sin = (angles[0, :, : attention.head_dim // 2].float() for angles in position_embeddings)
        plan = Plan(
            matrices=_matrices_of(layer, dtype),
            grouping=Grouping(
                config.num_attention_heads, config.num_key_value_heads, attention.head_dim, attention.scaling
            ),
            eps=(layer.input_layernorm.variance_epsilon, layer.post_attention_layernorm.variance_epsilon),
            tiles=tiles_of(attention_mask, dtype),
            cos=cos,
            sin=sin,
            at=at,
            recompute=recompute,
        )
        projections = [attention.q_proj, attention.k_proj, attention.v_proj]
        matrices = [*projections, attention.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj]
        norms = [layer.input_layernorm.weight, layer.post_attention_layernorm.weight]
        biases = [p.bias for p in projections if p.bias is not None]
        return decode(plan, hidden_states.squeeze(0), [*norms, *(m.weight for m in matrices), *biases])[None]

    return forward


def _matrices_of(layer: Any, dtype: torch.dtype) -> Matrices:
    attention, mlp = layer.self_attn, layer.mlp
    projections = [attention.q_proj, attention.k_proj, attention.v_proj]
    qkv = [p.weight for p in projections]
    gate_up = [mlp.gate_proj.weight, mlp.up_proj.weight]
    out, down = attention.o_proj.weight, mlp.down_proj.weight

    def made() -> Matrices:
        bias = None if projections[0].bias is None else torch.cat([p.bias.detach() for p in projections]).to(dtype)
        return Matrices(
            dtype, operand(qkv, dtype), bias, operand([out], dtype), operand(gate_up, dtype), operand([down], dtype)
        )

    return copy_of(layer, dtype, made)
