"""Architectures, each as a tiny random configuration with what could go wrong in it switched on."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import transformers as T  # noqa: N812
from transformers import PreTrainedModel

__all__ = ["COMMON", "HELD", "REFUSED", "VOCABULARY", "Family"]

VOCABULARY = 260

COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 257,
    "bos_token_id": 256,
    "eos_token_id": 257,
}
_FOUR = COMMON | {"num_hidden_layers": 4}
_ALL_HEADS = {k: v for k, v in COMMON.items() if k != "num_key_value_heads"}
_ENDS = {"bos_token_id": 256, "eos_token_id": 257}
_GPT = {"vocab_size": VOCABULARY, "n_positions": 512, "n_embd": 32, "n_layer": 3, "n_head": 4, **_ENDS}
_MIX = {"num_experts_per_tok": 2}
_MIX_QWEN = _MIX | {"num_experts": 4, "moe_intermediate_size": 16}
_OPT = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
    "max_position_embeddings": 512, "pad_token_id": 257, **_ENDS,
}  # fmt: skip
_LATENT = {
    "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "v_head_dim": 12, "n_routed_experts": 8, "n_group": 2, "topk_group": 1, "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
}  # fmt: skip
_DELTA = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "shared_expert_intermediate_size": 16,
}  # fmt: skip
_LLAMA4 = {
    "head_dim": 8, "intermediate_size_mlp": 64, "num_local_experts": 4, "attention_chunk_size": 8,
    "no_rope_layers": [1, 0, 1, 0],
}  # fmt: skip
_FALCON = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, **_ENDS}


class Family(NamedTuple):
    """An architecture by its name in transformers, and how to build a tiny one."""

    name: str
    features: str
    """What of it bears on the forward. Windows are of 8 tokens, shorter than the tests' prompts and responses."""
    build: Callable[[], PreTrainedModel]
    experts: bool = False


HELD = [
    Family("llama", "grouped heads", lambda: T.LlamaForCausalLM(T.LlamaConfig(**COMMON))),
    Family("qwen2", "biases", lambda: T.Qwen2ForCausalLM(T.Qwen2Config(**COMMON))),
    Family("gpt2", "learned positions", lambda: T.GPT2LMHeadModel(T.GPT2Config(**_GPT))),
    Family(
        "gemma2",
        "sliding and full layers, both soft caps",
        lambda: T.Gemma2ForCausalLM(T.Gemma2Config(**COMMON, head_dim=8, sliding_window=8)),
    ),
    Family("qwen3", "normed queries and keys", lambda: T.Qwen3ForCausalLM(T.Qwen3Config(**COMMON, head_dim=8))),
    Family(
        "qwen3, windows",
        "full layers below, sliding above",
        lambda: T.Qwen3ForCausalLM(
            T.Qwen3Config(**_FOUR, head_dim=8, use_sliding_window=True, sliding_window=8, max_window_layers=2)
        ),
    ),
    Family(
        "gemma3_text",
        "sliding and full layers with rotations of their own",
        lambda: T.Gemma3ForCausalLM(
            T.Gemma3TextConfig(
                **_FOUR,
                head_dim=8,
                query_pre_attn_scalar=8,
                sliding_window=8,
                layer_types=["sliding_attention", "full_attention"] * 2,
            )
        ),
    ),
    Family("mistral", "sliding window", lambda: T.MistralForCausalLM(T.MistralConfig(**COMMON, sliding_window=8))),
    Family(
        "phi3", "fused projections, sliding window", lambda: T.Phi3ForCausalLM(T.Phi3Config(**COMMON, sliding_window=8))
    ),
    Family("phi", "partial rotation, biased head", lambda: T.PhiForCausalLM(T.PhiConfig(**COMMON))),
    Family("opt", "learned positions with an offset", lambda: T.OPTForCausalLM(T.OPTConfig(**_OPT))),
    Family(
        "opt, projected",
        "embeddings narrower than the model (OPT-350m)",
        lambda: T.OPTForCausalLM(T.OPTConfig(**_OPT, word_embed_proj_dim=16, do_layer_norm_before=False)),
    ),
    Family(
        "gpt_neox", "parallel residual, partial rotation", lambda: T.GPTNeoXForCausalLM(T.GPTNeoXConfig(**_ALL_HEADS))
    ),
    Family("gpt_bigcode", "one key head", lambda: T.GPTBigCodeForCausalLM(T.GPTBigCodeConfig(**_GPT))),
    Family(
        "starcoder2",
        "sliding window",
        lambda: T.Starcoder2ForCausalLM(T.Starcoder2Config(**COMMON, sliding_window=8)),
    ),
    Family("olmo2", "norms after the layers", lambda: T.Olmo2ForCausalLM(T.Olmo2Config(**COMMON))),
    Family("stablelm", "partial rotation", lambda: T.StableLmForCausalLM(T.StableLmConfig(**COMMON))),
    Family("cohere", "parallel blocks, scaled logits", lambda: T.CohereForCausalLM(T.CohereConfig(**COMMON))),
    Family(
        "granite",
        "multipliers on attention, residual and logits",
        lambda: T.GraniteForCausalLM(
            T.GraniteConfig(**COMMON, logits_scaling=3.0, attention_multiplier=0.3, residual_multiplier=0.7)
        ),
    ),
    Family(
        "smollm3",
        "layers without positions",
        lambda: T.SmolLM3ForCausalLM(T.SmolLM3Config(**_FOUR, no_rope_layers=[1, 0, 1, 0])),
    ),
    Family(
        "exaone4",
        "sliding and full layers; the window stands on both",
        lambda: T.Exaone4ForCausalLM(T.Exaone4Config(**_FOUR, head_dim=8, sliding_window=8, sliding_window_pattern=2)),
    ),
    Family(
        "mixtral",
        "experts",
        lambda: T.MixtralForCausalLM(T.MixtralConfig(**COMMON, **_MIX, num_local_experts=4)),
        experts=True,
    ),
    Family(
        "qwen3_moe",
        "experts",
        lambda: T.Qwen3MoeForCausalLM(T.Qwen3MoeConfig(**COMMON, **_MIX_QWEN, head_dim=8)),
        experts=True,
    ),
    Family(
        "phimoe",
        "experts, sliding window that only the mask has",
        lambda: T.PhimoeForCausalLM(T.PhimoeConfig(**COMMON, **_MIX, num_local_experts=4, sliding_window=8)),
        experts=True,
    ),
    Family(
        "gpt_oss",
        "experts, attention sinks, sliding and full layers",
        lambda: T.GptOssForCausalLM(
            T.GptOssConfig(
                **_FOUR,
                **_MIX,
                head_dim=8,
                sliding_window=8,
                num_local_experts=4,
                rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            )
        ),
        experts=True,
    ),
    Family(
        "deepseek_v3",
        "experts in groups, latent attention (values of another width)",
        lambda: T.DeepseekV3ForCausalLM(T.DeepseekV3Config(**(COMMON | _MIX | _LATENT))),
        experts=True,
    ),
    Family(
        "llama4_text",
        "experts, attention in chunks of 8, layers without positions",
        lambda: T.Llama4ForCausalLM(T.Llama4TextConfig(**_FOUR, **_LLAMA4, attn_temperature_tuning=False)),
        experts=True,
    ),
]
"""The shared-prefix forward equals the plain one."""

