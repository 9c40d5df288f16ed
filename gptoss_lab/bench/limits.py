"""What the machine can do at best: how fast it reads memory, and how fast it multiplies."""

import time

import numpy as np
import psutil

from gptoss_lab.ops import probes

GIB = 1 << 30
_MULTIPLICATIONS = 1_000_000


def memory_to_read(n_bytes: int = 4 * GIB) -> np.ndarray:
    """An array far larger than any cache: 4 GiB, or a quarter of what is free where that is less."""
    return np.ones(min(n_bytes, psutil.virtual_memory().available // 4) // 4, dtype=np.float32)


def read_gb_s(memory: np.ndarray) -> float:
    """GB/s (10^9 bytes), all threads together: the better of two ways to read."""
    return max(_read_once(memory, spread) for spread in (False, True))


def fma_gflop_s() -> float:
    """Multiply-adds of float32 in registers, each two operations, all threads together: 10^9 operations a second."""
    started = time.perf_counter()
    operations = probes.multiply(_MULTIPLICATIONS)
    return operations / (time.perf_counter() - started) / 1e9


def _read_once(memory: np.ndarray, spread: bool) -> float:
    started = time.perf_counter()
    probes.read(memory, spread)
    return memory.nbytes / (time.perf_counter() - started) / 1e9
