"""Matrix times vector, for few vectors: weights stream from memory once, and each output is a dot product along the
lanes.
"""

from typing import NamedTuple

import numpy as np

from gptoss_lab.ops.compile import Kernel, device, job_reader
from gptoss_lab.ops.layout import BFLOAT16, FLOAT32, MXFP4, SCALES, STEP, WEIGHTS, copy_tails, row_bytes, scale_bytes
from gptoss_lab.ops.simd import (
    LANES,
    add_outer,
    add_scaled,
    deinterleave,
    get_float,
    get_int,
    load,
    load_scales,
    load_tile,
    load_words,
    prefetch,
    set_float,
    splat,
    store,
    store_sums,
    zeros,
)
from gptoss_lab.ops.swiglu import swiglu

_CHUNK = 2 * LANES  # rows of weights that are finished together
_BLOCK = 16  # vectors that are
_ROWS = 2  # rows whose sums are in registers together
_AHEAD = (
    8  # memory is asked for this many times _ROWS rows ahead: the hardware does not guess that rows follow each other
)

_SUMS = 4 * _BLOCK * _CHUNK
_OWN_BYTES = (_SUMS + _CHUNK * (STEP + SCALES) + 4095) // 4096 * 4096


class Dots(NamedTuple):
    """For each group g of vectors: the g-th matrix [n_out, n_in] times each of them, plus the g-th bias.

    Vectors starts[g] to ends[g] - 1 are group g's. Vector i is row sources[i] of x; its result goes to row targets[i]
    of out, times factors[targets[i]].
    """

    format: int
    weights: int  # n_groups matrices
    scales: int  # theirs, of MXFP4
    bias: int  # [n_groups, n_out], or 0
    n_out: int
    n_in: int
    starts: int  # int64 [n_groups]
    ends: int  # int64 [n_groups]
    n_groups: int
    x: int  # rows of n_in float32
    sources: int  # int64, or 0: vector i is row i
    out: int  # rows of n_out float32
    targets: int  # int64, or 0: vector i goes to row i
    factors: int  # float32, or 0
    swiglu: int  # 1: rows of the result are pairs of gate and up, of which `out` gets one number each
    limit: float  # SwiGLU's
    vectors: int  # scratch memory for the vectors, in spread order
    scratch: int  # for the threads


_read = job_reader(Dots)


def vector_floats(format: int, n_in: int) -> int:
    """The scratch memory that one vector needs."""
    return _length(format, n_in)


def scratch_floats(n_threads: int) -> int:
    """The scratch memory that threads need."""
    return n_threads * _OWN_BYTES // 4


def _length(format, n_in):
    """Elements of a vector in spread order, with zeros to whole steps."""
    return (n_in + format * LANES - 1) // (format * LANES) * (format * LANES)


_length_in_kernel = device(_length)


@Kernel
def spread(thread, n_threads, address):
    """Copies the vectors, each in spread order (see `layout`)."""
    job = _read(address)
    length = _length_in_kernel(job.format, job.n_in)
    for group in range(job.n_groups):
        for i in range(get_int(job.starts + 8 * group) + thread, get_int(job.ends + 8 * group), n_threads):
            source = get_int(job.sources + 8 * i) if job.sources else i
            _spread(job.x + 4 * source * job.n_in, job.n_in, job.format, job.vectors + 4 * i * length)


@device
def _spread(x, n, format, to):
    for first in range(0, n, format * LANES):
        for which in range(format):
            for lane in range(LANES):
                i = first + lane * format + which
                set_float(to + 4 * (first + which * LANES + lane), get_float(x + 4 * i) if i < n else 0.0)


@Kernel
def dots(thread, n_threads, address):
    """After `spread`: a run of chunks, through the groups, that costs about as much as any other thread's."""
    job = _read(address)
    n_chunks = (job.n_out + _CHUNK - 1) // _CHUNK
    total = 0
    for group in range(job.n_groups):
        total += n_chunks * _cost(job, group)
    first, last = total * thread // n_threads, total * (thread + 1) // n_threads
    for group in range(job.n_groups):
        cost = _cost(job, group)
        if cost:
            for chunk in range(_chunks_in(first, cost, n_chunks), _chunks_in(last, cost, n_chunks)):
                _chunk(job, group, chunk * _CHUNK, job.scratch + thread * _OWN_BYTES)
            first -= n_chunks * cost
            last -= n_chunks * cost


@device
def _cost(job, group):
    """What one of a group's chunks costs, in the unit of reading it."""
    n = get_int(job.ends + 8 * group) - get_int(job.starts + 8 * group)
    return n + 1 if n else 0