REFUSED = [
    Family(
        "bloom",
        "linear position biases (ALiBi)",
        lambda: T.BloomForCausalLM(T.BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4, **_ENDS)),
    ),
    Family(
        "mpt",
        "linear position biases (ALiBi)",
        lambda: T.MptForCausalLM(T.MptConfig(vocab_size=VOCABULARY, d_model=32, n_heads=4, n_layers=2, **_ENDS)),
    ),
    Family("falcon", "an attention of its own", lambda: T.FalconForCausalLM(T.FalconConfig(**_FALCON))),
    Family(
        "gptj",
        "an attention of its own",
        lambda: T.GPTJForCausalLM(T.GPTJConfig(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, rotary_dim=8)),
    ),
    Family(
        "gpt_neo",
        "an attention of its own",
        lambda: T.GPTNeoForCausalLM(
            T.GPTNeoConfig(
                vocab_size=VOCABULARY,
                hidden_size=32,
                num_layers=2,
                num_heads=4,
                attention_types=[[["global", "local"], 1]],
                window_size=8,
                **_ENDS,
            )
        ),
    ),
    Family(
        "llama4_text, tempered",
        "attention scaled by the place in the row",
        lambda: T.Llama4ForCausalLM(T.Llama4TextConfig(**_FOUR, **_LLAMA4)),
    ),
    Family(
        "mamba",
        "state space",
        lambda: T.MambaForCausalLM(
            T.MambaConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, state_size=8)
        ),
    ),
    Family(
        "jamba",
        "state space and attention, experts",
        lambda: T.JambaForCausalLM(
            T.JambaConfig(
                **_FOUR, attn_layer_period=2, attn_layer_offset=1, mamba_d_state=8, mamba_dt_rank=4, num_experts=2
            )
        ),
    ),
    Family(
        "qwen3_next",
        "gated delta rule and attention, experts",
        lambda: T.Qwen3NextForCausalLM(T.Qwen3NextConfig(**_FOUR, **_MIX_QWEN, **_DELTA, head_dim=8)),
    ),
    Family(
        "lfm2",
        "short convolutions and attention",
        lambda: T.Lfm2ForCausalLM(T.Lfm2Config(**_FOUR, layer_types=["conv", "full_attention"] * 2)),
    ),
    Family(
        "rwkv",
        "recurrent",
        lambda: T.RwkvForCausalLM(T.RwkvConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2)),
    ),
]
"""They go through the plain forward, with the reason said."""
