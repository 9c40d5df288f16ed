"""Matrix times vector, for few vectors: weights stream from memory once, and each output is a dot product along the
lanes.

Weights are decoded for four vectors at a time, just when they meet them; those of MXFP4 as whole numbers, where that is
faster (see `digits`). Where there are more vectors, and they may be rounded to bfloat16, either whole numbers of fewer
digits do, or some rows and words of weights at a time are decoded into a buffer that stays in the L1 cache.
"""

from typing import NamedTuple

import numpy as np

from gptoss_lab.ops.compile import Kernel, device, inner_loop, job_reader, takes_seconds
from gptoss_lab.ops.decoding import make_decode
from gptoss_lab.ops.digit_products import add_run, add_step, in_ones
from gptoss_lab.ops.digits import DIGITS, FEW_DIGITS, PART, RUN, VECTORS, join_run, store_digits
from gptoss_lab.ops.formats import (
    BFLOAT16,
    FLOAT32,
    INT8,
    MXFP4,
    PAIRS,
    SCALED,
    SCALES,
    STEP,
    add_products,
    add_scaled,
    are_last,
    copy_ends,
    element,
    load_scales,
    load_scales_of_int8,
    load_words,
    row_bytes,
    scale_bytes,
)
from gptoss_lab.ops.simd import (
    add_outer_of_pairs,
    add_to,
    deinterleave,
    get_float,
    get_int,
    load,
    load_tile,
    pair_of,
    pairs_in_row,
    prefetch,
    set_float,
    set_int,
    splat,
    store,
    store_sums,
    sum_lanes,
    zeros,
)
from gptoss_lab.ops.swiglu import swiglu
from gptoss_lab.ops.target import BYTE_DOTS, DIGITS_FOR_MANY, FORESEES_ROWS, INSTRUCTION_SET, LANES

_CHUNK = 2 * LANES  # rows of weights, at most, that are finished together
_BLOCK = 16  # vectors that are
_ROWS = 2  # rows whose sums are in registers together
_ROWS_IN_STEPS, _ROWS_IN_RUNS = 4, 2 if INSTRUCTION_SET == "avx512" else 1  # of MXFP4 that meet digits
_MOST_IN_RUNS = 2 if INSTRUCTION_SET == "avx512" else 1  # vectors: digits fill the registers sooner
_IN_RUNS_FROM = 2 if INSTRUCTION_SET == "avx512" else 1  # of a group: what one meets comes too slowly from memory then
_ROWS_OF_FOUR = 4 if INSTRUCTION_SET == "avx512" else 2  # the same for four vectors, which thus leave the L2 cache less
_FEW = 4  # vectors that are not worth rounding
_ALWAYS_IN_DIGITS = BYTE_DOTS and INSTRUCTION_SET == "avx512"
_AHEAD = 6144  # bytes ahead, for each row read together, memory is asked for; much later or sooner is slower

_ROWS_DECODED = 4  # rows that are decoded together, and whose sums are in registers together, for four vectors
_WORDS = 288  # words of them, about
_VECTOR = 4 * LANES
_DECODED_ROW = 4 * (_WORDS + 8 * LANES)

_SUMS = 4 * _BLOCK * _CHUNK
_ENDS = _CHUNK * (STEP + SCALES)
_PARTIAL = _CHUNK * _BLOCK * _VECTOR
_DECODED = _ROWS_DECODED * (_DECODED_ROW + STEP + SCALES)
_OWN_BYTES = (_SUMS + _ENDS + _PARTIAL + _DECODED + 4095) // 4096 * 4096


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
    return _length(format, n_in)


def most_vector_floats(n_in: int) -> int:
    """The same for any format."""
    return max(_length(format, n_in) for format in (FLOAT32, BFLOAT16, INT8, MXFP4))


def scratch_floats(n_threads: int) -> int:
    """The scratch memory that threads need."""
    return n_threads * _OWN_BYTES // 4


