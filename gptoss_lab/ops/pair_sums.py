"""Vectors that are rounded to bfloat16, and more than a few, but too few for panels: some rows and words of weights at
a time are decoded into a buffer that stays in the L1 cache, and meet them in dot products.
"""

from gptoss_lab.ops.compile import device, inner_loop
from gptoss_lab.ops.decoding import make_decode
from gptoss_lab.ops.dot_sums import CHUNK
from gptoss_lab.ops.formats import BFLOAT16, INT8, MXFP4, SCALES, STEP
from gptoss_lab.ops.simd import add_outer_of_pairs, add_to, load, load_tile, set_float, splat, store, sum_lanes, zeros
from gptoss_lab.ops.target import LANES

TOGETHER = 16
"""Vectors, at most."""

_ROWS_DECODED = 4  # rows that are decoded together, and whose sums are in registers together, for four vectors
_WORDS = 288  # words of them, about
_VECTOR = 4 * LANES
_DECODED_ROW = 4 * (_WORDS + 8 * LANES)
_PARTIAL = CHUNK * TOGETHER * _VECTOR

MEMORY = _PARTIAL + _ROWS_DECODED * (_DECODED_ROW + STEP + SCALES)
"""Bytes for what is decoded, and for sums that are not added up over their lanes yet."""


@device
def sums_of_pairs(format, n_in, weights, row_bytes, scales, scale_bytes, last, n_rows, x, length, n, sums, memory):
    """sums[vector][row], for n vectors of `length` elements and n_rows rows; `last`: they end where the matrix may."""
    partial, decoded = memory, memory + _PARTIAL
    ends = decoded + _ROWS_DECODED * _DECODED_ROW
    step = format // 2 * LANES
    n_steps = max(1, _WORDS // step)
    for i in range(n_rows * TOGETHER):
        store(partial + i * _VECTOR, splat(0.0))
    for word in range(0, length // 2, n_steps * step):
        n_words = min(n_steps * step, (n_in + 1) // 2 - word)
        n_vectors = min(n_steps * step, length // 2 - word) // LANES
        for row in range(0, n_rows, _ROWS_DECODED):
            k = min(_ROWS_DECODED, n_rows - row)
            w, s = weights + row * row_bytes, scales + row * scale_bytes
            if format == MXFP4:
                _decode_mxfp4(w, row_bytes, s, scale_bytes, k, last, word // step, n_words, decoded, ends)
            elif format == INT8:
                _decode_int8(w, row_bytes, s, scale_bytes, k, last, word // step, n_words, decoded, ends)
            else:
                _decode_bfloat16(w, row_bytes, 0, 0, k, last, word // step, n_words, decoded, ends)
            i = 0
            while i < n:
                at, to = x + 4 * (i * length + word), partial + (row * TOGETHER + i) * _VECTOR
                if n - i >= 4:
                    _add_four(decoded, at, 4 * length, n_vectors, to)
                    i += 4
                elif n - i >= 2:
                    _add_two(decoded, at, 4 * length, n_vectors, to)
                    i += 2
                else:
                    _add_one(decoded, at, 4 * length, n_vectors, to)
                    i += 1
    for row in range(n_rows):
        for i in range(n):
            set_float(sums + 4 * (i * CHUNK + row), sum_lanes(load(partial + (row * TOGETHER + i) * _VECTOR)))


def _make_add(n_columns):
    n_sums = _ROWS_DECODED * n_columns

    @inner_loop
    def add_tile(weights, x, stride, n, sums):
        """Adds to the sums [_ROWS_DECODED][n_columns] of products, lane by lane, those of n vectors more."""
        totals = zeros(n_sums)
        for i in range(n):
            rows = load_tile(weights + i * _VECTOR, _DECODED_ROW, _ROWS_DECODED)
            totals = add_outer_of_pairs(totals, rows, load_tile(x + i * _VECTOR, stride, n_columns))
        add_to(sums, TOGETHER * _VECTOR, _VECTOR, totals, n_columns)

    return add_tile


_add_one, _add_two, _add_four = _make_add(1), _make_add(2), _make_add(4)


_decode_mxfp4, _decode_int8, _decode_bfloat16 = (
    make_decode(format, True, _ROWS_DECODED, _DECODED_ROW, whole_steps=True) for format in (MXFP4, INT8, BFLOAT16)
)
