"""How weights lie in memory, and the order in which vectors must lie to meet them.

All weights are read as vectors of 32-bit words: a step is LANES words. A word holds 8 weights of MXFP4, 4 of int8, 2
of bfloat16 or 1 of float32. A step comes out as so many vectors, and the elements that are to meet the weights are put
in the order in which these come, which is called spread. In a last step of fewer words the vectors are as much shorter.
"""

import struct
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from gptoss_lab.mxfp4 import E2M1_VALUES, SCALE_BIAS
from gptoss_lab.ops.compile import device
from gptoss_lab.ops.simd import get_byte, set_byte
from gptoss_lab.ops.target import BFLOAT16_DOTS, INSTRUCTION_SET, LANES
from gptoss_lab.ops.vectors import (
    F32,
    FLOATS,
    HALVES,
    I8,
    I16,
    I32,
    I64,
    INTS,
    Ints,
    array_of,
    call,
    call_bfloat16,
    constant,
    emitted_sized,
    fma_of,
    items_of,
    load_from,
    pointer,
    splat_of,
    tile_of,
)

# Formats, named by the number of weights in a word.
FLOAT32, BFLOAT16, INT8, MXFP4 = 1, 2, 4, 8

PAIRS = 16
"""Another order of elements, besides the spread ones: as they come, two to a word, rounded to bfloat16."""

STEP = 4 * LANES
"""Bytes of a row that are read at a time."""
SCALES = LANES // 4
"""Bytes of scales that belong to them: one for 32 weights of MXFP4, two for 32 of int8."""
SCALED = INT8, MXFP4


@device
def row_bytes(format, n_in):
    return 4 * n_in // format


@device
def scale_bytes(format, n_in):
    return n_in // 32 if format == MXFP4 else n_in // 16 if format == INT8 else 0


@device
def are_last(end, n_rows, bytes_a_row):
    """Whether the rows before `end` are so near the last of n_rows that a whole step at their end may leave the matrix.

    After other rows it finds the next ones, which does no harm: the vectors are filled up with zeros.
    """
    return (n_rows - end) * bytes_a_row < STEP


@device
def copy_ends(rows, bytes_a_row, step, n_rows, to):
    """Copies what is left of each row after the last whole step; zeros fill it up to a step."""
    left = bytes_a_row % step
    for row in range(n_rows):
        source, target = rows + (row + 1) * bytes_a_row - left, to + row * step
        for i in range(step):
            set_byte(target + i, get_byte(source + i) if i < left else 0)


_IN_LANES_OF_128_BITS = INSTRUCTION_SET == "avx2"


@device
def place(format, width, i):
    """Where element i of a step of `width` words stands in spread order."""
    if format == MXFP4 and _IN_LANES_OF_128_BITS:
        vector = i % 2 * 4 + i // 16 % 2 * 2 + i // 2 % 2  # nibble, half, place in a pair of bytes
        return vector * width + i // 32 * 4 + i // 4 % 4
    return i % format * width + i // format


@device
def element(format, vector, lane):
    """The element of a whole step that stands in a lane of one of the step's vectors in spread order."""
    if format == MXFP4 and _IN_LANES_OF_128_BITS:
        return lane // 4 * 32 + vector // 2 % 2 * 16 + lane % 4 * 4 + vector % 2 * 2 + vector // 4
    return lane * format + vector


# Weights in registers


@emitted_sized(lambda n: types.UniTuple(Ints, n), types.int64, types.int64)
def load_words(builder, address, stride, n):
    """A step of each of n rows, `stride` bytes apart."""
    return array_of(builder, [load_from(builder, address, INTS, stride, i, align=1) for i in range(n)])


