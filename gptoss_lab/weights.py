"""What a gpt-oss model consists of: its tensors, by name.

Matrices are [out, in] and keep the type in which they are stored (bfloat16 or float32), so that they can stay on the
disk that they are mapped from. Experts are packed (`Mxfp4`) or plain. Vectors are float32.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from gptoss_lab import int8, mxfp4
from gptoss_lab.config import ModelConfig
from gptoss_lab.mxfp4 import Mxfp4


@dataclass(frozen=True)
class LayerWeights:
    """One layer: attention with sinks, then a mixture of experts."""

    attn_norm: Tensor  # [d_model]
    q: Tensor  # [n_heads * d_head, d_model]
    q_bias: Tensor
    k: Tensor  # [n_kv_heads * d_head, d_model]
    k_bias: Tensor
    v: Tensor  # [n_kv_heads * d_head, d_model]
    v_bias: Tensor
    o: Tensor  # [d_model, n_heads * d_head]
    o_bias: Tensor
    sinks: Tensor  # [n_heads], a logit each
    mlp_norm: Tensor  # [d_model]
    router: Tensor  # [n_experts, d_model]
    router_bias: Tensor
    gate_up: Mxfp4 | Tensor  # [n_experts, 2 * d_mlp, d_model], gate in the even rows, up in the odd ones
    gate_up_bias: Tensor  # [n_experts, 2 * d_mlp]
    down: Mxfp4 | Tensor  # [n_experts, d_model, d_mlp]
    down_bias: Tensor  # [n_experts, d_model]


@dataclass(frozen=True)
class Weights:
    """A whole model."""

    embedding: Tensor  # [d_vocab, d_model]
    layers: tuple[LayerWeights, ...]
    final_norm: Tensor  # [d_model]
    unembedding: Tensor  # [d_vocab, d_model]

    def to(self, device: torch.device | str) -> "Weights":
        """The same weights on another device; nothing is copied where they are there already."""
        return self.map(lambda tensor: tensor.to(device))

    def map(self, change: Callable[[Tensor], Tensor]) -> "Weights":
        """The weights with `change` applied to every plain tensor and to the two halves of every packed one."""

        def apply(value: Mxfp4 | Tensor) -> Any:  # of the kind that it was given
            if isinstance(value, Mxfp4):
                return Mxfp4(change(value.blocks), change(value.scales))
            return change(value)

        def apply_layer(layer: LayerWeights) -> LayerWeights:
            return LayerWeights(**{field.name: apply(getattr(layer, field.name)) for field in fields(layer)})

        return Weights(
            embedding=change(self.embedding),
            layers=tuple(apply_layer(layer) for layer in self.layers),
            final_norm=change(self.final_norm),
            unembedding=change(self.unembedding),
        )


def pack(weights: Weights) -> Weights:
    """The same weights with every layer's experts in MXFP4."""

    def packed(experts: Mxfp4 | Tensor) -> Mxfp4:
        return experts if isinstance(experts, Mxfp4) else mxfp4.encode(experts)

    return _with_experts(weights, packed)


def unpack(weights: Weights, dtype: torch.dtype = torch.float32) -> Weights:
    """The same weights with every layer's experts decoded: four to eight times the memory."""

    def plain(experts: Mxfp4 | Tensor) -> Tensor:
        return mxfp4.decode(experts, dtype) if isinstance(experts, Mxfp4) else experts

    return _with_experts(weights, plain)


def _with_experts(weights: Weights, change: Callable[[Mxfp4 | Tensor], Mxfp4 | Tensor]) -> Weights:
    layers = tuple(replace(layer, gate_up=change(layer.gate_up), down=change(layer.down)) for layer in weights.layers)
    return replace(weights, layers=layers)


def in_int8(weights: Weights) -> Weights:
    """The same weights with attention's projections and the unembedding in eight bits: for operations alone, which take
    an `Int8` where a tensor stands otherwise. Routers stay as they are, for their choices are sensitive.

    Raises ValueError where a width is not a multiple of 32.
    """
    layers = []
    for layer in tqdm(weights.layers, desc="dense weights to int8", unit="layer", delay=1):
        encoded: dict[str, Any] = {name: int8.encode(getattr(layer, name)) for name in ("q", "k", "v", "o")}
        layers.append(replace(layer, **encoded))
    unembedding: Any = int8.encode(weights.unembedding)
    return replace(weights, layers=tuple(layers), unembedding=unembedding)


def random(config: ModelConfig, seed: int = 0, *, packed: bool = True, dtype: torch.dtype = torch.bfloat16) -> Weights:
    """Random weights of a given shape, every bias, gain and sink nonzero: for tests and for training to start from.

    Matrices are scaled by 1 / sqrt(in), so that activations neither vanish nor explode; those whose output is added to
    the residual stream also by 1 / sqrt(2 * n_layers).
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, scale: float) -> Tensor:
        return torch.randn(shape, generator=generator) * scale

    def matrix(*shape: int, residual: bool = False) -> Tensor:
        scale = shape[-1] ** -0.5 * ((2 * config.n_layers) ** -0.5 if residual else 1.0)
        return normal(*shape, scale=scale).to(dtype)

    def experts(*shape: int, residual: bool = False) -> Mxfp4 | Tensor:
        plain = matrix(*shape, residual=residual)
        return mxfp4.encode(plain) if packed else plain

    def bias(*shape: int) -> Tensor:
        return normal(*shape, scale=0.1).to(dtype).float()

    def gain() -> Tensor:
        return (1 + normal(config.d_model, scale=0.1)).to(dtype).float()

    d_model, d_mlp, n_experts = config.d_model, config.d_mlp, config.n_experts
    d_query, d_key_value = config.n_heads * config.d_head, config.n_kv_heads * config.d_head

    def layer() -> LayerWeights:
        return LayerWeights(
            attn_norm=gain(),
            q=matrix(d_query, d_model),
            q_bias=bias(d_query),
            k=matrix(d_key_value, d_model),
            k_bias=bias(d_key_value),
            v=matrix(d_key_value, d_model),
            v_bias=bias(d_key_value),
            o=matrix(d_model, d_query, residual=True),
            o_bias=bias(d_model),
            sinks=normal(config.n_heads, scale=1.0).to(dtype).float(),
            mlp_norm=gain(),
            router=matrix(n_experts, d_model),
            router_bias=bias(n_experts),
            gate_up=experts(n_experts, 2 * d_mlp, d_model),
            gate_up_bias=bias(n_experts, 2 * d_mlp),
            down=experts(n_experts, d_model, d_mlp, residual=True),
            down_bias=bias(n_experts, d_model),
        )

    return Weights(
        embedding=normal(config.d_vocab, d_model, scale=1.0).to(dtype),
        layers=tuple(layer() for _ in range(config.n_layers)),
        final_norm=gain(),
        unembedding=matrix(config.d_vocab, d_model),
    )
