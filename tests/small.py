"""Small models for tests, in our form and in transformers'."""

from dataclasses import replace

import tiktoken
import torch
import transformers

from gptoss_lab import tokenizer
from gptoss_lab import weights as weights_module
from gptoss_lab.config import ModelConfig
from gptoss_lab.weights import Weights

SMALL = ModelConfig(
    n_layers=3,
    d_model=64,
    n_heads=4,
    n_kv_heads=2,
    d_head=32,
    d_vocab=101,
    n_experts=8,
    experts_per_token=2,
    d_mlp=64,
    sliding_window=8,
    n_ctx=1024,
    original_context=128,
    rope_factor=8.0,
)

SHAPES = {
    "top 2": SMALL,
    "top 4, YaRN's range at its bound": replace(
        SMALL, experts_per_token=4, n_layers=2, original_context=2**18, n_ctx=2**18
    ),
    "six heads, three to a key-value head": replace(SMALL, n_heads=6, n_kv_heads=2, d_head=16, n_layers=2),
    "odd heads, wide experts": replace(SMALL, n_heads=3, n_kv_heads=1, d_mlp=96, n_experts=5, d_model=96, n_layers=2),
}

BYTES = tiktoken.Encoding(
    "bytes",
    pat_str=r"[\s\S]",
    mergeable_ranks={bytes([byte]): byte for byte in range(256)},
    special_tokens={name: 256 + index for index, name in enumerate(tokenizer.HARMONY_CONTROL_TOKENS)},
)
"""A vocabulary of bytes and harmony's control tokens: 263 ids."""


def in_transformers(config: ModelConfig, weights: Weights) -> transformers.GptOssForCausalLM:
    """transformers' eager model in float32 with the same (unpacked) weights."""
    theirs = transformers.GptOssForCausalLM(
        transformers.GptOssConfig(**{**config.to_dict(), "attn_implementation": "eager", "quantization_config": None})
    )
    plain = weights_module.unpack(weights)
    state = {
        "model.embed_tokens.weight": plain.embedding,
        "model.norm.weight": plain.final_norm,
        "lm_head.weight": plain.unembedding,
    }
    for number, layer in enumerate(plain.layers):
        assert isinstance(layer.gate_up, torch.Tensor)
        assert isinstance(layer.down, torch.Tensor)
        names = {
            "input_layernorm.weight": layer.attn_norm,
            "post_attention_layernorm.weight": layer.mlp_norm,
            "self_attn.sinks": layer.sinks,
            "mlp.router.weight": layer.router,
            "mlp.router.bias": layer.router_bias,
            "mlp.experts.gate_up_proj": layer.gate_up.mT,
            "mlp.experts.gate_up_proj_bias": layer.gate_up_bias,
            "mlp.experts.down_proj": layer.down.mT,
            "mlp.experts.down_proj_bias": layer.down_bias,
        }
        for letter in "qkvo":
            names[f"self_attn.{letter}_proj.weight"] = getattr(layer, letter)
            names[f"self_attn.{letter}_proj.bias"] = getattr(layer, f"{letter}_bias")
        state |= {f"model.layers.{number}.{name}": tensor for name, tensor in names.items()}
    theirs.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=True)
    return theirs.float().eval()


def tokens(batch: int, length: int, config: ModelConfig = SMALL, seed: int = 0) -> torch.Tensor:
    """Random ids [batch, length]."""
    return torch.randint(config.d_vocab, (batch, length), generator=torch.Generator().manual_seed(seed))
