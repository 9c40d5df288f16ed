"""What the machine can do at best: how fast it reads memory, and how fast it multiplies."""

import time
from collections.abc import Sequence

import numpy as np
import psutil
import torch

from gptoss_lab.ops import probes
from gptoss_lab.weights import Weights

ENOUGH = 4 << 30  # bytes: far more than any cache holds
_MULTIPLICATIONS = 10_000_000
_PATTERNS = (False, True, False, True)  # in order, and at several places at once; either may be the faster


def memory_to_read(weights: Weights) -> list[np.ndarray]:
    """At least 4 GiB: the model's own weights, in the kind of memory that they are in; or fresh memory where they are
    fewer, at most a quarter of what is free.
    """
    parts: list[np.ndarray] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        if sum(part.nbytes for part in parts) < ENOUGH:
            parts.append(tensor.reshape(-1).view(torch.uint8).numpy())
        return tensor

    weights.map(note)
    if sum(part.nbytes for part in parts) >= ENOUGH:
        return parts
    return [np.ones(min(ENOUGH, psutil.virtual_memory().available // 4), dtype=np.uint8)]


def read_gb_s(memory: Sequence[np.ndarray]) -> float:
    """GB/s (10^9 bytes), all threads together: the best of several readings."""
    return max(_read_once(memory, spread) for spread in _PATTERNS)


def fma_gflop_s() -> float:
    """Multiply-adds of float32 in registers, each two operations, all threads together: 10^9 operations a second, the
    best of several times.
    """
    return max(_multiply_once() for _ in range(5))


def _read_once(memory: Sequence[np.ndarray], spread: bool) -> float:
    started = time.perf_counter()
    with np.errstate(all="ignore"):  # packed weights make strange floats
        for part in memory:
            probes.read(part, spread)
    return sum(part.nbytes for part in memory) / (time.perf_counter() - started) / 1e9


def _multiply_once() -> float:
    started = time.perf_counter()
    operations = probes.multiply(_MULTIPLICATIONS)
    return operations / (time.perf_counter() - started) / 1e9
