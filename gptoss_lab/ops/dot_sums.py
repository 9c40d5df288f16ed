"""Matrix times vector, for few vectors: weights stream from memory once, and each output is a dot product along the
lanes. Weights are decoded for a few vectors at a time, just when they meet them.
"""

from gptoss_lab.ops.compile import device, inner_loop
from gptoss_lab.ops.digit_products import add_run, add_step, in_ones
from gptoss_lab.ops.digits import RUN
from gptoss_lab.ops.formats import (
    BFLOAT16,
    FLOAT32,
    INT8,
    MXFP4,
    SCALED,
    SCALES,
    STEP,
    add_products,
    add_scaled,
    copy_ends,
    load_scales,
    load_scales_of_int8,
    load_words,
)
from gptoss_lab.ops.simd import prefetch, store_sums, zeros
from gptoss_lab.ops.target import BYTE_DOTS, FORESEES_ROWS, INSTRUCTION_SET, LANES

CHUNK = 2 * LANES
"""Rows of weights, at most, whose sums lie together: [vector][row]."""
ENDS = CHUNK * (STEP + SCALES)
"""Bytes for a copy of what is left of each of them, and of its scales, after the last whole step."""

IN_DIGITS_ALWAYS = BYTE_DOTS and INSTRUCTION_SET == "avx512"
"""Whether all vectors that meet MXFP4 are whole numbers: on AVX2, which takes two steps to add products up, only one by
itself is.
"""

_ROWS = 2  # rows whose sums are in registers together
_ROWS_IN_STEPS, _ROWS_IN_RUNS = 4, 2 if INSTRUCTION_SET == "avx512" else 1  # of MXFP4 that meet digits
_MOST_IN_RUNS = 2 if INSTRUCTION_SET == "avx512" else 1  # vectors: digits fill the registers sooner
_ROWS_OF_FOUR = 4 if INSTRUCTION_SET == "avx512" else 2  # the same for four vectors, which thus leave the L2 cache less
_AHEAD = 6144  # bytes ahead, for each row read together, memory is asked for; much later or sooner is slower


@device
def copy_ends_of_chunk(weights, row_bytes, scales, scale_bytes, n_rows, ends):
    copy_ends(weights, row_bytes, STEP, n_rows, ends)
    copy_ends(scales, scale_bytes, SCALES, n_rows, ends + CHUNK * STEP)


def _make_sums(format, digits=False, in_runs=False):
    """The sums of a chunk, for weights of one format, and vectors in spread order or as digits."""
    load_factors = load_scales_of_int8 if format == INT8 else load_scales
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
                return add_step(totals, weights, row_bytes, scales, scale_bytes, x, stride, n_rows)
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
                    totals = add_run(totals, w, between, s, between_scales, at, stride, n_rows)
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
            store_sums(sums, second * 4, 4 * CHUNK, totals, n_columns)

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
                e, es = (ends + row * STEP, ends + CHUNK * STEP + row * SCALES) if ends else (0, 0)
                to = sums + 4 * (i * CHUNK + row)
                if columns == 4:
                    four(w, row_bytes, s, scale_bytes, e, es, vectors, stride, second, to)
                elif columns == 2:
                    two(w, row_bytes, s, scale_bytes, e, es, vectors, stride, second, to)
                else:
                    one(w, row_bytes, s, scale_bytes, e, es, vectors, stride, second, to)
            i += columns

    return sums_of


@device
def no_sums(weights, row_bytes, scales, scale_bytes, ends, n_rows, x, stride, n, sums):
    """Stands for what is never called on this CPU, and so need not be compiled."""


sums_int8, sums_bfloat16, sums_float32 = map(_make_sums, (INT8, BFLOAT16, FLOAT32))
sums_mxfp4 = no_sums if IN_DIGITS_ALWAYS else _make_sums(MXFP4)
sums_in_runs = _make_sums(MXFP4, digits=True, in_runs=True) if BYTE_DOTS else no_sums
sums_in_steps = _make_sums(MXFP4, digits=True) if IN_DIGITS_ALWAYS else no_sums
