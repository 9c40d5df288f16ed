"""Vectors as whole numbers of three digits, for weights of MXFP4: each weight is looked up once, as a byte, and an
instruction multiplies four times as many as in float32. For CPUs with BYTE_DOTS (see `target`).

Each block of 32 elements has a factor of its own, so that its largest comes near 2^23 (on AVX2, 2^22): as exact, next
to that, as float32, or nearly so. Twice a weight is a whole number from -12 to 12, and sums of whole numbers are exact.

A block's sum is multiplied by that factor and by the weights' scale, a power of two. AVX-512 has other units for whole
numbers than for products, and those for products are busy with digits: there the scale is added to the factor's
exponent. Both are without a sign, so that the sum is 2^127 times too large, less what the factor was made smaller by
beforehand.
"""

from collections.abc import Callable, Iterable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from gptoss_lab.mxfp4 import E2M1_VALUES, SCALE_BIAS
from gptoss_lab.ops.formats import SCALES, STEP, in_exponents, raw_scales
from gptoss_lab.ops.target import BYTE_DOTS, INSTRUCTION_SET, LANES
from gptoss_lab.ops.vectors import (
    F32,
    FLOATS,
    I8,
    I16,
    I32,
    I64,
    INTS,
    Floats,
    array_of,
    call,
    constant,
    emitted,
    fma_of,
    hidden,
    items_of,
    load_from,
    pointer,
    splat_of,
)

# A step of weights meets so many vectors, of which each of its blocks (four of AVX-512, two of AVX2) has a part: the
# digits (from -128 to 127, the highest first) of the elements at even and at odd places, what takes the weights' offset
# away again, and the factor.
VECTORS = 8
PART = 16
"""Bytes of a vector that belong to one block."""
_DIGITS, _CORRECTION, _FACTOR = 3, 6, 7

RUN = 4 if INSTRUCTION_SET == "avx2" else 1
"""Steps of a row whose sums are put together before they are scaled, which is faster on AVX2."""

_BITS = (7, 8) if INSTRUCTION_SET == "avx2" else (8, 8)  # what the second and the third digit take; the first, 8
_LARGEST = ((127 << _BITS[0]) + (1 << _BITS[0] - 1) - 1) << _BITS[1]  # three digits reach a little further
_IN_EXPONENTS = INSTRUCTION_SET == "avx512"
# Factors are stored 2^47 times too small, and sums come out as 2^80 times what they are. That leaves elements from
# 3e-17 on, and products to 3e14: far more than there is behind a norm, or behind SwiGLU's limit.
_SHRUNK = 47
_LEAST = 2.0**-55 if _IN_EXPONENTS else 1e-30  # what is smaller counts as this, when a factor is chosen
_OFFSET = 12  # makes twice a weight a number without a sign

_BYTES = ir.VectorType(I8, 4 * LANES)
_SHORTS = ir.VectorType(I16, 2 * LANES)
_FLOATS_OF_HALF, _INTS_OF_HALF, _BYTES_OF_HALF = (ir.VectorType(kind, 16) for kind in (F32, I32, I8))  # half a block
_FLOATS_OF_PART, _INTS_OF_PART = ir.VectorType(F32, 4), ir.VectorType(I32, 4)


@emitted(types.void, types.int64, types.int64)
def store_digits(builder, x, to):
    """Puts 32 elements where they meet a block: into its parts of vectors, the first of which is at `to`."""
    if not BYTE_DOTS:  # nobody may ask for it
        return
    halves = [load_from(builder, x, _FLOATS_OF_HALF, I64(64), half) for half in range(2)]
    factor = _factor(builder, _largest(builder, halves))
    inverse = splat_of(builder, builder.fdiv(F32(0.5), factor), _FLOATS_OF_HALF)  # twice the weights meet them
    whole = [_nearest_ints(builder, builder.fmul(half, inverse)) for half in halves]
    parts = [builder.shuffle_vector(*whole, _places(range(odd, 32, 2))) for odd in range(2)]
    offsets = builder.mul(_sums_of_four(builder, builder.add(*parts)), _all(_INTS_OF_PART, -_OFFSET))
    if _IN_EXPONENTS:
        factor = _before_scale(builder, factor)
    vectors = {_CORRECTION: offsets, _FACTOR: splat_of(builder, factor, _FLOATS_OF_PART)}
    for digit in reversed(range(_DIGITS)):
        for odd in range(2):
            rest, last = _last_digit(builder, parts[odd], _BITS[digit - 1]) if digit else (None, parts[odd])
            vectors[2 * digit + odd], parts[odd] = builder.trunc(last, _BYTES_OF_HALF), rest
    for which, vector in vectors.items():
        builder.store(vector, pointer(builder, to, vector.type, I64(STEP), which), align=4)


