"""Weights decoded into a buffer that stays in the L1 cache, for kernels that meet them with many vectors."""

from typing import Any

from gptoss_lab.ops.compile import device, inner_loop
from gptoss_lab.ops.formats import (
    INT8,
    MXFP4,
    SCALES,
    STEP,
    copy_ends,
    load_scales,
    load_scales_of_int8,
    load_words,
    store_pairs,
    store_weights,
)
from gptoss_lab.ops.simd import prefetch, zeros
from gptoss_lab.ops.target import LANES


def make_decode(format: int, pairs: bool, n_rows_together: int, row_stride: int, whole_steps: bool = False) -> Any:
    """A function for kernels: n words of each of up to n_rows_together rows, from step `first_step` on, to rows
    row_stride bytes apart.

    Words are numbers in spread order, or `pairs` of bfloat16 as they come. A last step of fewer words is as much
    shorter, unless whole_steps: then it is filled up with anything, which zeros have to meet. `last` says that a whole
    step at the rows' end might leave the matrix; then `ends` is memory for a copy of the ends. Memory is asked for rows
    that follow, soon enough for it to answer.
    """
    ahead = max(n_rows_together, 16)
    words_a_word = format // 2 if pairs else format  # of those that are stored
    vector = 4 * LANES

    @device
    def decode_step(weights, scales, width, to):
        if pairs:
            store_pairs(to, weights, scales, format)
        elif format == MXFP4:
            store_weights(to, width, load_words(weights, 0, 1), load_scales(scales, 0, 1), format)
        elif format == INT8:
            store_weights(to, width, load_words(weights, 0, 1), load_scales_of_int8(scales, 0, 1), format)
        else:
            store_weights(to, width, load_words(weights, 0, 1), zeros(1), format)

    @inner_loop
    def decode(weights, bytes_a_row, scales, scale_bytes_a_row, n_rows, last, first_step, n, to, ends):
        whole = n // (words_a_word * LANES)
        width = n % (words_a_word * LANES) // words_a_word
        if whole > bytes_a_row // STEP - first_step:  # n was rounded up to a step that the row does not fill
            whole, width = whole - 1, LANES
        if width and last:
            copy_ends(weights, bytes_a_row, STEP, n_rows, ends)
            copy_ends(scales, scale_bytes_a_row, SCALES, n_rows, ends + n_rows_together * STEP)
        for row in range(n_rows):
            w = weights + row * bytes_a_row + first_step * STEP
            s = scales + row * scale_bytes_a_row + first_step * SCALES
            target = to + row * row_stride
            for line in range(0, n * 4 // words_a_word, 64):
                prefetch(w + ahead * bytes_a_row + line)
            for i in range(whole):
                decode_step(w + i * STEP, s + i * SCALES, LANES, target + i * words_a_word * vector)
            if width:
                w, s = w + whole * STEP, s + whole * SCALES
                if last:
                    w, s = ends + row * STEP, ends + n_rows_together * STEP + row * SCALES
                decode_step(w, s, LANES if whole_steps else width, target + whole * words_a_word * vector)

    return decode
