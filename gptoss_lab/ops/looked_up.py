"""Weights of MXFP4 that many vectors of digits meet (see `winograd`): looked up once for all of them, with a row in
each lane.

So a block's sum is one lane's, each digit of a vector is the same for all lanes, and nothing is left to add up across
them. What is looked up of some blocks of 32 rows stays in the L1 cache, where all vectors meet it. (As in Goto and van
de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008.)
"""

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from gptoss_lab.ops.compile import device, inner_loop
from gptoss_lab.ops.digit_products import add_bytes, doubled, followed, in_ones, scaled_in_exponents
from gptoss_lab.ops.digits import CORRECTION, DIGITS, FACTOR, PART
from gptoss_lab.ops.dot_sums import CHUNK
from gptoss_lab.ops.simd import add_to, load, prefetch, splat, store, zeros
from gptoss_lab.ops.target import DIGITS_FOR_MANY, LANES
from gptoss_lab.ops.vectors import (
    FLOATS,
    I32,
    I64,
    INTS,
    Ints,
    array_of,
    columns_of_four,
    constant,
    emitted,
    fma_of,
    in_order,
    items_of,
    load_from,
    pointer,
    shuffled,
    splat_of,
)
from gptoss_lab.ops.winograd import BITS, BLOCK, FEW_DIGITS, add_crossed, correction_of

BLOCKS = 16
"""Of a row, which are looked up together; fewer a row may not have."""

_VECTOR = 4 * LANES
# Vectors of a block, with a row in each lane: four bytes of those at even places, four times, and of those at odd ones;
# the scale, in the highest byte; and what a digit's sums are corrected by on the weights' account.
_EVEN, _ODD, _SCALES, _CORRECTION = 0, 4, 8, 9
_HALF = 10 * _VECTOR
_BLOCK_OF_ROWS = 2 * _HALF
_ENTRY = 16  # bytes of a block in a row
MEMORY = BLOCKS * _BLOCK_OF_ROWS
"""Bytes for what is looked up."""


@device
def _sums_looked_up(weights, row_bytes, scales, scale_bytes, x, stride, n_digits, n, sums, memory):
    """sums[vector][row]: of CHUNK rows, and n vectors of n_digits digits, `stride` bytes apart."""
    for i in range(2 * n):
        store(sums + i * _VECTOR, splat(0.0))
    n_blocks = scale_bytes
    for first in range(0, n_blocks, BLOCKS):
        n_together = min(BLOCKS, n_blocks - first)
        at = weights + first * _ENTRY
        blocks = _look_up_blocks(at, row_bytes, scales + first, scale_bytes, n_together, memory)
        ahead = at + CHUNK * row_bytes  # what comes next, if this is not the last
        _add_products(blocks, n_together, x + first * BLOCK, stride, n_digits, n, sums, ahead, row_bytes)
    for i in range(2 * n):
        store(sums + i * _VECTOR, in_ones((load(sums + i * _VECTOR),))[0])


@device
def _look_up_blocks(weights, row_bytes, scales, scale_bytes, n_blocks, memory):
    """Some blocks of CHUNK rows; where they are then."""
    # Scales come by BLOCKS. At a row's end some of those before come once more.
    before = BLOCKS - n_blocks
    blocks = memory + before * _BLOCK_OF_ROWS
    for half in range(2):
        row = half * LANES
        _spread_scales(scales + row * scale_bytes - before, scale_bytes, memory + half * _HALF)
        for block in range(n_blocks):
            at = weights + row * row_bytes + block * _ENTRY
            _look_up(at, row_bytes, blocks + block * _BLOCK_OF_ROWS + half * _HALF)
    return blocks


@device
def _add_products(blocks, n_blocks, x, stride, n_digits, n, sums, ahead, row_bytes):
    """Adds to sums[vector][row] what some blocks and n vectors have for products. The first few vectors ask for memory
    ahead.
    """
    i = 0
    while i < n:
        at, to = x + i * stride, sums + 2 * i * _VECTOR
        if n - i >= 3 and n - i != 4:  # four: two and two
            _add_three(blocks, n_blocks, at, stride, n_digits, to, ahead, row_bytes)
            i += 3
        elif n - i >= 2:
            _add_two(blocks, n_blocks, at, stride, n_digits, to, ahead, row_bytes)
            i += 2
        else:
            _add_one(blocks, n_blocks, at, stride, n_digits, to, ahead, row_bytes)
            i += 1
        ahead = 0


def _make_add(n_vectors):
    n_sums = 2 * n_vectors

    @inner_loop
    def add(blocks, n_blocks, x, stride, n_digits, sums, ahead, row_bytes):
        """The same for n_vectors vectors, whose sums are in registers together."""
        totals = zeros(n_sums)
        rows_each = (CHUNK + n_blocks - 1) // n_blocks  # to be asked for with each block
        for block in range(n_blocks):
            weights, at = blocks + block * _BLOCK_OF_ROWS, x + block * BLOCK
            if ahead:
                for _ in range(rows_each):
                    for line in range(0, BLOCKS * _ENTRY, 64):
                        prefetch(ahead + line)
                    ahead += row_bytes
            if n_digits == FEW_DIGITS:
                products = _products(weights, at, stride, n_vectors, FEW_DIGITS)
            else:
                products = _products(weights, at, stride, n_vectors, DIGITS)
            totals = _add_scaled(totals, products, weights, at, stride)
        add_to(sums, _VECTOR, 2 * _VECTOR, totals, n_vectors)

    return add


