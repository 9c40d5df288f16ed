"""Two products for one: x w + y v = (x + v) (y + w) - x y - v w. Of what is taken away, one part depends on the vector
alone and the other on the weights alone, so that a matrix and many vectors have it worked out once for each. (Winograd,
"A New Algorithm for Inner Product", IEEE Transactions on Computers C-17, 1968, pp. 693-694.)

In float32 this would lose what is small beside its neighbour. Whole numbers lose nothing: all of it is exact, modulo
2^32. So it is for digits (see `digits`) that meet weights of MXFP4 looked up once for all vectors (see `looked_up`).
Zen 4 adds bytes in more units than it multiplies them in. With the last digit multiplied as ever, and the one or two
before it in such pairs, all units have about as much to do.

Neighbours are the elements at an even place and at the odd one after it. Weights come with their OFFSET, which makes
them bytes without a sign. One factor, the even place's digit and the odd place's weight, is made such a byte too; the
other has a sign.
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba.core import types

from gptoss_lab.ops.digit_products import add_bytes
from gptoss_lab.ops.digits import CORRECTION, FACTOR, OFFSET, PART, VECTORS, digits_of, reach_of, whole_numbers
from gptoss_lab.ops.target import DIGITS_FOR_MANY, LANES
from gptoss_lab.ops.vectors import I8, I32, I64, call, constant, emitted_sized, pointer

BLOCK = VECTORS * PART
"""Bytes of a vector's block: all its parts stand side by side."""
FEW_DIGITS = 2
"""They say more than bfloat16 does."""
BITS = (7, 8)
"""What the last two of three digits take, or the last one of two."""

_FIRST = 127 - OFFSET  # so much a digit may be, as its sum with a weight has to be a byte
_UNSIGNED = 128  # more than a byte with a sign: one without
_STORED_WITH = _UNSIGNED - OFFSET, -OFFSET  # digits of even places and of odd ones, as weights come with their offset

_BYTES = ir.VectorType(I8, 4 * LANES)
_BYTES_OF_PART, _INTS_OF_PART = ir.VectorType(I8, PART), ir.VectorType(I32, PART // 4)


@emitted_sized(lambda n: types.void, types.int64, types.int64)
def store_block(builder, x, to, n_digits):
    """Puts 32 elements into a block: as three digits; or, rounded to bfloat16 before, as two.

    Behind them go, a word each, what a block's sums are corrected by on the vector's account, and the factor.
    """
    if not DIGITS_FOR_MANY:  # nobody may ask for it
        return
    bits = BITS[1 - n_digits :]
    numbers, factor = whole_numbers(builder, x, reach_of(_FIRST, bits), in_bfloat16=n_digits == FEW_DIGITS)
    digits = [[builder.trunc(half, _BYTES_OF_PART) for half in digit] for digit in digits_of(builder, numbers, bits)]
    *crossed, last = digits
    too_much = constant(_INTS_OF_PART, 0)
    for (even, odd), n_bits in zip(crossed, bits, strict=True):
        too_much = add_bytes(builder, too_much, _plus(builder, even, _UNSIGNED), odd)
        too_much = builder.shl(too_much, constant(_INTS_OF_PART, n_bits))
    for half in last:
        too_much = add_bytes(builder, too_much, constant(_BYTES_OF_PART, OFFSET), half)
    correction = builder.neg(call(builder, "llvm.vector.reduce.add.v4i32", I32, too_much))
    parts = [_plus(builder, half, by) for digit in crossed for half, by in zip(digit, _STORED_WITH, strict=True)] + last
    for which, value in [*enumerate(parts), (CORRECTION, correction), (FACTOR, factor)]:
        builder.store(value, pointer(builder, to, value.type, I64(PART), which), align=4)


def correction_of(builder: ir.IRBuilder, total: Any, even: Any, odd: Any) -> Any:
    """total + what a digit's sums are corrected by on the account of weights, those at even and at odd places."""
    even, odd = (builder.bitcast(weights, _BYTES) for weights in (even, odd))
    minus_even = builder.sub(constant(_BYTES, OFFSET), even)
    return add_bytes(builder, total, _plus(builder, odd, _STORED_WITH[0]), minus_even)


def add_crossed(builder: ir.IRBuilder, total: Any, weights: Sequence, digits: Sequence) -> Any:
    """total + the products of weights and a digit, both at even and at odd places; but for the corrections."""
    pairs = [[builder.bitcast(each, _BYTES) for each in pair] for pair in zip(digits, reversed(weights), strict=True)]
    return add_bytes(builder, total, *(builder.add(*pair) for pair in pairs))


def _plus(builder: ir.IRBuilder, vector: Any, number: int) -> Any:
    """Bytes, of which only the value modulo 256 matters."""
    return builder.add(vector, constant(vector.type, (number + 128) % 256 - 128))
