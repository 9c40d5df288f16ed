"""MXFP4, the number format of gpt-oss's experts: its definition, in plain torch.

Thirty-two consecutive values of a row share one power-of-two scale. Each value is one of sixteen (E2M1: a sign, two
bits of exponent, one of mantissa); two stand in a byte, the first in the low nibble; the scale is a byte s that means
2^(s - 127) (E8M0). The kernels are held to this file.

Source: OCP Microscaling Formats (MX) Specification v1.0, sections 5.3.3 (FP4) and 5.4.1 (E8M0).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

BLOCK = 32
"""Values that share one scale."""

E2M1_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
"""What each of the sixteen codes stands for."""

SCALE_BIAS = 127
_LARGEST_EXPONENT = 2  # 6.0 = 1.5 * 2^2 is the largest code


@dataclass(frozen=True)
class Mxfp4:
    """A packed array of shape [..., rows, columns].

    blocks: uint8 [..., rows, columns / 32, 16], two values to a byte, the earlier one in the low nibble.
    scales: uint8 [..., rows, columns / 32], 2^(scale - 127).
    """

    blocks: Tensor
    scales: Tensor

    def __post_init__(self) -> None:
        if self.blocks.dtype != torch.uint8 or self.scales.dtype != torch.uint8:
            raise TypeError(f"MXFP4 wants uint8 blocks and scales, got {self.blocks.dtype} and {self.scales.dtype}")
        if self.blocks.shape != (*self.scales.shape, BLOCK // 2):
            raise ValueError(
                f"MXFP4 blocks of shape {tuple(self.blocks.shape)} do not fit scales of shape "
                f"{tuple(self.scales.shape)}: expected {(*self.scales.shape, BLOCK // 2)}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of what is packed."""
        return (*self.scales.shape[:-1], self.scales.shape[-1] * BLOCK)

    def __getitem__(self, index: int | Tensor) -> "Mxfp4":
        """One or several of the first axis, still packed (an expert, of [expert, row, column])."""
        return Mxfp4(self.blocks[index], self.scales[index])

    def to(self, device: torch.device | str) -> "Mxfp4":
        return Mxfp4(self.blocks.to(device), self.scales.to(device))


def decode(packed: Mxfp4, dtype: torch.dtype = torch.float32) -> Tensor:
    """The values of `packed`, of shape [..., rows, columns]; exact in float32 and in bfloat16."""
    device = packed.blocks.device
    values = torch.tensor(E2M1_VALUES, dtype=dtype, device=device)
    byte = torch.arange(256, device=device)
    pairs = values[torch.stack((byte & 0x0F, byte >> 4), dim=-1)]  # what each byte stands for, [256, 2]
    unscaled = functional.embedding(packed.blocks.int(), pairs).flatten(-2)  # [..., block, 32]
    exponents = packed.scales.int() - SCALE_BIAS
    scales = torch.ldexp(torch.ones_like(exponents, dtype=torch.float32), exponents).to(dtype)
    return (unscaled * scales.unsqueeze(-1)).flatten(-2)


def encode(values: Tensor) -> Mxfp4:
    """The nearest packed array: of the two scales that suit a block, the one with the smaller squared error.

    values: [..., rows, columns], any float type. What `decode` gives comes back unchanged.
    Raises ValueError where columns are not a multiple of 32, or a value is not finite.
    """
    if values.shape[-1] % BLOCK:
        raise ValueError(f"MXFP4 packs rows in blocks of {BLOCK}; rows of {values.shape[-1]} do not divide into blocks")
    blocks = values.detach().float().unflatten(-1, (-1, BLOCK))
    if not torch.isfinite(blocks).all():
        raise ValueError("MXFP4 holds finite values only; the array to encode has an infinity or a NaN")
    largest = blocks.abs().amax(-1, keepdim=True)
    # The specification's scale saturates what rounds above 6; twice that scale holds it, and loses a bit below.
    tight = torch.frexp(largest).exponent - 1 - _LARGEST_EXPONENT
    candidates = [_encode_at(blocks, (tight + wider).clamp(-SCALE_BIAS, SCALE_BIAS)) for wider in (0, 1)]
    (codes, exponents, error), (wide_codes, wide_exponents, wide_error) = candidates
    better = wide_error < error
    codes = torch.where(better, wide_codes, codes)
    exponents = torch.where(better, wide_exponents, exponents)
    low, high = codes.unflatten(-1, (-1, 2)).unbind(-1)
    return Mxfp4(low | high << 4, (exponents.squeeze(-1) + SCALE_BIAS).to(torch.uint8))


def _encode_at(blocks: Tensor, exponents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, exponents and each block's squared error at the given scales; ties go to the even mantissa."""
    scaled = torch.ldexp(blocks, -exponents)
    # Midpoints between neighbours; a tie belongs to the lower neighbour, except where the upper one is even.
    below = torch.tensor(-torch.inf)
    midpoints = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])
    upper_is_even = torch.tensor([False, True, False, True, False, True, False])
    midpoints = torch.where(upper_is_even, torch.nextafter(midpoints, below), midpoints).to(blocks.device)
    magnitude = torch.bucketize(scaled.abs(), midpoints)
    codes = (magnitude + 8 * (scaled < 0)).to(torch.uint8)
    table = torch.tensor(E2M1_VALUES, device=blocks.device)
    restored = torch.ldexp(table[codes.int()], exponents)
    return codes, exponents, (restored - blocks).square().sum(-1, keepdim=True)
