"""What a token costs: bytes that must be read for it, and floating-point operations."""

from typing import Any, NamedTuple

from torch import Tensor

from gptoss_lab.config import ModelConfig
from gptoss_lab.weights import LayerWeights, Weights


class Bytes(NamedTuple):
    """What one decoded token reads of the weights. Its own row of the embedding is next to nothing, and left out."""

    dense: int  # attention and routers
    experts: int  # those that are chosen
    unembedding: int

    @property
    def layers(self) -> int:
        return self.dense + self.experts

    @property
    def total(self) -> int:
        return self.layers + self.unembedding


def bytes_of_token(config: ModelConfig, weights: Weights) -> Bytes:
    """Each layer's attention and router, the experts that a token chooses, and the unembedding, as they are stored."""
    dense = sum(_dense_bytes(layer) for layer in weights.layers)
    experts = experts_bytes(weights) * config.experts_per_token // config.n_experts
    return Bytes(dense, experts, stored_bytes(weights.unembedding))


def experts_bytes(weights: Weights) -> int:
    """All experts of all layers, as they are stored."""
    return sum(stored_bytes(layer.gate_up) + stored_bytes(layer.down) for layer in weights.layers)


def stored_bytes(matrix: Any) -> int:
    """Bytes of a matrix as it is held, plain or packed."""
    if isinstance(matrix, Tensor):
        return matrix.nbytes
    return sum(part.nbytes for part in vars(matrix).values() if isinstance(part, Tensor))


def prefill_operations(config: ModelConfig, n_tokens: int) -> int:
    """Multiplications and additions of a prompt whose last logits alone are wanted."""
    heads = config.n_heads * config.d_head
    attention = config.d_model * (2 * heads + 2 * config.n_kv_heads * config.d_head)
    experts = config.experts_per_token * 3 * config.d_mlp * config.d_model
    a_token = config.n_layers * (attention + config.n_experts * config.d_model + experts)
    looks = sum(_looks(config.window(layer), n_tokens) for layer in range(config.n_layers))
    return 2 * (n_tokens * a_token + 2 * heads * looks + config.d_vocab * config.d_model)


def _dense_bytes(layer: LayerWeights) -> int:
    return sum(map(stored_bytes, (layer.q, layer.k, layer.v, layer.o, layer.router)))


def _looks(window: int | None, n_tokens: int) -> int:
    """Pairs of a query and a key that it may see."""
    seen = min(window or n_tokens, n_tokens)
    return seen * (seen + 1) // 2 + (n_tokens - seen) * seen
