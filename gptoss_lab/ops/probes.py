"""What this machine can do at best: bytes read and floats multiplied a second, by kernels that do nothing else."""

from typing import NamedTuple

import numpy as np

from gptoss_lab.ops.compile import Kernel, job_reader
from gptoss_lab.ops.sharing import most_shares
from gptoss_lab.ops.simd import add_outer, load_tile, splat_tile, store_sums, zeros
from gptoss_lab.ops.target import INSTRUCTION_SET, LANES
from gptoss_lab.ops.threads import launch, threads

VECTOR = 4 * LANES
_LOADS = 8  # vectors that are on their way together
_ROWS = 12 if INSTRUCTION_SET == "avx512" else 6  # as in `panel_kernels`: rows times two columns fill the registers
_SUMS = 2 * _ROWS
_ENOUGH = 1 << 40  # work that wakes every thread


class Reading(NamedTuple):
    """Each share is a part of `n_bytes`, read in order or at `_LOADS` places at once."""

    address: int
    n_bytes: int
    spread: int  # 1 where each part is read at several places at once
    ones: int
    totals: int


class Multiplying(NamedTuple):
    """Each share is to multiply and add _ROWS * 2 vectors, so many times."""

    times: int
    ones: int
    totals: int


def read(memory: np.ndarray, spread: bool) -> float:
    """Reads an array of float32 once, all threads together; returns its sum, but for a few bytes at the end."""
    ones, totals = _ones_and_totals()
    job = Reading(memory.ctypes.data, memory.nbytes, int(spread), ones.ctypes.data, totals.ctypes.data)
    launch(_read, job, _ENOUGH)
    return float(totals.sum())


def multiply(times: int) -> int:
    """Multiplies and adds in registers; returns how many floating-point operations that was, over all threads."""
    ones, totals = _ones_and_totals()
    launch(_multiply, Multiplying(times, ones.ctypes.data, totals.ctypes.data), _ENOUGH, cut=False)
    return threads() * times * _ROWS * 2 * LANES * 2


def _ones_and_totals() -> tuple[np.ndarray, np.ndarray]:
    """Two vectors of ones, and room for what is found in each share: its own line of memory."""
    return np.ones(2 * LANES, np.float32), np.zeros(most_shares(threads()) * 64, np.float32)


_reading = job_reader(Reading)
_multiplying = job_reader(Multiplying)


@Kernel
def _read(thread, share, n_shares, address):
    job = _reading(address)
    n_bytes = job.n_bytes // n_shares // (_LOADS * VECTOR) * (_LOADS * VECTOR)
    start = job.address + share * n_bytes
    stride, step = (n_bytes // _LOADS, VECTOR) if job.spread else (VECTOR, _LOADS * VECTOR)
    one = splat_tile(job.ones, 0, 1)
    sums = zeros(_LOADS)
    for n in range(n_bytes // (_LOADS * VECTOR)):
        sums = add_outer(sums, load_tile(start + n * step, stride, _LOADS), one)
    store_sums(job.totals + 256 * share, 4, 4, sums, 1)  # so that nothing is left out as unused


@Kernel
def _multiply(thread, share, n_shares, address):
    job = _multiplying(address)
    columns = load_tile(job.ones, VECTOR, 2)
    sums = zeros(_SUMS)
    for n in range(job.times):
        # Rows come from memory, as in `panel_kernels`: twelve of them held in registers would drive out sums.
        sums = add_outer(sums, splat_tile(job.ones + 4 * (n & 3), 4, _ROWS), columns)
    store_sums(job.totals + 256 * share, 8, 4, sums, 2)