def _length(format, n_in):
    """Elements of a vector, with zeros to whole steps."""
    return (n_in + format * LANES - 1) // (format * LANES) * (format * LANES)


_length_in_kernel = device(_length)


@Kernel
def spread(thread, share, n_shares, address):
    """Puts the vectors in the order in which they meet the weights."""
    job = _read(address)
    _spread_vectors(job, job.vectors, share, n_shares)


@device
def _spread_vectors(job, vectors, share, n_shares):
    length = _length_in_kernel(job.format, job.n_in)
    for group in range(job.n_groups):
        first = get_int(job.starts + 8 * group)
        for i in range(first + (share - first) % n_shares, get_int(job.ends + 8 * group), n_shares):
            source = get_int(job.sources + 8 * i) if job.sources else i
            x, to = job.x + 4 * source * job.n_in, vectors + 4 * i * length
            if _in_few_digits(job, group):
                _split(x, job.n_in, length, to, True, True)
            elif _in_pairs(job, group):
                _pair(x, job.n_in, length, to)
            elif _in_digits(job, group):
                _split(x, job.n_in, length, to, _in_runs(job, group), False)
            else:
                _spread(x, job.n_in, job.format, to)


@device
def _pair(x, n, length, to):
    whole = n // (2 * LANES)
    for i in range(whole):
        store(to + i * _VECTOR, pairs_in_row(load(x + 2 * i * _VECTOR), load(x + (2 * i + 1) * _VECTOR)))
    for word in range(whole * LANES, length // 2):
        first = get_float(x + 8 * word) if 2 * word < n else np.float32(0)
        second = get_float(x + 8 * word + 4) if 2 * word + 1 < n else np.float32(0)
        set_float(to + 4 * word, pair_of(first, second))


@device
def _spread(x, n, format, to):
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
def _split(x, n, length, to, in_runs, in_few):
    """Into digits; zeros fill up the last step."""
    for block in range(length // 32):
        at = to + block // SCALES * VECTORS * STEP + block % SCALES * PART
        if 32 * block < n:
            if in_few:
                store_digits(x + 4 * 32 * block, at, FEW_DIGITS)
            else:
                store_digits(x + 4 * 32 * block, at, DIGITS)
        else:
            for word in range(VECTORS * PART // 8):
                set_int(at + word // 2 * STEP + word % 2 * 8, 0)
    if in_runs:
        for run in range(n // (32 * SCALES * RUN)):
            join_run(to + run * RUN * VECTORS * STEP)


@takes_seconds(20)
@Kernel
def dots(thread, share, n_shares, address):
    """A run of chunks, through the groups, that costs about as much as any other share."""
    job = _read(address)
    vectors = job.vectors + thread * job.vectors_each
    if job.vectors_each:
        _spread_vectors(job, vectors, 0, 1)
    # A small matrix, such as a router, has rows for every share too; SwiGLU wants whole chunks.
    n_rows = _CHUNK if job.swiglu else min(_CHUNK, (job.n_out + n_shares - 1) // n_shares)
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
def _in_pairs(job, group):
    """Whether a group's vectors are rounded to bfloat16."""
    return job.order == PAIRS and _n_vectors(job, group) > _FEW


@device
def _in_digits(job, group):
    """Whether they are whole numbers: on AVX2, which takes two steps to add products up, only one by itself is."""
    return BYTE_DOTS and job.format == MXFP4 and (_ALWAYS_IN_DIGITS or _n_vectors(job, group) == 1)


@device
def _in_few_digits(job, group):
    """Whether they are rounded to bfloat16 and then whole numbers: as soon as there is one more to share the work."""
    return DIGITS_FOR_MANY and job.format == MXFP4 and job.order == PAIRS and _n_vectors(job, group) > 1


@device
def _in_runs(job, group):
    """Whether what meets them, where they are, goes in runs of steps."""
    return _n_vectors(job, group) >= _IN_RUNS_FROM


@device
def _cost(job, group):
    """What one of a group's chunks costs, in the unit of reading it."""
    n = _n_vectors(job, group)
    return n + 1 if n else 0


@device
def _chunks_in(work, cost, n_chunks):
    return min(max((work + cost - 1) // cost, 0), n_chunks)


@device
def _chunk(job, group, row, n_rows, vectors, own):
    """The rows of one chunk, n_rows from `row` on, for the vectors of a group."""
    n_rows = min(n_rows, job.n_out - row)
    matrix = get_int(job.matrices + 8 * group) if job.matrices else group
    before = matrix * job.n_out + row
    width, scale_width = row_bytes(job.format, job.n_in), scale_bytes(job.format, job.n_in)
    weights, scales, bias = job.weights + before * width, job.scales + before * scale_width, job.bias + 4 * before
    ends = own + _SUMS if are_last(row + n_rows, job.n_out, width) else 0
    if ends:
        copy_ends(weights, width, STEP, n_rows, ends)
        copy_ends(scales, scale_width, SCALES, n_rows, ends + _CHUNK * STEP)
    length = _length_in_kernel(job.format, job.n_in)
    end = get_int(job.ends + 8 * group)
    for first in range(get_int(job.starts + 8 * group), end, _BLOCK):
        n, x = min(_BLOCK, end - first), vectors + 4 * first * length
        if _in_few_digits(job, group):
            _sums_of_few_digits(weights, width, scales, scale_width, ends, n_rows, x, 4 * length, n, own)
        elif _in_pairs(job, group):
            _sums_of_pairs(job, weights, width, scales, scale_width, ends, n_rows, x, length, n, own)
        elif _in_digits(job, group) and _in_runs(job, group):
            _sums_in_runs(weights, width, scales, scale_width, ends, n_rows, x, 4 * length, n, own)
        elif _in_digits(job, group):
            _sums_in_steps(weights, width, scales, scale_width, ends, n_rows, x, 4 * length, n, own)
        elif job.format == MXFP4:
            _sums_of_floats(weights, width, scales, scale_width, ends, n_rows, x, 4 * length, n, own)
        elif job.format == INT8:
            _sums_int8(weights, width, scales, scale_width, ends, n_rows, x, 4 * length, n, own)
        elif job.format == BFLOAT16:
            _sums_bfloat16(weights, width, scales, scale_width, ends, n_rows, x, 4 * length, n, own)
        else:
            _sums_float32(weights, width, scales, scale_width, ends, n_rows, x, 4 * length, n, own)
        for i in range(n):
            _finish(job, row, n_rows, first + i, own + 4 * i * _CHUNK, bias if job.bias else 0)


@device
def _sums_of_pairs(job, weights, row_bytes, scales, scale_bytes, last, n_rows, x, length, n, own):
    """As `_make_sums` has it, in bfloat16."""
    partial = own + _SUMS + _ENDS
    decoded = partial + _PARTIAL
    ends = decoded + _ROWS_DECODED * _DECODED_ROW
    step = job.format // 2 * LANES
    n_steps = max(1, _WORDS // step)
    for i in range(n_rows * _BLOCK):
        store(partial + i * _VECTOR, splat(0.0))
    for word in range(0, length // 2, n_steps * step):
        n_words = min(n_steps * step, (job.n_in + 1) // 2 - word)
        n_vectors = min(n_steps * step, length // 2 - word) // LANES
        for row in range(0, n_rows, _ROWS_DECODED):
            k = min(_ROWS_DECODED, n_rows - row)
            w, s = weights + row * row_bytes, scales + row * scale_bytes
            if job.format == MXFP4:
                _decode_mxfp4(w, row_bytes, s, scale_bytes, k, last, word // step, n_words, decoded, ends)
            elif job.format == INT8:
                _decode_int8(w, row_bytes, s, scale_bytes, k, last, word // step, n_words, decoded, ends)
            else:
                _decode_bfloat16(w, row_bytes, 0, 0, k, last, word // step, n_words, decoded, ends)
            i = 0
            while i < n:
                at, sums = x + 4 * (i * length + word), partial + (row * _BLOCK + i) * _VECTOR
                if n - i >= 4:
                    _add_four(decoded, at, 4 * length, n_vectors, sums)
                    i += 4
                elif n - i >= 2:
                    _add_two(decoded, at, 4 * length, n_vectors, sums)
                    i += 2
                else:
                    _add_one(decoded, at, 4 * length, n_vectors, sums)
                    i += 1
    for row in range(n_rows):
        for i in range(n):
            set_float(own + 4 * (i * _CHUNK + row), sum_lanes(load(partial + (row * _BLOCK + i) * _VECTOR)))


def _make_add(n_columns):
    n_sums = _ROWS_DECODED * n_columns

    @inner_loop
    def add_tile(weights, x, stride, n, sums):
        """Adds to the sums [_ROWS_DECODED][n_columns] of products, lane by lane, those of n vectors more."""
        totals = zeros(n_sums)
        for i in range(n):
            rows = load_tile(weights + i * _VECTOR, _DECODED_ROW, _ROWS_DECODED)
            totals = add_outer_of_pairs(totals, rows, load_tile(x + i * _VECTOR, stride, n_columns))
        add_to(sums, _BLOCK * _VECTOR, _VECTOR, totals, n_columns)

    return add_tile


_add_one, _add_two, _add_four = _make_add(1), _make_add(2), _make_add(4)


@device
def _decode_nothing(weights, row_bytes, scales, scale_bytes, n_rows, last, begin, n_words, decoded, ends):
    """Stands for what is never called where MXFP4 meets few digits, and so need not be compiled."""


_decode_mxfp4, _decode_int8, _decode_bfloat16 = (
    make_decode(format, True, _ROWS_DECODED, _DECODED_ROW, whole_steps=True)
    if format != MXFP4 or not DIGITS_FOR_MANY
    else _decode_nothing
    for format in (MXFP4, INT8, BFLOAT16)
)


def _make_sums(format, digits=0, in_runs=False):
    """The sums of a chunk, for weights of one format, and vectors in spread order or as digits."""
    load_factors = load_scales_of_int8 if format == INT8 else load_scales
    add_digits, add_run_of_digits = (add[digits or DIGITS] for add in (add_step, add_run))
    most = _MOST_IN_RUNS if in_runs else 1 if digits else 4  # vectors at a time

    def rows_together(n_columns):
        if digits:
            return _ROWS_IN_RUNS if in_runs else _ROWS_IN_STEPS
        if n_columns == 1 and format not in SCALED:
            return 1  # memory is fastest where one row comes after the other
        return _ROWS_OF_FOUR if n_columns == 4 else _ROWS

    def make_tile(n_columns):
        n_rows = rows_together(n_columns)
        n = n_rows * n_columns
        asked_for = 0 if n_rows == 1 and not digits and FORESEES_ROWS else n_rows * STEP  # bytes, in each step

        @device
        def add(totals, weights, row_bytes, scales, scale_bytes, x, stride):
            if digits:
                return add_digits(totals, weights, row_bytes, scales, scale_bytes, x, stride, n_rows)
            words = load_words(weights, row_bytes, n_rows)
            if format in SCALED:
                products = add_products(zeros(n), words, x, stride, format)
                return add_scaled(totals, products, load_factors(scales, scale_bytes, n_rows))
            if n == 1:  # a step's products by themselves: sums would wait for each other
                return (totals[0] + add_products(zeros(1), words, x, stride, format)[0],)
            return add_products(totals, words, x, stride, format)

        @inner_loop
        def tile(weights, row_bytes, scales, scale_bytes, end, end_scales, x, stride, second, sums):
            """The sums of n_rows rows (of one, unless `second`) and n_columns vectors; `end`: a copy of the rows' last
            steps, or 0.
            """
            totals = zeros(n)
            n_steps, between, between_scales = row_bytes // STEP, second * row_bytes, second * scale_bytes
            ahead = weights + n_rows * _AHEAD
            begin = 0
            if in_runs:
                begin = n_steps // RUN * RUN
                for i in range(0, begin, RUN):
                    for line in range(0, RUN * asked_for, 64):
                        prefetch(ahead + i * asked_for + line)
                    w, s = weights + i * STEP, scales + i * SCALES
                    at = x + i * format * STEP
                    totals = add_run_of_digits(totals, w, between, s, between_scales, at, stride, n_rows)
            for i in range(begin, n_steps if end else (row_bytes + STEP - 1) // STEP):
                for line in range(0, asked_for, 64):
                    prefetch(ahead + i * asked_for + line)
                w, s = weights + i * STEP, scales + i * SCALES
                totals = add(totals, w, between, s, between_scales, x + i * format * STEP, stride)
            if end and row_bytes % STEP:
                rest = x + n_steps * format * STEP
                totals = add(totals, end, second * STEP, end_scales, second * SCALES, rest, stride)
            if digits:
                totals = in_ones(totals)
            store_sums(sums, second * 4, 4 * _CHUNK, totals, n_columns)

        return tile

    tiles = [make_tile(n_columns) for n_columns in (1, 2, 4) if n_columns <= most]
    one, two, four = (tiles + 2 * tiles[-1:])[:3]  # those of more than `most` are never called
    for_one, for_two, for_four = rows_together(1), rows_together(2), rows_together(4)

    @device
    def sums_of(weights, row_bytes, scales, scale_bytes, ends, n_rows, x, stride, n, sums):
        """sums[vector][row], for n vectors, `stride` bytes apart, and n_rows rows."""
        i = 0
        while i < n:
            columns = 4 if n - i >= 4 and most == 4 else 2 if n - i >= 2 else 1
            vectors = x + i * stride
            together = for_four if columns == 4 else for_two if columns == 2 else for_one
            second = 1 if n_rows >= together else 0  # fewer rows go one by one
            for first in range(0, n_rows, together if second else 1):
                row = min(first, n_rows - together) if second else first  # the last ones may be taken twice
                w, s = weights + row * row_bytes, scales + row * scale_bytes
                e, es = (ends + row * STEP, ends + _CHUNK * STEP + row * SCALES) if ends else (0, 0)
                to = sums + 4 * (i * _CHUNK + row)
                if columns == 4:
                    four(w, row_bytes, s, scale_bytes, e, es, vectors, stride, second, to)
                elif columns == 2:
                    two(w, row_bytes, s, scale_bytes, e, es, vectors, stride, second, to)
                else:
                    one(w, row_bytes, s, scale_bytes, e, es, vectors, stride, second, to)
            i += columns

    return sums_of


@device
def _no_sums(weights, row_bytes, scales, scale_bytes, ends, n_rows, x, stride, n, sums):
    """Stands for what is never called on this CPU, and so need not be compiled."""


_sums_int8, _sums_bfloat16, _sums_float32 = map(_make_sums, (INT8, BFLOAT16, FLOAT32))
_sums_in_runs = _make_sums(MXFP4, DIGITS, in_runs=True) if BYTE_DOTS else _no_sums
_sums_in_steps = _make_sums(MXFP4, DIGITS) if _ALWAYS_IN_DIGITS else _no_sums
_sums_of_few_digits = _make_sums(MXFP4, FEW_DIGITS, in_runs=True) if DIGITS_FOR_MANY else _no_sums
_sums_of_floats = _no_sums if _ALWAYS_IN_DIGITS else _make_sums(MXFP4)


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
    first = 4 * (target * n_out + row)
    for i in range(n_rows):
        addend = get_float(job.addends + first + 4 * i) if job.addends else np.float32(0)
        set_float(job.out + first + 4 * i, get_float(sums + 4 * i) * factor + addend)