@emitted(types.void, types.int64, types.int64, types.int64)
def _look_up(builder, weights, row_bytes, to):
    """A block of each of LANES rows."""
    vectors = {}
    correction = constant(INTS, 0)
    for i, words in enumerate(_columns(builder, weights, row_bytes)):
        even, odd = doubled(builder, words)
        vectors[_EVEN + i], vectors[_ODD + i] = even, odd
        correction = correction_of(builder, correction, even, odd)
    for which, vector in [*vectors.items(), (_CORRECTION, correction)]:
        builder.store(vector, pointer(builder, to, INTS, I64(_VECTOR), which), align=4)


@emitted(types.void, types.int64, types.int64, types.int64)
def _spread_scales(builder, scales, scale_bytes, to):
    """The scales of BLOCKS blocks of each of LANES rows."""
    for i, words in enumerate(_columns(builder, scales, scale_bytes)):
        for byte in range(4):
            moved = builder.shl(words, constant(INTS, 24 - 8 * byte))
            highest = builder.and_(moved, constant(INTS, -0x1000000))
            at = builder.add(to, I64(_SCALES * _VECTOR))
            builder.store(highest, pointer(builder, at, INTS, I64(_BLOCK_OF_ROWS), 4 * i + byte), align=4)


def _columns(builder: ir.IRBuilder, rows: Any, row_bytes: Any) -> list:
    """The first words of LANES rows, the second ones and so on: four, with a row in each lane."""
    four = ir.VectorType(I32, 4)
    words = [load_from(builder, rows, four, row_bytes, row, align=1) for row in range(LANES)]
    joined = []
    for i in range(4):
        parts = words[i::4]
        while len(parts) > 1:
            parts = [
                shuffled(builder, first, second, range(2 * first.type.count))
                for first, second in zip(parts[::2], parts[1::2], strict=True)
            ]
        joined.append(parts[0])
    return columns_of_four(builder, joined)


@intrinsic(prefer_literal=True)
def _products(typingctx, weights, x, stride, n_vectors, n_digits):
    """[half, vector]: the sums of products of a block of weights and n_vectors vectors of n_digits digits."""
    n, last = n_vectors.literal_value, n_digits.literal_value - 1

    def codegen(context, builder, _, values):
        weights, x, stride, *_ = values

        def word(part: int, vector: int, i: int = 0) -> Any:
            return _everywhere(builder, x, part * PART + 4 * i, stride, vector)

        corrections = [correction for correction in _halves(builder, weights, _CORRECTION) for _ in range(n)]
        higher, lowest = list(corrections), 2 * [word(CORRECTION, vector) for vector in range(n)]
        for digit in range(last):
            if digit:
                higher = followed(builder, higher, BITS[digit - 1], corrections)
            for i in range(4):
                in_order(builder)
                even, odd = _halves(builder, weights, _EVEN + i), _halves(builder, weights, _ODD + i)
                for vector in range(n):
                    both = [word(2 * digit + place, vector, i) for place in range(2)]
                    for half, pair in enumerate(zip(even, odd, strict=True)):
                        at = half * n + vector
                        higher[at] = add_crossed(builder, higher[at], pair, both)
                    for half in range(2):
                        in_order(builder)  # a word that is read for one product alone needs no register
                        at = half * n + vector
                        for place in range(2) if last == 1 else [digit]:  # beside two digits, one place each
                            one = word(2 * last + place, vector, i)
                            lowest[at] = add_bytes(builder, lowest[at], (even, odd)[place][half], one)
        return array_of(builder, followed(builder, higher, BITS[-1], lowest))

    return signature(types.UniTuple(Ints, 2 * n), *[types.int64] * 3, n_vectors, n_digits), codegen


@intrinsic
def _add_scaled(typingctx, totals, sums, weights, x, stride):
    """totals[half, vector] + a block's sums, times scale and factor."""

    def codegen(context, builder, _, values):
        totals, sums, weights, x, stride = values
        totals, sums = items_of(builder, totals), items_of(builder, sums)
        n = len(totals) // 2
        factors = [_everywhere(builder, x, FACTOR * PART, stride, vector) for vector in range(n)]
        for half, scales in enumerate(_halves(builder, weights, _SCALES)):
            for vector in range(n):
                i = half * n + vector
                term = builder.sitofp(sums[i], FLOATS)
                totals[i] = fma_of(builder, term, scaled_in_exponents(builder, scales, factors[vector]), totals[i])
        return array_of(builder, totals)

    return signature(totals, totals, sums, *[types.int64] * 3), codegen


def _halves(builder: ir.IRBuilder, block: Any, which: int) -> list:
    """One of a block's vectors, for either half of the rows."""
    at = builder.add(block, I64(which * _VECTOR))
    return [load_from(builder, at, INTS, I64(_HALF), half) for half in range(2)]


def _everywhere(builder: ir.IRBuilder, x: Any, offset: int, stride: Any, vector: int) -> Any:
    """A word of a vector, in all lanes."""
    return splat_of(builder, load_from(builder, builder.add(x, I64(offset)), I32, stride, vector), INTS)


@device
def _nothing(weights, row_bytes, scales, scale_bytes, x, stride, n_digits, n, sums, memory):
    """Stands for what is never called on this CPU, and so need not be compiled."""


sums_looked_up = _sums_looked_up if DIGITS_FOR_MANY else _nothing
_add_one, _add_two, _add_three = (_make_add(n) for n in (1, 2, 3))
