"""How weights lie in memory, and in which order vectors must lie to meet them.

All weights are read as vectors of 32-bit words. A word holds 8 weights of MXFP4, 2 of bfloat16, 1 of float32, and gives
them up one after another: so out of LANES words come first the weights at places 0, n, 2n, ... , then those at 1, n +
1, ... The vectors that they meet are put in the same order (here: spread), step by step, a step being what LANES words
hold. In a last step of fewer words the same holds for these.
"""

from gptoss_lab.ops.compile import device
from gptoss_lab.ops.simd import (
    LANES,
    bfloat16_weights,
    float32_weights,
    get_byte,
    mxfp4_weights,
    set_byte,
)

# Formats, named by the number of weights in a word.
FLOAT32, BFLOAT16, MXFP4 = 1, 2, 8

STEP = 4 * LANES
"""Bytes of a row that are read at a time."""
SCALES = LANES // 4
"""Scales (bytes, MXFP4) that belong to them."""

WEIGHTS = {FLOAT32: float32_weights, BFLOAT16: bfloat16_weights, MXFP4: mxfp4_weights}
"""Functions for kernels: (words, which) -> the weights number `which` of every word."""


@device
def row_bytes(format, n_in):
    return 4 * n_in // format


@device
def scale_bytes(format, n_in):
    return n_in // 32 if format == MXFP4 else 0


@device
def copy_tails(rows, bytes_a_row, step, n_rows, to):
    """Copies what is left of each row after the last whole step; zeros fill it up to a step."""
    left = bytes_a_row % step
    if left:
        for row in range(n_rows):
            source, target = rows + (row + 1) * bytes_a_row - left, to + row * step
            for i in range(step):
                set_byte(target + i, get_byte(source + i) if i < left else 0)
