"""Matrices times vectors, for groups of vectors: each group meets a matrix of its own, some rows at a time, in one of
the ways of `dot_vectors`.
"""

from typing import NamedTuple

import numpy as np

from gptoss_lab.ops import looked_up, pair_sums
from gptoss_lab.ops.compile import Kernel, device, job_reader, takes_seconds
from gptoss_lab.ops.dot_sums import (
    CHUNK,
    ENDS,
    copy_ends_of_chunk,
    sums_bfloat16,
    sums_float32,
    sums_in_runs,
    sums_in_steps,
    sums_int8,
    sums_mxfp4,
)
from gptoss_lab.ops.dot_vectors import (
    IN_BLOCKS,
    IN_PAIRS,
    IN_RUNS,
    IN_STEPS,
    length,
    length_in_kernel,
    n_digits_of,
    put_vector,
    way_of,
)
from gptoss_lab.ops.formats import BFLOAT16, FLOAT32, INT8, MXFP4, are_last, row_bytes, scale_bytes
from gptoss_lab.ops.looked_up import sums_looked_up
from gptoss_lab.ops.pair_sums import sums_of_pairs
from gptoss_lab.ops.simd import deinterleave, get_float, get_int, load, set_float, splat, store
from gptoss_lab.ops.swiglu import swiglu
from gptoss_lab.ops.target import LANES

_TOGETHER, _TOGETHER_IN_BLOCKS = pair_sums.TOGETHER, 96  # vectors that meet a chunk before others do
_SUMS = 4 * CHUNK * _TOGETHER_IN_BLOCKS
_OWN_BYTES = (_SUMS + ENDS + max(pair_sums.MEMORY, looked_up.MEMORY) + 4095) // 4096 * 4096


class Dots(NamedTuple):
    """For each group g of vectors: one of the matrices [n_out, n_in] times each of them, plus a bias.

    Group g meets matrix number matrices[g]. It has vectors starts[g] to ends[g] - 1; vector i is row sources[i] of x,
    and its result goes to row targets[i] of out, times factors[targets[i]], plus that row of the addends.
    """

    format: int
    weights: int  # of all matrices
    scales: int  # theirs, of MXFP4
    bias: int  # [.., n_out], or 0
    n_out: int
    n_in: int
    matrices: int  # int64 [n_groups], or 0: the g-th
    starts: int  # int64 [n_groups]
    ends: int  # int64 [n_groups]
    n_groups: int
    x: int  # rows of n_in float32
    sources: int  # int64, or 0: vector i is row i
    out: int  # rows of n_out float32; or half as many, with swiglu
    targets: int  # int64, or 0: vector i goes to row i
    factors: int  # float32, or 0
    addends: int  # rows of n_out float32 to which `out` is added, row by row; or 0
    swiglu: int  # 1: rows of the result are pairs of gate and up, of which `out` gets one number each
    limit: float  # SwiGLU's
    order: int  # of the elements: spread for weights of this format; or PAIRS, rounded to bfloat16 unless they are few
    vectors: int  # scratch memory for the vectors, in spread order or as digits: put there by `spread`, or else ...
    vectors_each: int  # ... by each thread for itself, so many bytes; or 0
    scratch: int  # for the threads


_read = job_reader(Dots)


def vector_floats(format: int, n_in: int) -> int:
    """The scratch memory that one vector needs."""
    return length(format, n_in)


def most_vector_floats(n_in: int) -> int:
    """The same for any format."""
    return max(length(format, n_in) for format in (FLOAT32, BFLOAT16, INT8, MXFP4))


def scratch_floats(n_threads: int) -> int:
    """The scratch memory that threads need."""
    return n_threads * _OWN_BYTES // 4


@Kernel
def spread(thread, share, n_shares, address):
    """Puts the vectors in the order in which they meet the weights."""
    job = _read(address)
    _spread_vectors(job, job.vectors, share, n_shares)


@device
def _spread_vectors(job, vectors, share, n_shares):
    stride = 4 * length_in_kernel(job.format, job.n_in)
    for group in range(job.n_groups):
        way, first = _way(job, group), get_int(job.starts + 8 * group)
        for i in range(first + (share - first) % n_shares, get_int(job.ends + 8 * group), n_shares):
            source = get_int(job.sources + 8 * i) if job.sources else i
            x = job.x + 4 * source * job.n_in
            put_vector(x, job.n_in, way, job.format, job.order, vectors + i * stride)


