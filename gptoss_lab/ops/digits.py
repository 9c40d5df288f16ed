"""Vectors as whole numbers of three digits, for weights of MXFP4: each weight is looked up once, as a byte, and an
instruction multiplies four times as many as in float32. For CPUs with BYTE_DOTS (see `target`). How weights meet few of
them is in `digit_products`; how they meet many, for whom digits are stored otherwise, in `looked_up` and `winograd`.

Each block of 32 elements has a factor of its own, so that its largest comes near 2^22: as exact, next to that, as
float32, or nearly so. Twice a weight is a whole number from -12 to 12, and sums of whole numbers are exact: that of a
block has just room in 32 bits.
"""

from functools import reduce
from typing import Any

from llvmlite import ir
from numba.core import types

from gptoss_lab.ops.formats import STEP
from gptoss_lab.ops.target import BYTE_DOTS, INSTRUCTION_SET
from gptoss_lab.ops.vectors import (
    F32,
    I8,
    I32,
    I64,
    INTS,
    call,
    columns_of_four,
    constant,
    emitted,
    load_from,
    pointer,
    shuffled,
    splat_of,
)

# A step of weights meets so many vectors, of which each of its blocks (four of AVX-512, two of AVX2) has a part: the
# digits (from -128 to 127, the highest first) of the elements at even and at odd places, what takes the weights' offset
# away again, and the factor.
VECTORS = 8
PART = 16
"""Bytes of a vector that belong to one block."""
DIGITS, CORRECTION, FACTOR = 3, 6, 7

BITS = (7, 8) if INSTRUCTION_SET == "avx2" else (8, 8)
"""What the last two digits take; the first takes 8."""
OFFSET = 12
"""Makes twice a weight a number without a sign."""

RUN = 4
"""Steps of a row that are scaled together, those of a block in one lane."""
WEIGHTS_IN_COLUMNS = INSTRUCTION_SET == "avx512"
"""Whether it is the weights that are put together so, and the digits that meet them; or else what they sum up to."""

# Where scales are added to exponents (see `digit_products`), factors are stored 2^47 times too small, and sums come out
# as 2^80 times what they are. That leaves elements from 3e-17 on, and products to 3e14: far more than there is behind a
# norm, or behind SwiGLU's limit.
IN_EXPONENTS = INSTRUCTION_SET == "avx512"
SHRUNK = 47
_LEAST = 2.0**-55 if IN_EXPONENTS else 1e-30  # what is smaller counts as this, when a factor is chosen
# So large may all numbers of a block be, if the sum of their products is to have 32 bits.
_ROOM = 2**31 // (OFFSET * 32) - 1

_FLOATS_OF_HALF, _INTS_OF_HALF, _BYTES_OF_HALF = (ir.VectorType(kind, 16) for kind in (F32, I32, I8))  # half a block
_INTS_OF_PART = ir.VectorType(I32, 4)


@emitted(types.void, *[types.int64] * 3)
def store_digits(builder, x, to, stride):
    """Puts 32 elements where they meet a block: into its parts of vectors, the first of which is at `to`, the next
    `stride` bytes on.
    """
    if not BYTE_DOTS:  # nobody may ask for it
        return
    numbers, factor = whole_numbers(builder, x, reach_of(127, BITS))
    offsets = builder.mul(_sums_of_four(builder, builder.add(*numbers)), constant(_INTS_OF_PART, -OFFSET))
    vectors = [builder.trunc(vector, _BYTES_OF_HALF) for digit in digits_of(builder, numbers, BITS) for vector in digit]
    vectors += [offsets, splat_of(builder, factor, ir.VectorType(factor.type, 4))]
    for which, vector in enumerate(vectors):
        builder.store(vector, pointer(builder, to, vector.type, stride, which), align=4)


@emitted(types.void, types.int64)
def join_run(builder, first):
    """Makes the vectors of a run of steps, the first of which is at an address, those that a run's sums meet."""
    if not BYTE_DOTS:  # nobody may ask for it
        return
    steps = [builder.add(first, I64(step * VECTORS * STEP)) for step in range(RUN)]

    def columns(which: int) -> list:
        return columns_of_four(builder, [load_from(builder, step, INTS, I64(STEP), which) for step in steps])

    def put(value: Any, which: int, step: Any = first) -> None:
        builder.store(value, pointer(builder, step, INTS, I64(STEP), which), align=4)

    if WEIGHTS_IN_COLUMNS:
        for which in range(2 * DIGITS):
            for step, column in zip(steps, columns(which), strict=True):
                put(column, which, step)
    put(reduce(builder.add, columns(CORRECTION)), CORRECTION)
    put(columns(FACTOR)[0], FACTOR)  # the same in all of them


