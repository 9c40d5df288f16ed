"""In what order vectors lie that meet weights in dot products, which depends on how they meet them."""

import numpy as np

from gptoss_lab.ops.compile import device
from gptoss_lab.ops.digits import DIGITS, PART, RUN, VECTORS, join_run, store_digits
from gptoss_lab.ops.dot_sums import CHUNK, IN_DIGITS_ALWAYS
from gptoss_lab.ops.formats import BFLOAT16, MXFP4, PAIRS, SCALES, STEP, element
from gptoss_lab.ops.looked_up import BLOCKS
from gptoss_lab.ops.simd import deinterleave, get_float, load, pair_of, pairs_in_row, set_float, set_int, store
from gptoss_lab.ops.target import BYTE_DOTS, DIGITS_FOR_MANY, INSTRUCTION_SET, LANES
from gptoss_lab.ops.winograd import BLOCK, FEW_DIGITS, store_block

# How vectors meet weights: as they are, rounded to pairs of bfloat16, or as digits (see `digits`), for a step of
# weights at a time, for a run of steps, or for blocks that are looked up once for all of them.
AS_FLOATS, IN_PAIRS, IN_STEPS, IN_RUNS, IN_BLOCKS = range(5)

_FEW = 4  # vectors that are not worth rounding, nor looking weights up once for them
_IN_RUNS_FROM = 2 if INSTRUCTION_SET == "avx512" else 1  # vectors: for one, weights come too slowly from memory then
_VECTOR = 4 * LANES


def length(format, n_in):
    """Elements of a vector, with zeros to whole steps."""
    return (n_in + format * LANES - 1) // (format * LANES) * (format * LANES)


length_in_kernel = device(length)


@device
def way_of(n, format, order, n_out, n_in):
    """How n vectors meet a matrix."""
    if DIGITS_FOR_MANY and format == MXFP4 and n > _FEW and n_out % CHUNK == 0 and n_in >= 32 * BLOCKS:
        return IN_BLOCKS
    if order == PAIRS and n > _FEW:
        return IN_PAIRS
    if BYTE_DOTS and format == MXFP4 and (IN_DIGITS_ALWAYS or n == 1):
        return IN_RUNS if n >= _IN_RUNS_FROM else IN_STEPS
    return AS_FLOATS


@device
def n_digits_of(order):
    """Of vectors in blocks."""
    return FEW_DIGITS if order == PAIRS else DIGITS


@device
def put_vector(x, n, way, format, order, to):
    """Puts n elements where they meet weights."""
    if way == IN_BLOCKS:
        _put_blocks(x, n, n_digits_of(order), to)
    elif way == IN_PAIRS:
        _put_pairs(x, n, length_in_kernel(format, n), to)
    elif way in (IN_STEPS, IN_RUNS):
        _put_digits(x, n, length_in_kernel(format, n), way == IN_RUNS, to)
    else:
        _put_spread(x, n, format, to)


@device
def _put_spread(x, n, format, to):
    begin = 0
    if format == BFLOAT16:  # the commonest, in vectors
        begin = n // (2 * LANES) * (2 * LANES)
        for i in range(0, begin, 2 * LANES):
            even, odd = deinterleave(load(x + 4 * i), load(x + 4 * i + _VECTOR))
            store(to + 4 * i, even)
            store(to + 4 * i + _VECTOR, odd)
    for first in range(begin, n, format * LANES):
        for vector in range(format):
            for lane in range(LANES):
                i = first + element(format, vector, lane)
                set_float(to + 4 * (first + vector * LANES + lane), get_float(x + 4 * i) if i < n else np.float32(0))


@device
def _put_pairs(x, n, length, to):
    whole = n // (2 * LANES)
    for i in range(whole):
        store(to + i * _VECTOR, pairs_in_row(load(x + 2 * i * _VECTOR), load(x + (2 * i + 1) * _VECTOR)))
    for word in range(whole * LANES, length // 2):
        first = get_float(x + 8 * word) if 2 * word < n else np.float32(0)
        second = get_float(x + 8 * word + 4) if 2 * word + 1 < n else np.float32(0)
        set_float(to + 4 * word, pair_of(first, second))


@device
def _put_digits(x, n, length, in_runs, to):
    """Zeros fill up the last step."""
    for block in range(length // 32):
        at = to + block // SCALES * VECTORS * STEP + block % SCALES * PART
        if 32 * block < n:
            store_digits(x + 4 * 32 * block, at, STEP)
        else:
            for word in range(VECTORS * PART // 8):
                set_int(at + word // 2 * STEP + word % 2 * 8, 0)
    if in_runs:
        for run in range(n // (32 * SCALES * RUN)):
            join_run(to + run * RUN * VECTORS * STEP)


@device
def _put_blocks(x, n, n_digits, to):
    for block in range(n // 32):
        at = to + block * BLOCK
        if n_digits == FEW_DIGITS:
            store_block(x + 4 * 32 * block, at, FEW_DIGITS)
        else:
            store_block(x + 4 * 32 * block, at, DIGITS)
