"""The arithmetic of gpt-oss: one signature per operation, two engines behind it.

`torch_ops` is the readable definition: differentiable, on any device. `numba_ops` is the fast one, on CPUs. Both take
and give float32 tensors; weights stay in the type in which they are stored.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Literal, Protocol, cast, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gptoss_lab.config import ModelConfig
from gptoss_lab.int8 import Int8
from gptoss_lab.weights import LayerWeights, Weights

ENGINES = ("numba", "torch")

Precision = Literal["float32", "bfloat16"]
"""What the inputs of matrix products are rounded to. Sums are kept in float32 all the same."""
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


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


class Layers(Protocol):
    """All layers of a model at once and the logits after them, for few tokens."""

    most: int
    """Tokens, of all sequences together, that may go this way."""
    points: Sequence[str]
    """The hook points of a layer where what passes can be seen."""

    def run(
        self,
        residual: Tensor,
        angles: tuple[Tensor, Tensor],
        context: Callable[[int], Context],
        wanted: Mapping[str, Sequence[int]],
        last_only: bool,
    ) -> tuple[Tensor, dict[tuple[str, int], Tensor]]:
        """Logits, [batch, pos, d_vocab] or [batch, 1, d_vocab] of the last position only, and what passed at the wanted
        points, by point and layer.

        residual: [batch, pos, d_model], what goes into the first layer. angles: cosine and sine, [pos, d_head / 2].
        context: that of a layer; its new keys and values are put there. wanted: points, and in which layers.
        """
        ...


class Operations(Protocol):
    """What an engine offers. Leading axes are free unless said."""

    def rms_norm(self, x: Tensor, gain: Tensor, eps: float) -> Tensor:
        """x / sqrt(mean(x^2) + eps) * gain over the last axis (arXiv 1910.07467)."""
        ...

    def linear(self, x: Tensor, weight: Tensor | Int8, bias: Tensor | None, precision: Precision = "float32") -> Tensor:
        """x [..., in] times weight [out, in], plus bias [out]. Few vectors need not be rounded."""
        ...

    def rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x [batch, pos, head, d_head] turned by cos, sin [pos, d_head / 2]: the halves of a head form the pairs."""
        ...

    def attention(self, q: Tensor, context: Context, sinks: Tensor, window: int | None) -> Tensor:
        """q [batch, pos, head, d_head] -> z of the same shape; causal, `window` positions back where given."""
        ...

    def expert_shares(
        self,
        x: Tensor,
        indices: Tensor,
        weights: Tensor,
        layer: LayerWeights,
        swiglu_limit: float,
        precision: Precision = "float32",
    ) -> Tensor:
        """x [tokens, d_model], indices and weights [tokens, k] -> [tokens, k, d_model], each share weighted."""
        ...

    def layers_at_once(self, config: ModelConfig, weights: Weights) -> Layers | None:
        """All layers of a model for few tokens, where an engine has a quick way."""
        ...


def operations(engine: str, precision: Precision = "float32") -> Operations:
    """The operations of an engine, "numba" or "torch". Raises ValueError for any other, and for a precision that the
    engine does not offer on this machine.
    """
    if engine not in ENGINES:
        raise ValueError(f"there is no engine {engine!r}; choose one of {', '.join(map(repr, ENGINES))}")
    if precision not in PRECISIONS:
        raise ValueError(f"there is no precision {precision!r}; choose one of {', '.join(map(repr, PRECISIONS))}")
    if engine == "numba" and precision == "bfloat16":
        from gptoss_lab.ops.target import BFLOAT16_DOTS, TARGET

        if not BFLOAT16_DOTS:
            raise ValueError(
                f"precision 'bfloat16' needs a CPU with AVX512_BF16, which {TARGET[1]!r} has not; "
                "choose precision='float32', which is as exact as the weights"
            )
    return cast(Operations, import_module(f"gptoss_lab.ops.{engine}_ops"))


__all__: Sequence[str] = ("ENGINES", "PRECISIONS", "Context", "Layers", "Operations", "Precision", "operations")