@takes_seconds(20)
@Kernel
def dots(thread, share, n_shares, address):
    """A run of chunks, through the groups, that costs about as much as any other share."""
    job = _read(address)
    vectors = job.vectors + thread * job.vectors_each
    if job.vectors_each:
        _spread_vectors(job, vectors, 0, 1)
    # A small matrix, such as a router, has rows for every share too; SwiGLU wants whole chunks, and so may MXFP4.
    n_rows = CHUNK if job.swiglu or job.format == MXFP4 else min(CHUNK, (job.n_out + n_shares - 1) // n_shares)
    n_chunks = (job.n_out + n_rows - 1) // n_rows
    total = 0
    for group in range(job.n_groups):
        total += n_chunks * _cost(job, group)
    first, last = total * share // n_shares, total * (share + 1) // n_shares
    for group in range(job.n_groups):
        cost = _cost(job, group)
        if cost:
            for chunk in range(_chunks_in(first, cost, n_chunks), _chunks_in(last, cost, n_chunks)):
                _chunk(job, group, chunk * n_rows, n_rows, vectors, job.scratch + thread * _OWN_BYTES)
            first -= n_chunks * cost
            last -= n_chunks * cost


@device
def _n_vectors(job, group):
    return get_int(job.ends + 8 * group) - get_int(job.starts + 8 * group)


@device
def _way(job, group):
    return way_of(_n_vectors(job, group), job.format, job.order, job.n_out, job.n_in)


@device
def _cost(job, group):
    """What one of a group's chunks costs, in the unit of reading it."""
    n = _n_vectors(job, group)
    return n + 1 if n else 0


@device
def _chunks_in(work, cost, n_chunks):
    return min(max((work + cost - 1) // cost, 0), n_chunks)


@device
def _chunk(job, group, row, n_rows, vectors, sums):
    """The rows of one chunk, n_rows from `row` on, for the vectors of a group."""
    n_rows = min(n_rows, job.n_out - row)
    matrix = get_int(job.matrices + 8 * group) if job.matrices else group
    before = matrix * job.n_out + row
    width, scale_width = row_bytes(job.format, job.n_in), scale_bytes(job.format, job.n_in)
    weights, scales, bias = job.weights + before * width, job.scales + before * scale_width, job.bias + 4 * before
    ends = sums + _SUMS if are_last(row + n_rows, job.n_out, width) else 0
    if ends:
        copy_ends_of_chunk(weights, width, scales, scale_width, n_rows, ends)
    memory = sums + _SUMS + ENDS
    way, length = _way(job, group), length_in_kernel(job.format, job.n_in)
    together, end = _TOGETHER_IN_BLOCKS if way == IN_BLOCKS else _TOGETHER, get_int(job.ends + 8 * group)
    for first in range(get_int(job.starts + 8 * group), end, together):
        n, x, stride = min(together, end - first), vectors + 4 * first * length, 4 * length
        if way == IN_BLOCKS:
            n_digits = n_digits_of(job.order)
            sums_looked_up(weights, width, scales, scale_width, x, stride, n_digits, n, sums, memory)
        elif way == IN_PAIRS:
            sums_of_pairs(
                job.format, job.n_in, weights, width, scales, scale_width, ends, n_rows, x, length, n, sums, memory
            )
        elif way == IN_RUNS:
            sums_in_runs(weights, width, scales, scale_width, ends, n_rows, x, stride, n, sums)
        elif way == IN_STEPS:
            sums_in_steps(weights, width, scales, scale_width, ends, n_rows, x, stride, n, sums)
        elif job.format == MXFP4:
            sums_mxfp4(weights, width, scales, scale_width, ends, n_rows, x, stride, n, sums)
        elif job.format == INT8:
            sums_int8(weights, width, scales, scale_width, ends, n_rows, x, stride, n, sums)
        elif job.format == BFLOAT16:
            sums_bfloat16(weights, width, scales, scale_width, ends, n_rows, x, stride, n, sums)
        else:
            sums_float32(weights, width, scales, scale_width, ends, n_rows, x, stride, n, sums)
        for i in range(n):
            _finish(job, row, n_rows, first + i, sums + 4 * i * CHUNK, bias if job.bias else 0)


@device
def _finish(job, row, n_rows, vector, sums, bias):
    """Bias, then SwiGLU or a factor, for the sums of one vector."""
    n_out, target = job.n_out, get_int(job.targets + 8 * vector) if job.targets else vector
    if bias:
        _add_rows(sums, sums, np.float32(1), bias, n_rows)
    if job.swiglu:
        gate, up = deinterleave(load(sums), load(sums + 4 * LANES))
        store(sums, swiglu(gate, up, splat(job.limit)))
        n_out, row, n_rows = n_out // 2, row // 2, n_rows // 2
    factor = get_float(job.factors + 4 * target) if job.factors else np.float32(1)
    first = 4 * (target * n_out + row)
    _add_rows(job.out + first, sums, factor, job.addends + first if job.addends else 0, n_rows)


@device
def _add_rows(to, sums, factor, addends, n):
    """to = n sums * factor + addends, where there are any."""
    whole = n // LANES * LANES
    for i in range(0, whole, LANES):
        product = load(sums + 4 * i) * splat(factor)
        store(to + 4 * i, product + load(addends + 4 * i) if addends else product)
    for i in range(whole, n):
        product = get_float(sums + 4 * i) * factor
        set_float(to + 4 * i, product + get_float(addends + 4 * i) if addends else product)