def whole_numbers(builder: ir.IRBuilder, x: Any, reach: int, in_bfloat16: bool = False) -> tuple[list, Any]:
    """32 elements as multiples of a factor, up to `reach` and a little further, for what may come of rounding: those at
    even places, and those at odd ones. And the factor, as it meets sums of products with twice the weights.
    """
    halves = [load_from(builder, x, _FLOATS_OF_HALF, I64(64), half) for half in range(2)]
    factor = _factor(builder, _largest(builder, halves), reach)
    if in_bfloat16:
        halves = [_in_bfloat16(builder, half) for half in halves]
    inverse = splat_of(builder, builder.fdiv(F32(0.5), factor), _FLOATS_OF_HALF)  # twice the weights meet them
    whole = [_nearest_ints(builder, builder.fmul(half, inverse)) for half in halves]
    parts = [shuffled(builder, whole[0], whole[1], range(odd, 32, 2)) for odd in range(2)]
    return parts, _before_scale(builder, factor) if IN_EXPONENTS else factor


def reach_of(first: int, bits: tuple[int, ...]) -> int:
    """What numbers may reach whose first digit is not to go beyond `first`; so that a sum of products has room too."""
    *between, last = bits
    for n in between:
        first = (first << n) + (1 << n - 1) - 1
    return min(first << last, _ROOM)


def digits_of(builder: ir.IRBuilder, numbers: list, bits: tuple[int, ...]) -> list:
    """The digits of vectors of numbers, the highest first; digits after that one take so many bits."""
    digits: list = []
    for n in reversed(bits):
        both = [_last_digit(builder, vector, n) for vector in numbers]
        numbers, last = ([each[which] for each in both] for which in range(2))
        digits.insert(0, last)
    return [numbers, *digits]


def _last_digit(builder: ir.IRBuilder, numbers: Any, bits: int) -> tuple[Any, Any]:
    """Numbers without their lowest bits, to the nearest, and what is left: a digit that may be negative."""
    half, shift = constant(_INTS_OF_HALF, 1 << bits - 1), constant(_INTS_OF_HALF, bits)
    rest = builder.ashr(builder.add(numbers, half), shift)
    return rest, builder.sub(numbers, builder.shl(rest, shift))


def _factor(builder: ir.IRBuilder, largest: Any, reach: int) -> Any:
    """What a block's digits are multiples of, halved as the weights are doubled."""
    factor = builder.fmul(largest, F32(0.5 / reach))
    if not IN_EXPONENTS:
        return factor
    # The next larger number of bfloat16: the lower half of what is stored has to be zero.
    upwards = builder.add(builder.bitcast(factor, I32), I32(0xFFFF))
    return builder.bitcast(builder.and_(upwards, I32(-0x10000)), F32)


def _before_scale(builder: ir.IRBuilder, factor: Any) -> Any:
    """A factor that meets scales in exponents: twice its upper half, without a sign; or the most that there can be."""
    finite = builder.fcmp_ordered("<", factor, F32(float("inf")))
    doubled = builder.shl(builder.sub(builder.bitcast(factor, I32), I32(SHRUNK << 23)), I32(1))
    return builder.bitcast(builder.select(finite, doubled, I32(-0x20000)), F32)


def _largest(builder: ir.IRBuilder, vectors: list) -> Any:
    """The largest magnitude, if only just; or not a number, where some element is not one."""
    bits = [builder.and_(builder.bitcast(v, _INTS_OF_HALF), constant(_INTS_OF_HALF, 0x7FFFFFFF)) for v in vectors]
    larger = builder.select(builder.icmp_unsigned(">", *bits), *bits)
    largest = builder.bitcast(call(builder, "llvm.vector.reduce.umax.v16i32", I32, larger), F32)
    return builder.select(builder.fcmp_unordered(">", largest, F32(_LEAST)), largest, F32(_LEAST))


def _in_bfloat16(builder: ir.IRBuilder, values: Any) -> Any:
    """Rounded to the nearest, and there to the even one."""
    bits = builder.bitcast(values, _INTS_OF_HALF)
    odd = builder.and_(builder.lshr(bits, constant(_INTS_OF_HALF, 16)), constant(_INTS_OF_HALF, 1))
    rounded = builder.add(bits, builder.add(odd, constant(_INTS_OF_HALF, 0x7FFF)))
    return builder.bitcast(builder.and_(rounded, constant(_INTS_OF_HALF, -0x10000)), values.type)


def _nearest_ints(builder: ir.IRBuilder, values: Any) -> Any:
    return builder.fptosi(call(builder, "llvm.rint.v16f32", _FLOATS_OF_HALF, values), _INTS_OF_HALF)


def _sums_of_four(builder: ir.IRBuilder, numbers: Any) -> Any:
    """The sums of lanes 0 to 3, 4 to 7 and so on."""
    parts = [shuffled(builder, numbers, numbers, range(i, 16, 4)) for i in range(4)]
    return builder.add(builder.add(parts[0], parts[1]), builder.add(parts[2], parts[3]))