@device
def _chunks_in(work, cost, n_chunks):
    return min(max((work + cost - 1) // cost, 0), n_chunks)


@device
def _chunk(job, group, row, own):
    """The rows of one chunk, from `row`, for the vectors of a group."""
    n_rows = min(_CHUNK, job.n_out - row)
    place = group * job.n_out + row
    width, scale_width = row_bytes(job.format, job.n_in), scale_bytes(job.format, job.n_in)
    weights, scales, bias = job.weights + place * width, job.scales + place * scale_width, job.bias + 4 * place
    tails, tail_scales = own + _SUMS, own + _SUMS + _CHUNK * STEP
    copy_tails(weights, width, STEP, n_rows, tails)
    copy_tails(scales, scale_width, SCALES, n_rows, tail_scales)
    length = _length_in_kernel(job.format, job.n_in)
    end = get_int(job.ends + 8 * group)
    for first in range(get_int(job.starts + 8 * group), end, _BLOCK):
        n, vectors = min(_BLOCK, end - first), job.vectors + 4 * first * length
        if job.format == MXFP4:
            _sums_mxfp4(weights, width, scales, scale_width, tails, tail_scales, n_rows, vectors, 4 * length, n, own)
        elif job.format == BFLOAT16:
            _sums_bfloat16(weights, width, scales, scale_width, tails, tail_scales, n_rows, vectors, 4 * length, n, own)
        else:
            _sums_float32(weights, width, scales, scale_width, tails, tail_scales, n_rows, vectors, 4 * length, n, own)
        for i in range(n):
            _finish(job, row, n_rows, first + i, own + 4 * i * _CHUNK, bias if job.bias else 0)


def _make_sums(format):
    """The sums of a chunk, for weights of one format."""
    weights_of, scaled = WEIGHTS[format], format == MXFP4

    def make_tile(n_columns):
        n = _ROWS * n_columns

        @device
        def add_step(totals, weights, row_bytes, scales, scale_bytes, x, stride):
            words = load_words(weights, row_bytes, _ROWS)
            products = zeros(n) if scaled else totals
            for which in range(format):
                products = add_outer(products, weights_of(words, which), load_tile(x + which * STEP, stride, n_columns))
            return add_scaled(totals, products, load_scales(scales, scale_bytes, _ROWS)) if scaled else products

        @device
        def tile(weights, row_bytes, scales, scale_bytes, tails, tail_scales, x, stride, second, sums):
            totals = zeros(n)
            n_steps = row_bytes // STEP
            for i in range(n_steps):
                for line in range(0, _ROWS * STEP, 64):
                    prefetch(weights + _AHEAD * _ROWS * row_bytes + i * _ROWS * STEP + line)
                w, s = weights + i * STEP, scales + i * SCALES
                totals = add_step(totals, w, second * row_bytes, s, second * scale_bytes, x + i * format * STEP, stride)
            if row_bytes % STEP:
                rest = x + n_steps * format * STEP
                totals = add_step(totals, tails, second * STEP, tail_scales, second * SCALES, rest, stride)
            store_sums(sums, second * 4, 4 * _CHUNK, totals, n_columns)

        return tile

    one, two, four = make_tile(1), make_tile(2), make_tile(4)

    @device
    def sums_of(weights, row_bytes, scales, scale_bytes, tails, tail_scales, n_rows, x, stride, n, sums):
        """sums[vector][row], for n vectors, `stride` bytes apart, and n_rows rows."""
        i = 0
        while i < n:
            columns = 4 if n - i >= 4 else 2 if n - i >= 2 else 1
            vectors = x + i * stride
            for row in range(0, n_rows, _ROWS):
                second = 1 if row + 1 < n_rows else 0  # a last row without a second is taken twice
                w, s = weights + row * row_bytes, scales + row * scale_bytes
                t, ts = tails + row * STEP, tail_scales + row * SCALES
                to = sums + 4 * (i * _CHUNK + row)
                if columns == 4:
                    four(w, row_bytes, s, scale_bytes, t, ts, vectors, stride, second, to)
                elif columns == 2:
                    two(w, row_bytes, s, scale_bytes, t, ts, vectors, stride, second, to)
                else:
                    one(w, row_bytes, s, scale_bytes, t, ts, vectors, stride, second, to)
            i += columns

    return sums_of


_sums_mxfp4, _sums_bfloat16, _sums_float32 = _make_sums(MXFP4), _make_sums(BFLOAT16), _make_sums(FLOAT32)


@device
def _finish(job, row, n_rows, vector, sums, bias):
    """Bias, then SwiGLU or a factor, for the sums of one vector."""
    n_out, target = job.n_out, get_int(job.targets + 8 * vector) if job.targets else vector
    if bias:
        for i in range(n_rows):
            set_float(sums + 4 * i, get_float(sums + 4 * i) + get_float(bias + 4 * i))
    if job.swiglu:
        gate, up = deinterleave(load(sums), load(sums + 4 * LANES))
        store(sums, swiglu(gate, up, splat(job.limit)))
        n_out, row, n_rows = n_out // 2, row // 2, n_rows // 2
    factor = get_float(job.factors + 4 * target) if job.factors else np.float32(1)
    for i in range(n_rows):
        set_float(job.out + 4 * (target * n_out + row + i), get_float(sums + 4 * i) * factor)
