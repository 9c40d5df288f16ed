"""Kernels that go along rows: RMSNorm, the rotation of positions, the order in which experts meet their tokens."""

from typing import NamedTuple

import numpy as np

from gptoss_lab.ops.compile import Kernel, device, job_reader
from gptoss_lab.ops.simd import (
    fma,
    get_float,
    get_int,
    load,
    set_float,
    set_int,
    splat,
    store,
    sum_lanes,
)
from gptoss_lab.ops.target import LANES


class Norm(NamedTuple):
    """out = x / sqrt(mean(x^2) + eps) * gain for each of n_rows rows of n."""

    x: int
    gain: int
    out: int
    n_rows: int
    n: int
    eps: float


class Rotation(NamedTuple):
    """Turns the pairs (x[i], x[i + half]) of each head by the i-th angle of its position."""

    x: int  # [n_rows, n_heads, 2 * half]
    cos: int  # [n_positions, half]
    sin: int
    out: int
    n_rows: int  # sequences times positions
    n_positions: int
    n_heads: int
    half: int


class Grouping(NamedTuple):
    """Sorts (token, rank) pairs by their expert; within an expert they keep their order."""

    experts: int  # int64 [n_pairs]
    n_pairs: int
    n_experts: int
    per_token: int
    starts: int  # int64 [n_experts + 1]: where each expert's pairs begin in what follows
    pairs: int  # int64 [n_pairs]
    tokens: int  # int64 [n_pairs]: their tokens


_read_norm, _read_rotation, _read_grouping = job_reader(Norm), job_reader(Rotation), job_reader(Grouping)


@Kernel
def rms_norm(thread, n_threads, address):
    job = _read_norm(address)
    for row in range(job.n_rows * thread // n_threads, job.n_rows * (thread + 1) // n_threads):
        x, out = job.x + 4 * row * job.n, job.out + 4 * row * job.n
        scale = np.float32(1) / np.sqrt(_sum_of_squares(x, job.n) / np.float32(job.n) + np.float32(job.eps))
        whole = job.n // LANES * LANES
        for i in range(0, whole, LANES):
            store(out + 4 * i, load(x + 4 * i) * splat(scale) * load(job.gain + 4 * i))
        for i in range(whole, job.n):
            set_float(out + 4 * i, get_float(x + 4 * i) * scale * get_float(job.gain + 4 * i))


@device
def _sum_of_squares(x, n):
    whole = n // LANES * LANES
    totals = splat(0.0)
    for i in range(0, whole, LANES):
        totals = fma(load(x + 4 * i), load(x + 4 * i), totals)
    total = sum_lanes(totals)
    for i in range(whole, n):
        total += get_float(x + 4 * i) * get_float(x + 4 * i)
    return total


@Kernel
def rotate(thread, n_threads, address):
    job = _read_rotation(address)
    for row in range(job.n_rows * thread // n_threads, job.n_rows * (thread + 1) // n_threads):
        angles = 4 * (row % job.n_positions) * job.half
        for head in range(job.n_heads):
            start = 8 * (row * job.n_heads + head) * job.half
            _rotate_head(job.x + start, job.cos + angles, job.sin + angles, job.out + start, job.half)


@device
def _rotate_head(x, cos, sin, out, half):
    whole = half // LANES * LANES
    for i in range(0, whole, LANES):
        first, second = load(x + 4 * i), load(x + 4 * (half + i))
        c, s = load(cos + 4 * i), load(sin + 4 * i)
        store(out + 4 * i, first * c - second * s)
        store(out + 4 * (half + i), second * c + first * s)
    for i in range(whole, half):
        first, second = get_float(x + 4 * i), get_float(x + 4 * (half + i))
        c, s = get_float(cos + 4 * i), get_float(sin + 4 * i)
        set_float(out + 4 * i, first * c - second * s)
        set_float(out + 4 * (half + i), second * c + first * s)


@Kernel
def group_by_expert(thread, n_threads, address):
    """On one thread."""
    job = _read_grouping(address)
    for expert in range(job.n_experts + 1):
        set_int(job.starts + 8 * expert, 0)
    for pair in range(job.n_pairs):  # count, one place further on
        at = job.starts + 8 * get_int(job.experts + 8 * pair) + 8
        set_int(at, get_int(at) + 1)
    for expert in range(job.n_experts):
        at = job.starts + 8 * expert
        set_int(at + 8, get_int(at) + get_int(at + 8))
    for pair in range(job.n_pairs):  # starts[e] walks through e's places ...
        at = job.starts + 8 * get_int(job.experts + 8 * pair)
        place = get_int(at)
        set_int(job.pairs + 8 * place, pair)
        set_int(job.tokens + 8 * place, pair // job.per_token)
        set_int(at, place + 1)
    for expert in range(job.n_experts, 0, -1):  # ... and stands where e + 1 began
        set_int(job.starts + 8 * expert, get_int(job.starts + 8 * expert - 8))
    set_int(job.starts, 0)
