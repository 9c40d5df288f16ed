"""The arithmetic of gpt-oss: one signature per operation, two engines behind it.

`torch_ops` is the readable definition: differentiable, on any device. `numba_ops` is the fast one, on CPUs. Both take
and give float32 tensors; weights stay in the type in which they are stored.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gptoss_lab.weights import LayerWeights

ENGINES = ("numba", "torch")


class Context(Protocol):
    """The keys and values that one layer's queries may look at, for every sequence of a batch.

    Position p of a sequence lies in its piece p // piece_length, slot p % piece_length. A piece is an array of float32;
    a layer's keys start `key_offset` elements into it, as [n_kv_heads, piece_length, d_head], its values
    `value_offset`.
    """

    start: int
    """Absolute position of the first query."""
    n_kv_heads: int
    piece_length: int
    key_offset: int
    value_offset: int

    @property
    def tables(self) -> NDArray[np.int64]:
        """Addresses of the pieces, [batch, n_pieces]; for CPU kernels."""
        ...

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Keys and values from position 0 to the last query, each [batch, k_pos, kv_head, d_head]."""
        ...


class Operations(Protocol):
    """What an engine offers. Leading axes are free unless said."""

    def rms_norm(self, x: Tensor, gain: Tensor, eps: float) -> Tensor:
        """x / sqrt(mean(x^2) + eps) * gain over the last axis (arXiv 1910.07467)."""
        ...

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """x [..., in] times weight [out, in], plus bias [out]."""
        ...

    def rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x [batch, pos, head, d_head] turned by cos, sin [pos, d_head / 2]: the halves of a head form the pairs."""
        ...

    def attention(self, q: Tensor, context: Context, sinks: Tensor, window: int | None) -> Tensor:
        """q [batch, pos, head, d_head] -> z of the same shape; causal, `window` positions back where given."""
        ...

    def expert_shares(
        self, x: Tensor, indices: Tensor, weights: Tensor, layer: LayerWeights, swiglu_limit: float
    ) -> Tensor:
        """x [tokens, d_model], indices and weights [tokens, k] -> [tokens, k, d_model], each share weighted."""
        ...


def operations(engine: str) -> Operations:
    """The operations of an engine, "numba" or "torch". Raises ValueError for any other."""
    if engine not in ENGINES:
        raise ValueError(f"there is no engine {engine!r}; choose one of {', '.join(map(repr, ENGINES))}")
    return cast(Operations, import_module(f"gptoss_lab.ops.{engine}_ops"))


__all__: Sequence[str] = ("ENGINES", "Context", "Operations", "operations")