@intrinsic
def add_digits(typingctx, sums, words, scales, scale_stride, x, stride):
    """sums[i, j] + the products of row i's step of weights, scaled, and vector j's; `in_ones` says what they are.

    The rows' scales are `scale_stride` apart, the vectors `stride`.
    """

    def codegen(context, builder, _, values):
        totals, rows = (items_of(builder, value) for value in values[:2])
        if not BYTE_DOTS:  # nobody may ask for it
            return values[0]
        columns = [
            [load_from(builder, builder.add(values[4], I64(i * STEP)), INTS, values[5], j) for i in range(VECTORS)]
            for j in range(len(totals) // len(rows))
        ]
        bytes_of_scales = [raw_scales(builder, values[2], values[3], i) for i in range(len(rows))]
        weights = [_doubled(builder, row) for row in rows]
        pairs = [(row, column) for row in weights for column in columns]
        products = _sums_in_two_steps(builder, pairs) if INSTRUCTION_SET == "avx2" else _sums_at_once(builder, pairs)
        scaled = _scaling(builder)
        factors = [scaled(scales, column[_FACTOR]) for scales in bytes_of_scales for column in columns]
        terms = [builder.sitofp(product, FLOATS) for product in products]  # of 32 bits at most, rounded once
        return array_of(builder, [fma_of(builder, *each) for each in zip(terms, factors, totals, strict=True)])

    return signature(sums, sums, words, *[types.int64] * 4), codegen


@intrinsic
def in_ones(typingctx, sums):
    """Sums as the numbers that they are."""

    def codegen(context, builder, _, values):
        if not _IN_EXPONENTS:
            return values[0]
        unit = constant(FLOATS, 2.0 ** (_SHRUNK - SCALE_BIAS))
        return array_of(builder, [builder.fmul(total, unit) for total in items_of(builder, values[0])])

    return signature(sums, sums), codegen


@emitted(types.void, types.int64)
def join_run(builder, first):
    """Makes the corrections and factors of a run of steps, the first of which is at an address, those of its sums."""
    if RUN == 1:  # nobody may ask for it
        return
    steps = [builder.add(first, I64(step * VECTORS * STEP)) for step in range(RUN)]
    for which, kind in ((_CORRECTION, INTS), (_FACTOR, FLOATS)):
        joined = _joined(builder, [load_from(builder, step, kind, I64(STEP), which) for step in steps])
        if which == _FACTOR:  # which stood in four lanes
            joined = builder.fmul(joined, constant(FLOATS, 0.25))
        builder.store(joined, pointer(builder, first, kind, I64(STEP), which), align=4)


@emitted(Floats, types.int64, types.int64)
def products_of_run(builder, weights, x):
    """The products, unscaled, of a run of a row's steps and a vector: in each lane, those of a block."""
    sums = []
    for step in range(RUN):
        words = load_from(builder, weights, INTS, I64(STEP), step, align=1)
        digits = [load_from(builder, x, INTS, I64(STEP), step * VECTORS + i) for i in range(2 * _DIGITS)]
        sums.append(_sum_in_two_steps(builder, _doubled(builder, words), digits))
    correction, factor = (load_from(builder, x, INTS, I64(STEP), which) for which in (_CORRECTION, _FACTOR))
    products = builder.sitofp(builder.add(_joined(builder, sums), correction), FLOATS)
    return builder.fmul(products, builder.bitcast(factor, FLOATS))


@emitted(Floats, types.int64)
def load_scales_of_run(builder, address):
    """The scales of a run of a row's steps, in the lanes of their blocks."""
    raw = load_from(builder, address, ir.IntType(8 * SCALES * RUN), align=1)
    scales = builder.bitcast(splat_of(builder, raw, ir.VectorType(raw.type, STEP // (SCALES * RUN))), _BYTES)
    return in_exponents(builder, scales, [lane % 4 * SCALES + lane // 4 for lane in range(LANES)])


def _doubled(builder: ir.IRBuilder, words: Any) -> list:
    """Twice the weights, plus the offset, as bytes: those at even places, and those at odd ones."""
    codes = [builder.bitcast(code, _BYTES) for code in (words, builder.lshr(words, constant(INTS, 4)))]
    return [builder.bitcast(_look_up(builder, code), INTS) for code in codes]


def _look_up(builder: ir.IRBuilder, codes: Any) -> Any:
    table = ir.Constant(_BYTES, [int(2 * x) + _OFFSET for x in E2M1_VALUES] * (LANES // 4))
    if INSTRUCTION_SET == "avx2":
        return call(builder, "llvm.x86.avx2.pshuf.b", _BYTES, table, builder.and_(codes, _all(_BYTES, 15)))
    # A permutation of 64 entries heeds 6 bits, and each weight stands there four times: two bits do not matter.
    return call(builder, "llvm.x86.avx512.permvar.qi.512", _BYTES, table, codes)


def _sums_at_once(builder: ir.IRBuilder, pairs: list) -> list:
    """For each pair of a row and a vector, in each lane, the sum of 8 products.

    The pairs go side by side, and the last digit by itself: else products would wait for each other.
    """
    higher = [constant(INTS, 0) for _ in pairs]
    for digit in range(_DIGITS - 1):
        higher = [builder.shl(total, constant(INTS, 8)) if digit else total for total in higher]
        higher = _add_digit(builder, higher, pairs, digit)
    lowest = _add_digit(builder, [column[_CORRECTION] for _, column in pairs], pairs, _DIGITS - 1)
    return [
        builder.add(builder.shl(total, constant(INTS, 8)), last) for total, last in zip(higher, lowest, strict=True)
    ]


def _add_digit(builder: ir.IRBuilder, totals: list, pairs: list, digit: int) -> list:
    for odd in range(2):
        operands = [
            (total, row[odd], column[2 * digit + odd]) for total, (row, column) in zip(totals, pairs, strict=True)
        ]
        totals = [call(builder, "llvm.x86.avx512.vpdpbusd.512", INTS, *each) for each in operands]
    return totals


def _sums_in_two_steps(builder: ir.IRBuilder, pairs: list) -> list:
    return [builder.add(_sum_in_two_steps(builder, row, column), column[_CORRECTION]) for row, column in pairs]


def _sum_in_two_steps(builder: ir.IRBuilder, row: list, column: list) -> Any:
    """In 16 bits first, which have room for four products; then each digit in its place. Without the correction."""
    sums = []
    for digit, place in enumerate((-(2**15), 2**8, 1)):  # 2^15 itself takes more than 16 bits
        products = []
        for odd in range(2):
            operands = (builder.bitcast(vector, _BYTES) for vector in (row[odd], column[2 * digit + odd]))
            products.append(call(builder, "llvm.x86.avx2.pmadd.ub.sw", _SHORTS, *operands))
        products_of_four = builder.add(*products)
        sums.append(call(builder, "llvm.x86.avx2.pmadd.wd", INTS, products_of_four, _all(_SHORTS, place)))
    return builder.sub(builder.add(sums[1], sums[2]), sums[0])


def _joined(builder: ir.IRBuilder, vectors: list) -> Any:
    """The sums of each 4 lanes of 4 vectors, those of the same place side by side."""
    name = "llvm.x86.avx2.phadd.d" if vectors[0].type == INTS else "llvm.x86.avx.hadd.ps.256"
    while len(vectors) > 1:  # neighbours are added
        vectors = [call(builder, name, vectors[0].type, *vectors[i : i + 2]) for i in range(0, len(vectors), 2)]
    return vectors[0]


def _last_digit(builder: ir.IRBuilder, numbers: Any, bits: int) -> tuple[Any, Any]:
    """Numbers without their lowest bits, to the nearest, and what is left: a digit that may be negative."""
    half, shift = _all(_INTS_OF_HALF, 1 << bits - 1), _all(_INTS_OF_HALF, bits)
    rest = builder.ashr(builder.add(numbers, half), shift)
    return rest, builder.sub(numbers, builder.shl(rest, shift))


def _factor(builder: ir.IRBuilder, largest: Any) -> Any:
    """What a block's digits are multiples of, halved as the weights are doubled."""
    factor = builder.fmul(largest, F32(0.5 / _LARGEST))
    if not _IN_EXPONENTS:
        return factor
    # The next larger number of bfloat16: the lower half of what is stored has to be zero.
    upwards = builder.add(builder.bitcast(factor, I32), I32(0xFFFF))
    return builder.bitcast(builder.and_(upwards, I32(-0x10000)), F32)


def _before_scale(builder: ir.IRBuilder, factor: Any) -> Any:
    """A factor as `_scaled` wants it: twice its upper half, without a sign; or the most that there can be."""
    finite = builder.fcmp_ordered("<", factor, F32(float("inf")))
    doubled = builder.shl(builder.sub(builder.bitcast(factor, I32), I32(_SHRUNK << 23)), I32(1))
    return builder.bitcast(builder.select(finite, doubled, I32(-0x20000)), F32)


def _scaling(builder: ir.IRBuilder) -> Callable[[Any, Any], Any]:
    """What multiplies a factor by the scales of a step's blocks."""
    places = [lane // 4 for lane in range(LANES)]
    if not _IN_EXPONENTS:
        return lambda scales, factor: builder.fmul(
            in_exponents(builder, scales, places), builder.bitcast(factor, FLOATS)
        )
    # The scale goes into each lane's upper byte. With that as it is, and twice the factor's upper half, their mean is
    # the sum of scale and exponent. What float32 cannot hold becomes no number.
    order = [place if byte == 3 else 128 for place in places for byte in range(4)]
    # Knowing that order, LLVM would fetch each byte from one of two vectors, which takes longer. The scales are not
    # hidden: not knowing what they are for, it would load them as floats, and whole numbers would wait for that.
    into_highest = hidden(builder, ir.Constant(_BYTES, order))
    most = ir.Constant(_SHORTS, [0, 0x7FFF] * LANES)

    def scaled(scales: Any, factor: Any) -> Any:
        scales = builder.bitcast(scales, _BYTES)
        highest = call(builder, "llvm.x86.avx512.pshuf.b.512", _BYTES, scales, into_highest)
        total = _mean(builder, *(builder.bitcast(each, _SHORTS) for each in (highest, factor)))
        return builder.bitcast(builder.select(builder.icmp_unsigned("<", total, most), total, most), FLOATS)

    return scaled


def _mean(builder: ir.IRBuilder, first: Any, second: Any) -> Any:
    """Of numbers of 16 bits without a sign, rounded up: one instruction."""
    wide = ir.VectorType(I32, first.type.count)
    one = _all(wide, 1)
    both = builder.add(builder.zext(first, wide), builder.zext(second, wide))
    return builder.trunc(builder.lshr(builder.add(both, one), one), first.type)


def _largest(builder: ir.IRBuilder, vectors: list) -> Any:
    """The largest magnitude, if only just; or not a number, where some element is not one."""
    bits = [builder.and_(builder.bitcast(v, _INTS_OF_HALF), _all(_INTS_OF_HALF, 0x7FFFFFFF)) for v in vectors]
    larger = builder.select(builder.icmp_unsigned(">", *bits), *bits)
    largest = builder.bitcast(call(builder, "llvm.vector.reduce.umax.v16i32", I32, larger), F32)
    return builder.select(builder.fcmp_unordered(">", largest, F32(_LEAST)), largest, F32(_LEAST))


def _nearest_ints(builder: ir.IRBuilder, values: Any) -> Any:
    return builder.fptosi(call(builder, "llvm.rint.v16f32", _FLOATS_OF_HALF, values), _INTS_OF_HALF)


def _sums_of_four(builder: ir.IRBuilder, numbers: Any) -> Any:
    """The sums of lanes 0 to 3, 4 to 7 and so on."""
    parts = [builder.shuffle_vector(numbers, numbers, _places(range(i, 16, 4))) for i in range(4)]
    return builder.add(builder.add(parts[0], parts[1]), builder.add(parts[2], parts[3]))


def _all(vector: ir.VectorType, value: int) -> ir.Constant:
    return ir.Constant(vector, [value] * vector.count)


def _places(lanes: Iterable[int]) -> ir.Constant:
    taken = list(lanes)
    return ir.Constant(ir.VectorType(I32, len(taken)), taken)
