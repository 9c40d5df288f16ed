"""Weights of MXFP4 times vectors of digits (see `digits`).

A block's sum is multiplied by its vector's factor and by the weights' scale, a power of two. AVX-512 has other units
for whole numbers than for products, and those for products are busy with digits: there the scale is added to the
factor's exponent. Both are without a sign, so that the sum is 2^127 times too large, less what the factor was made
smaller by beforehand.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from gptoss_lab.mxfp4 import E2M1_VALUES, SCALE_BIAS
from gptoss_lab.ops.digits import (
    BITS,
    CORRECTION,
    DIGITS,
    FACTOR,
    IN_EXPONENTS,
    OFFSET,
    RUN,
    SHRUNK,
    VECTORS,
    WEIGHTS_IN_COLUMNS,
)
from gptoss_lab.ops.formats import SCALES, STEP, in_exponents, raw_scales
from gptoss_lab.ops.target import BYTE_DOTS, INSTRUCTION_SET, LANES
from gptoss_lab.ops.vectors import (
    FLOATS,
    I8,
    I16,
    I32,
    I64,
    INTS,
    array_of,
    call,
    columns_of_four,
    constant,
    fma_of,
    hidden,
    items_of,
    load_from,
)

_BYTES = ir.VectorType(I8, 4 * LANES)
_SHORTS = ir.VectorType(I16, 2 * LANES)


def _make_add(n_steps: int) -> Any:
    def add(
        typingctx: Any,
        sums: Any,
        weights: Any,
        row_bytes: Any,
        scales: Any,
        scale_bytes: Any,
        x: Any,
        stride: Any,
        n_rows: Any,
    ) -> Any:
        """sums[i, j] + the products of row i's weights, scaled, and vector j's digits; `in_ones` says what they are.

        Of steps as many as there are in a run, or one. Rows are `row_bytes` apart, their scales `scale_bytes`, vectors
        `stride`.
        """

        def codegen(context: Any, builder: ir.IRBuilder, _: Any, values: list) -> Any:
            if not BYTE_DOTS:  # nobody may ask for it
                return values[0]
            totals, rows = items_of(builder, values[0]), range(n_rows.literal_value)
            weights, row_bytes, scales, scale_bytes, x, stride = values[1:7]
            vectors = range(len(totals) // len(rows))

            def words(row: int, step: int) -> Any:
                of_row = builder.add(weights, builder.mul(row_bytes, I64(row)))
                return load_from(builder, of_row, INTS, I64(STEP), step, align=1)

            def part(vector: int, which: int, step: int = 0) -> Any:
                of_vector = builder.add(x, builder.mul(stride, I64(vector)))
                return load_from(builder, of_vector, INTS, I64(STEP), step * VECTORS + which)

            at_once = _sums_of_step if n_steps == 1 else _sums_of_run
            sums_of = at_once if WEIGHTS_IN_COLUMNS else _sums_in_two_steps
            all_words = [[words(row, step) for step in range(n_steps)] for row in rows]
            products = sums_of(builder, all_words, vectors, part)
            scaled = _scaling(builder, n_steps)
            all_scales = [raw_scales(builder, scales, scale_bytes, row, n_steps) for row in rows]
            factors = [scaled(row, part(vector, FACTOR)) for row in all_scales for vector in vectors]
            terms = [builder.sitofp(product, FLOATS) for product in products]  # rounded once
            return array_of(builder, [fma_of(builder, *each) for each in zip(terms, factors, totals, strict=True)])

        return signature(sums, sums, *[types.int64] * 6, n_rows), codegen

    return intrinsic(prefer_literal=True)(add)


add_step, add_run = _make_add(1), _make_add(RUN)


@intrinsic
def in_ones(typingctx, sums):
    """Sums as the numbers that they are."""

    def codegen(context, builder, _, values):
        if not IN_EXPONENTS:
            return values[0]
        unit = constant(FLOATS, 2.0 ** (SHRUNK - SCALE_BIAS))
        return array_of(builder, [builder.fmul(total, unit) for total in items_of(builder, values[0])])

    return signature(sums, sums), codegen


def _sums_of_step(builder: ir.IRBuilder, rows: list, vectors: range, part: Callable[..., Any]) -> list:
    """For each row and each vector, in each lane, the sum of what a block's words in it have for products.

    Digits follow each other in one sum, but the last goes by itself: else products would wait for each other.
    """
    weights = [doubled(builder, words) for (words,) in rows]

    def add(totals: list, digit: int) -> list:
        for odd in range(2):
            columns = [part(vector, 2 * digit + odd) for vector in vectors]
            totals = _add_byte_products(builder, totals, [row[odd] for row in weights], columns)
        return totals

    higher = [constant(INTS, 0) for _ in rows for _ in vectors]
    for digit in range(DIGITS - 1):
        higher = add(_shifted(builder, higher, BITS[digit - DIGITS]) if digit else higher, digit)
    last = add([part(vector, CORRECTION) for _ in rows for vector in vectors], DIGITS - 1)
    return followed(builder, higher, BITS[-1], last)


def _sums_of_run(builder: ir.IRBuilder, rows: list, vectors: range, part: Callable[..., Any]) -> list:
    """The same for the four words of each block, in one lane; each digit by itself."""
    columns = [columns_of_four(builder, row) for row in rows]
    nothing = [constant(INTS, 0) for _ in rows for _ in vectors]
    sums = [nothing] * (DIGITS - 1) + [[part(vector, CORRECTION) for _ in rows for vector in vectors]]
    for step in range(RUN):
        weights = [doubled(builder, row[step]) for row in columns]
        for odd in range(2):
            for digit in range(DIGITS):
                x = [part(vector, 2 * digit + odd, step) for vector in vectors]
                sums[digit] = _add_byte_products(builder, sums[digit], [row[odd] for row in weights], x)
    total = sums[0]
    for digit in range(1, DIGITS):
        total = followed(builder, total, BITS[digit - DIGITS], sums[digit])
    return total


def _add_byte_products(builder: ir.IRBuilder, totals: list, rows: list, columns: list) -> list:
    """totals[row, column] + the products of bytes, each four added up; for AVX-512."""
    pairs = [(row, column) for row in rows for column in columns]
    return [add_bytes(builder, total, *pair) for total, pair in zip(totals, pairs, strict=True)]


def add_bytes(builder: ir.IRBuilder, total: Any, unsigned: Any, signed: Any) -> Any:
    """total + the products of bytes without and with a sign, each four added up; for AVX-512."""
    operands = [builder.bitcast(vector, total.type) for vector in (unsigned, signed)]
    return call(builder, f"llvm.x86.avx512.vpdpbusd.{32 * total.type.count}", total.type, total, *operands)


def followed(builder: ir.IRBuilder, totals: list, bits: int, lower: list) -> list:
    """Totals, and after them what is lower, by so many bits."""
    return [builder.add(*both) for both in zip(_shifted(builder, totals, bits), lower, strict=True)]


def _shifted(builder: ir.IRBuilder, totals: list, bits: int) -> list:
    """Making room for so many bits."""
    return [builder.shl(total, constant(INTS, bits)) for total in totals]


def _sums_in_two_steps(builder: ir.IRBuilder, rows: list, vectors: range, part: Callable[..., Any]) -> list:
    """The same on AVX2, where what words have is put together afterwards."""
    sums = []
    for row in rows:
        for vector in vectors:
            of_steps = []
            for step, words in enumerate(row):
                digits = [part(vector, i, step) for i in range(2 * DIGITS)]
                of_steps.append(_sum_in_two_steps(builder, doubled(builder, words), digits))
            sums.append(builder.add(_joined(builder, of_steps), part(vector, CORRECTION)))
    return sums


def _sum_in_two_steps(builder: ir.IRBuilder, row: list, column: list) -> Any:
    """In 16 bits first, which have room for four products; then each digit in its place. Without the correction."""
    sums = []
    for digit, place in enumerate((-(2**15), 2**8, 1)):  # 2^15 itself takes more than 16 bits
        products = []
        for odd in range(2):
            operands = (builder.bitcast(vector, _BYTES) for vector in (row[odd], column[2 * digit + odd]))
            products.append(call(builder, "llvm.x86.avx2.pmadd.ub.sw", _SHORTS, *operands))
        products_of_four = builder.add(*products)
        sums.append(call(builder, "llvm.x86.avx2.pmadd.wd", INTS, products_of_four, constant(_SHORTS, place)))
    return builder.sub(builder.add(sums[1], sums[2]), sums[0])


def _joined(builder: ir.IRBuilder, sums: list) -> Any:
    """The sums of each 4 lanes of 4 vectors, those of the same place side by side; or one vector as it is."""
    while len(sums) > 1:  # neighbours are added
        sums = [call(builder, "llvm.x86.avx2.phadd.d", INTS, *sums[i : i + 2]) for i in range(0, len(sums), 2)]
    return sums[0]


def doubled(builder: ir.IRBuilder, words: Any) -> list:
    """Twice the weights, plus the offset, as bytes: those at even places, and those at odd ones."""
    codes = [builder.bitcast(code, _BYTES) for code in (words, builder.lshr(words, constant(INTS, 4)))]
    return [builder.bitcast(_look_up(builder, code), INTS) for code in codes]


def _look_up(builder: ir.IRBuilder, codes: Any) -> Any:
    table = ir.Constant(_BYTES, [int(2 * x) + OFFSET for x in E2M1_VALUES] * (LANES // 4))
    if INSTRUCTION_SET == "avx2":
        return call(builder, "llvm.x86.avx2.pshuf.b", _BYTES, table, builder.and_(codes, constant(_BYTES, 15)))
    # A permutation of 64 entries heeds 6 bits, and each weight stands there four times: two bits do not matter.
    return call(builder, "llvm.x86.avx512.permvar.qi.512", _BYTES, table, codes)


def _scaling(builder: ir.IRBuilder, n_steps: int) -> Callable[[Any, Any], Any]:
    """What multiplies a factor by the scales of a row's blocks."""
    places = [lane // 4 if n_steps == 1 else lane % 4 * SCALES + lane // 4 for lane in range(LANES)]
    if not IN_EXPONENTS:
        return lambda scales, factor: builder.fmul(
            in_exponents(builder, scales, places), builder.bitcast(factor, FLOATS)
        )
    # The scale goes into each lane's upper byte. With that as it is, and twice the factor's upper half, their mean is
    # the sum of scale and exponent.
    order = [place if byte == 3 else 128 for place in places for byte in range(4)]
    # Knowing that order, LLVM would fetch each byte from one of two vectors, which takes longer. The scales are not
    # hidden: not knowing what they are for, it would load them as floats, and whole numbers would wait for that.
    into_highest = hidden(builder, ir.Constant(_BYTES, order))

    def scaled(scales: Any, factor: Any) -> Any:
        scales = builder.bitcast(scales, _BYTES)
        highest = call(builder, "llvm.x86.avx512.pshuf.b.512", _BYTES, scales, into_highest)
        return scaled_in_exponents(builder, highest, factor)

    return scaled


def scaled_in_exponents(builder: ir.IRBuilder, scales: Any, factor: Any) -> Any:
    """A factor times scales, each in its lane's highest byte. What float32 cannot hold becomes no number."""
    most = ir.Constant(_SHORTS, [0, 0x7FFF] * LANES)
    total = _mean(builder, *(builder.bitcast(each, _SHORTS) for each in (scales, factor)))
    return builder.bitcast(builder.select(builder.icmp_unsigned("<", total, most), total, most), FLOATS)


def _mean(builder: ir.IRBuilder, first: Any, second: Any) -> Any:
    """Of numbers of 16 bits without a sign, rounded up: one instruction."""
    wide = ir.VectorType(I32, first.type.count)
    one = constant(wide, 1)
    both = builder.add(builder.zext(first, wide), builder.zext(second, wide))
    return builder.trunc(builder.lshr(builder.add(both, one), one), first.type)
