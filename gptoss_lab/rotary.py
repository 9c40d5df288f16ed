"""Rotary position embeddings with YaRN's extension of the context, as gpt-oss uses them.

RoFormer (arXiv 2104.09864) turns each pair of a head's dimensions by an angle that grows with the position; YaRN (arXiv
2309.00071, section 3.2, "NTK-by-parts") slows the turning of slow pairs by `rope_factor` and leaves that of fast
ones; its section 3.4 sharpens attention by a concentration on cosine and sine.
"""

import math

import torch
from torch import Tensor

from gptoss_lab.config import ModelConfig


def inverse_frequencies(config: ModelConfig) -> Tensor:
    """Radians a position by which each pair of dimensions turns, float32 [d_head / 2].

    The range over which pairs pass from unchanged to fully slowed is clamped to [0, d_head - 1], as transformers does
    it; OpenAI's reference refuses what falls outside.
    """
    exponents = torch.arange(0, config.d_head, 2, dtype=torch.float32) / config.d_head
    unchanged = 1.0 / config.rope_theta**exponents
    if config.rope_factor <= 1:
        return unchanged
    slowed = unchanged / config.rope_factor
    first = max(_pair_that_turns(config.rope_beta_fast, config), 0)
    last = min(_pair_that_turns(config.rope_beta_slow, config), config.d_head - 1)
    if config.rope_truncate:
        first, last = max(math.floor(first), 0), min(math.ceil(last), config.d_head - 1)
    width = last - first if last != first else 0.001
    ramp = ((torch.arange(config.d_head // 2, dtype=torch.float32) - first) / width).clamp(0, 1)
    return unchanged * (1 - ramp) + slowed * ramp


def concentration(config: ModelConfig) -> float:
    """The factor on cosine and sine (YaRN, section 3.4)."""
    return 1.0 if config.rope_factor <= 1 else 0.1 * math.log(config.rope_factor) + 1.0


class RotaryTable:
    """Cosines and sines by position, computed once and grown as longer contexts come."""

    def __init__(self, config: ModelConfig, device: torch.device):
        self._frequencies = inverse_frequencies(config)
        self._concentration = concentration(config)
        self._device = device
        self._cos = self._sin = torch.empty(0, config.d_head // 2)

    def at(self, positions: range) -> tuple[Tensor, Tensor]:
        """(cosine, sine), each float32 [pos, d_head / 2], concentration included."""
        if positions.stop > len(self._cos):
            self._grow(max(positions.stop, 2 * len(self._cos), 256))
        return self._cos[positions.start : positions.stop], self._sin[positions.start : positions.stop]

    def _grow(self, length: int) -> None:
        angles = torch.arange(length, dtype=torch.float32)[:, None] * self._frequencies
        # The cosine is replaced last, since `at` asks it for the length: a second thread must not see one without the
        # other.
        self._sin = (angles.sin() * self._concentration).to(self._device)
        self._cos = (angles.cos() * self._concentration).to(self._device)


def _pair_that_turns(times: float, config: ModelConfig) -> float:
    """The (fractional) pair of dimensions that turns so many times over the original context."""
    return config.d_head * math.log(config.original_context / (times * 2 * math.pi)) / (2 * math.log(config.rope_theta))
