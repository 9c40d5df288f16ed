"""Dense weights in eight bits: half the bytes of bfloat16 to read for every token. In plain torch; the kernels are held
to this file.

Thirty-two consecutive values of a row share one scale, so that the largest of them becomes 127 of it. (Q8_0 of
llama.cpp is the same with scales in float16; Dettmers et al., "8-bit Optimizers via Block-wise Quantization", arXiv
2110.02861, section 2.1, on why blocks.)
"""

from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 32
"""Values that share one scale."""

_LARGEST = 127
_ROWS = 4096  # that are encoded together, for the sake of memory


@dataclass(frozen=True)
class Int8:
    """A matrix [rows, columns].

    values: int8 [rows, columns]. scales: bfloat16 [rows, columns / 32].
    """

    values: Tensor
    scales: Tensor

    def __post_init__(self) -> None:
        if self.values.dtype != torch.int8 or self.scales.dtype != torch.bfloat16:
            raise TypeError(
                f"expected int8 values and bfloat16 scales, got {self.values.dtype} and {self.scales.dtype}"
            )
        rows, columns = self.values.shape
        if self.scales.shape != (rows, columns // BLOCK) or columns % BLOCK:
            raise ValueError(
                f"scales of shape {tuple(self.scales.shape)} do not fit values of shape {tuple(self.values.shape)}: "
                f"there is one for every {BLOCK} values of a row"
            )

    @property
    def shape(self) -> torch.Size:
        return self.values.shape


def decode(packed: Int8) -> Tensor:
    """The values that are meant, float32 [rows, columns]."""
    return (packed.values.float().unflatten(-1, (-1, BLOCK)) * packed.scales.float().unsqueeze(-1)).flatten(-2)


def encode(matrix: Tensor) -> Int8:
    """The nearest values at each block's scale. matrix: [rows, columns], any float type.

    Raises ValueError where columns are not a multiple of 32, or a value is not finite.
    """
    if matrix.shape[-1] % BLOCK:
        raise ValueError(f"rows are packed in blocks of {BLOCK}; rows of {matrix.shape[-1]} do not divide into blocks")
    parts = [_encode(rows) for rows in matrix.detach().split(_ROWS)]
    values, scales = (torch.cat(kind) for kind in zip(*parts, strict=True))
    return Int8(values, scales)


def _encode(rows: Tensor) -> tuple[Tensor, Tensor]:
    blocks = rows.float().unflatten(-1, (-1, BLOCK))
    largest = blocks.abs().amax(-1)
    if not torch.isfinite(largest).all():
        raise ValueError("int8 holds finite values only; the matrix to encode has an infinity or a NaN")
    scales = (largest / _LARGEST).bfloat16()
    steps = torch.where(scales == 0, 1, scales).float().unsqueeze(-1)
    # A scale that was rounded down makes 127.25 of the largest value at most, which is 127 again.
    return (blocks / steps).round().to(torch.int8).flatten(-2), scales