@emitted_sized(tile_of, types.int64, types.int64)
def load_scales(builder, address, stride, n):
    """The scales of a step of MXFP4 of each of n rows: each in the lanes of the 4 words that it belongs to."""
    places = [lane // 4 for lane in range(LANES)]
    return array_of(builder, [in_exponents(builder, raw_scales(builder, address, stride, i), places) for i in range(n)])


def raw_scales(builder: ir.IRBuilder, address: Any, stride: Any, row: int, n_steps: int = 1) -> Any:
    """The bytes of some steps' scales, all over again."""
    n = SCALES * n_steps
    raw = load_from(builder, address, ir.IntType(8 * n), stride, row, align=1)
    return splat_of(builder, raw, ir.VectorType(raw.type, STEP // n))


def in_exponents(builder: ir.IRBuilder, scales: Any, places: list[int]) -> Any:
    """2^(byte - 127) in each lane, for one of the bytes that scales, all over again, hold: the one at its place.

    E8M0 0 stands for 2^-127, which an exponent field cannot say: it becomes 0.
    """
    if INSTRUCTION_SET == "avx2":  # which has no rotation: the byte goes into the highest place, and one to the right
        as_bytes = ir.VectorType(I8, 32)
        order = ir.Constant(as_bytes, [place if byte == 3 else 128 for place in places for byte in range(4)])
        highest = call(builder, "llvm.x86.avx2.pshuf.b", as_bytes, builder.bitcast(scales, as_bytes), order)
        return builder.bitcast(builder.lshr(builder.bitcast(highest, INTS), constant(INTS, 1)), FLOATS)
    words = builder.bitcast(scales, INTS)
    into_exponent = ir.Constant(INTS, [(23 - 8 * place) % 32 for place in places])
    rotated = call(builder, f"llvm.fshl.v{LANES}i32", INTS, words, words, into_exponent)
    return builder.bitcast(builder.and_(rotated, constant(INTS, 0x7F800000)), FLOATS)


@emitted_sized(tile_of, types.int64, types.int64)
def load_scales_of_int8(builder, address, stride, n):
    """The same for int8, whose scales are bfloat16, each for 8 words."""
    into_upper_half = ir.Constant(INTS, [16 - 16 * (lane // 8) for lane in range(LANES)])
    if LANES == 4:  # half a block, the second one too
        address = builder.and_(address, I64(-2))
    rows = []
    for i in range(n):
        raw = load_from(builder, address, I32 if LANES == 16 else I16, stride, i, align=1)
        scales = splat_of(builder, raw if LANES == 16 else builder.zext(raw, I32), INTS)
        shifted = builder.and_(builder.shl(scales, into_upper_half), constant(INTS, 0xFFFF0000))
        rows.append(builder.bitcast(shifted, FLOATS))
    return array_of(builder, rows)


@intrinsic(prefer_literal=True)
def add_products(typingctx, sums, words, x, stride, format):
    """sums[i, j] + the products of row i's step of weights, unscaled, and vector j's; vectors are `stride` apart."""

    def codegen(context, builder, _, values):
        totals = items_of(builder, values[0])
        rows = [_weights(builder, row, format.literal_value) for row in items_of(builder, values[1])]
        n_columns = len(totals) // len(rows)
        for which in range(format.literal_value):
            at = builder.add(values[2], I64(which * STEP))
            columns = [load_from(builder, at, FLOATS, values[3], j) for j in range(n_columns)]
            for i, row in enumerate(rows):
                for j, column in enumerate(columns):
                    totals[i * n_columns + j] = fma_of(builder, row[which], column, totals[i * n_columns + j])
        return array_of(builder, totals)

    return signature(sums, sums, words, types.int64, types.int64, format), codegen


@intrinsic
def add_scaled(typingctx, sums, products, scales):
    """sums[i, j] + products[i, j] * scales[i]."""

    def codegen(context, builder, _, values):
        totals, terms, factors = (items_of(builder, value) for value in values)
        n_columns = len(totals) // len(factors)
        scaled = [fma_of(builder, term, factors[i // n_columns], totals[i]) for i, term in enumerate(terms)]
        return array_of(builder, scaled)

    return signature(sums, sums, products, scales), codegen


@intrinsic(prefer_literal=True)
def store_weights(typingctx, address, width, words, scales, format):
    """Stores one row's step of weights in spread order; what is beyond `width` words comes after it."""

    def codegen(context, builder, _, values):
        scale = builder.extract_value(values[3], 0)
        for which, weights in enumerate(_weights(builder, builder.extract_value(values[2], 0), format.literal_value)):
            if format.literal_value in SCALED:
                weights = builder.fmul(weights, scale)
            stride = builder.mul(values[1], I64(4))
            builder.store(weights, pointer(builder, values[0], FLOATS, stride, which), align=4)
        return context.get_dummy_value()

    return signature(types.void, types.int64, types.int64, words, scales, format), codegen


@intrinsic(prefer_literal=True)
def store_pairs(typingctx, address, weights, scales, format):
    """Stores a row's step of weights as they come, two bfloat16 numbers to a word. For AVX-512."""

    def codegen(context, builder, _, values):
        to, weights, scales, _ = values
        if not BFLOAT16_DOTS:  # nobody may ask for it
            return context.get_dummy_value()
        if format.literal_value == BFLOAT16:
            words = load_from(builder, weights, INTS, align=1)
            builder.store(words, pointer(builder, to, INTS), align=4)
            return context.get_dummy_value()
        if format.literal_value == INT8:
            for block in range(SCALES // 2):
                words = _pairs_of_int8(builder, weights, scales, block)
                builder.store(words, pointer(builder, to, FLOATS, I64(STEP), block), align=4)
            return context.get_dummy_value()
        for block in range(SCALES):
            codes = load_from(builder, weights, ir.VectorType(I8, LANES), I64(LANES), block, align=1)
            scale = load_from(builder, scales, I8, I64(1), block, align=1)
            words = _pairs_of_e2m1(builder, builder.zext(codes, INTS), scale)
            builder.store(words, pointer(builder, to, INTS, I64(STEP), block), align=4)
        return context.get_dummy_value()

    return signature(types.void, types.int64, types.int64, types.int64, format), codegen


def _pairs_of_int8(builder: ir.IRBuilder, weights: Any, scales: Any, block: int) -> Any:
    """A block of int8, scaled, as two bfloat16 in each lane."""
    raw = builder.zext(load_from(builder, scales, I16, I64(2), block, align=1), I32)
    scale = splat_of(builder, builder.bitcast(builder.shl(raw, I32(16)), F32), FLOATS)
    halves = []
    for half in range(2):
        values = load_from(builder, weights, ir.VectorType(I8, LANES), I64(LANES), 2 * block + half, align=1)
        halves.append(builder.fmul(builder.sitofp(builder.sext(values, INTS), FLOATS), scale))
    name = "llvm.x86.avx512bf16.cvtne2ps2bf16.512"
    return builder.bitcast(call_bfloat16(builder, name, HALVES, halves[1], halves[0]), FLOATS)


def _pairs_of_e2m1(builder: ir.IRBuilder, codes: Any, scale: Any) -> Any:
    """A block of MXFP4, a byte of two codes in each lane: the numbers, scaled, as two bfloat16 in each lane."""
    tables = _constant(
        builder, "e2m1_by_scale", HALVES, [[_bfloat16_bits(x, s) for x in E2M1_VALUES] * 2 for s in range(256)]
    )
    table = builder.load(builder.gep(tables, [I64(0), builder.zext(scale, I64)]), align=64)
    # A permutation of 32 entries heeds 5 bits, and each table stands there twice: the fifth does not matter.
    both = builder.bitcast(builder.or_(codes, builder.shl(codes, constant(INTS, 12))), HALVES)
    return builder.bitcast(call_bfloat16(builder, "llvm.x86.avx512.permvar.hi.512", HALVES, table, both), INTS)


def _bfloat16_bits(value: float, scale: int) -> int:
    """value * 2^(scale - 127), which may be too small or too large."""
    if scale == 255:
        return 0x7FC0  # not a number (OCP Microscaling Formats, 5.4.1)
    scaled = value * 2.0 ** (scale - SCALE_BIAS)
    if abs(scaled) >= 2.0**128:
        return 0x7F80 if scaled > 0 else 0xFF80
    return struct.unpack("<I", struct.pack("<f", scaled))[0] >> 16


def _constant(builder: ir.IRBuilder, name: str, kind: ir.VectorType, rows: list[list[int]]) -> Any:
    """A table of vectors, which comes with the machine code."""
    if name not in builder.module.globals:
        table = ir.GlobalVariable(builder.module, ir.ArrayType(kind, len(rows)), name)
        table.initializer = ir.Constant(table.value_type, [ir.Constant(kind, row) for row in rows])
        table.global_constant, table.linkage, table.align = True, "internal", 64
    return builder.module.globals[name]


def _weights(builder: ir.IRBuilder, words: Any, format: int) -> list:
    """The weights in LANES words, unscaled, as vectors in spread order."""
    if format == FLOAT32:
        return [builder.bitcast(words, FLOATS)]
    if format == BFLOAT16:
        return _bfloat16(builder, words)
    if format == INT8:
        highest = [builder.shl(words, constant(INTS, 24 - 8 * which)) for which in range(4)]
        return [builder.sitofp(builder.ashr(value, constant(INTS, 24)), FLOATS) for value in highest]
    if _IN_LANES_OF_128_BITS:
        return _e2m1_by_bytes(builder, words)
    digits = [builder.lshr(words, constant(INTS, 4 * which)) for which in range(8)]
    return [_e2m1(builder, codes) for codes in digits]


def _bfloat16(builder: ir.IRBuilder, words: Any) -> list:
    """The lower half of each word, and the upper one."""
    lower = builder.shl(words, constant(INTS, 16))
    upper = builder.and_(words, constant(INTS, 0xFFFF0000))
    return [builder.bitcast(half, FLOATS) for half in (lower, upper)]


def _e2m1(builder: ir.IRBuilder, codes: Any) -> Any:
    """The numbers that bits 0 to 3 of each lane stand for; the other bits may be anything."""
    if INSTRUCTION_SET == "avx512":  # a permutation heeds 4 bits, and gives any of 16 entries
        table = ir.Constant(FLOATS, list(E2M1_VALUES))
        return call(builder, "llvm.x86.avx512.permvar.sf.512", FLOATS, table, codes)
    # The doubled magnitudes, 0 1 2 3 4 6 8 12, are the hexadecimal digits of one number.
    digit = builder.shl(builder.and_(codes, constant(INTS, 7)), constant(INTS, 2))
    doubled = builder.and_(builder.lshr(constant(INTS, 0xC8643210), digit), constant(INTS, 15))
    magnitudes = builder.fmul(builder.sitofp(doubled, FLOATS), constant(FLOATS, 0.5))
    sign = builder.and_(builder.shl(codes, constant(INTS, 28)), constant(INTS, 0x80000000))
    return builder.bitcast(builder.or_(builder.bitcast(magnitudes, INTS), sign), FLOATS)


def _e2m1_by_bytes(builder: ir.IRBuilder, words: Any) -> list:
    """Looks up the two bytes of each weight as a bfloat16, by AVX2's permutation of bytes within 128 bits."""
    as_bytes = ir.VectorType(I8, 32)
    nibble = ir.Constant(as_bytes, [15] * 32)
    raw = builder.bitcast(words, as_bytes)
    high = builder.bitcast(builder.lshr(words, constant(INTS, 4)), as_bytes)
    weights = []
    for codes in (builder.and_(raw, nibble), builder.and_(high, nibble)):
        first, second = (_look_up_byte(builder, codes, place) for place in (2, 3))
        for half in (0, 8):  # of each 128 bits
            order = [lane + half + i // 2 + i % 2 * 32 for lane in (0, 16) for i in range(16)]
            pairs = builder.shuffle_vector(first, second, ir.Constant(ir.VectorType(I32, 32), order))
            weights += _bfloat16(builder, builder.bitcast(pairs, INTS))
    return weights


def _look_up_byte(builder: ir.IRBuilder, codes: Any, place: int) -> Any:
    """Byte number `place` of the float32s that codes stand for."""
    table = ir.Constant(codes.type, [struct.pack("<f", x)[place] for x in E2M1_VALUES] * 2)
    return call(builder, "llvm.x86.avx2.pshuf.b", codes.type, table, codes)
