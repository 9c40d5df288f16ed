"""Vectors for kernels: numba types for LANES numbers in a register, and what kernels do with them.

    Floats, Ints    LANES float32s, LANES int32s
    tile            a tuple of Floats, its length known when compiling, which LLVM keeps in registers
    address         an int64; nothing here checks bounds

LANES is 16 where numba compiles for AVX-512, 8 for AVX2 and 4 elsewhere. Only the decoding of E2M1 is written for an
instruction set; all else is LLVM's own vector arithmetic, which every CPU has.
"""

import operator
import struct
from collections.abc import Callable
from functools import wraps
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from gptoss_lab.ops.compile import device
from gptoss_lab.ops.target import INSTRUCTION_SET, LANES

_i8, _i16, _i32, _i64, _f32 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()


# Types


class Vector(types.Type):
    """LANES numbers of one type."""

    def __init__(self, element: types.Type) -> None:
        self.element = element
        super().__init__(name=f"Vector({element} x {LANES})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, ir.VectorType(manager[vector.element].get_value_type(), LANES))


Floats = Vector(types.float32)
Ints = Vector(types.int32)

_floats = ir.VectorType(_f32, LANES)
_ints = ir.VectorType(_i32, LANES)


def _tile(n: int) -> types.UniTuple:
    return types.UniTuple(Floats, n)


# How an intrinsic is made: of a function from LLVM values to an LLVM value (or None).


def _intrinsic(result: types.Type, *arguments: types.Type) -> Callable[[Callable], Any]:
    def decorate(emit: Callable) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, _: Any, values: list) -> Any:
            return emit(builder, *values) or context.get_dummy_value()

        @wraps(emit)  # numba counts the arguments of what it is given
        def typing(typingctx: Any, *given: types.Type) -> Any:
            return signature(result, *arguments), codegen

        return intrinsic(typing)

    return decorate


def _sized_intrinsic(result: Callable[[int], types.Type], *arguments: types.Type) -> Callable[[Callable], Any]:
    """The same, with a last argument n that is a constant: emit gets it as an int and `result` makes the type of it."""

    def decorate(emit: Callable) -> Any:
        @wraps(emit)
        def typing(typingctx: Any, *given: types.Type) -> Any:
            n = given[-1].literal_value

            def codegen(context: Any, builder: ir.IRBuilder, _: Any, values: list) -> Any:
                return emit(builder, *values[:-1], n)

            return signature(result(n), *arguments, given[-1]), codegen

        return intrinsic(prefer_literal=True)(typing)

    return decorate


# Single numbers in memory


@_intrinsic(types.float32, types.int64)
def get_float(builder, address):
    return builder.load(_pointer(builder, address, _f32), align=4)


@_intrinsic(types.void, types.int64, types.float32)
def set_float(builder, address, value):
    builder.store(value, _pointer(builder, address, _f32), align=4)


@_intrinsic(types.float32, types.int64)
def get_bfloat16(builder, address):
    bits = builder.zext(builder.load(_pointer(builder, address, _i16), align=2), _i32)
    return builder.bitcast(builder.shl(bits, _i32(16)), _f32)


@_intrinsic(types.int64, types.int64)
def get_byte(builder, address):
    return builder.zext(builder.load(_pointer(builder, address, _i8)), _i64)


@_intrinsic(types.void, types.int64, types.int64)
def set_byte(builder, address, value):
    builder.store(builder.trunc(value, _i8), _pointer(builder, address, _i8))


@_intrinsic(types.int64, types.int64)
def get_int(builder, address):
    """The int64 at an address."""
    return builder.load(_pointer(builder, address, _i64), align=8)


@_intrinsic(types.void, types.int64, types.int64)
def set_int(builder, address, value):
    builder.store(value, _pointer(builder, address, _i64), align=8)


@_intrinsic(types.void, types.int64, types.int32)
def set_int32(builder, address, value):
    builder.store(value, _pointer(builder, address, _i32), align=4)


@_intrinsic(types.float32, types.int64)
def get_scale(builder, address):
    """The float32 that the E8M0 byte at an address stands for: 2^(byte - 127)."""
    return _e8m0(builder, builder.zext(builder.load(_pointer(builder, address, _i8)), _i32), _f32)


# Vectors in memory


@_intrinsic(Floats, types.int64)
def load(builder, address):
    return builder.load(_pointer(builder, address, _floats), align=4)


@_intrinsic(Ints, types.int64)
def load_ints(builder, address):
    return builder.load(_pointer(builder, address, _ints), align=4)


@_intrinsic(types.void, types.int64, Floats)
def store(builder, address, vector):
    builder.store(vector, _pointer(builder, address, _floats), align=4)


@_intrinsic(types.void, types.int64)
def prefetch(builder, address):
    """Ask for the cache line at an address, which need not exist."""
    function = _function(builder, "llvm.prefetch.p0", ir.VoidType(), _i8.as_pointer(), _i32, _i32, _i32)
    read, keep, data = _i32(0), _i32(3), _i32(1)
    builder.call(function, [_pointer(builder, address, _i8), read, keep, data])


@_intrinsic(types.void, types.int64, types.int64, types.int64, types.int64)
def gather_columns(builder, rows, offset, to, places):
    """Transposes: of LANES rows, whose addresses stand at `rows`, LANES floats each, `offset` bytes in, become LANES
    vectors.

    Vector i is stored at `to` plus the i-th of the LANES offsets that stand at `places` (int64, bytes).
    """
    taken = [builder.load(_listed(builder, rows, i, offset, _floats), align=4) for i in range(LANES)]
    for i, column in enumerate(_transposed(builder, taken)):
        builder.store(column, _listed(builder, places, i, to, _floats), align=4)


@_intrinsic(types.void, types.int64, types.int64, types.int64, types.int64)
def scatter_columns(builder, source, stride, rows, offset):
    """The way back: LANES vectors, `stride` bytes apart, become LANES floats of each of the rows whose addresses stand
    at `rows`.
    """
    taken = [builder.load(_pointer(builder, source, _floats, stride, i), align=4) for i in range(LANES)]
    for i, column in enumerate(_transposed(builder, taken)):
        builder.store(column, _listed(builder, rows, i, offset, _floats), align=4)


# Arithmetic


@_intrinsic(Floats, types.float32)
def splat(builder, value):
    return _splat(builder, value, _floats)


@_intrinsic(Ints, types.int32)
def splat_int(builder, value):
    return _splat(builder, value, _ints)


@_intrinsic(Floats, Floats, Floats, Floats)
def fma(builder, a, b, c):
    """a * b + c."""
    return _fma(builder, a, b, c)


@_intrinsic(Floats, Floats, Floats)
def minimum(builder, a, b):
    return builder.select(builder.fcmp_ordered("<", a, b), a, b)


@_intrinsic(Floats, Floats, Floats)
def maximum(builder, a, b):
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


@_intrinsic(types.float32, Floats)
def sum_lanes(builder, vector):
    return _sum_lanes(builder, vector)


@_intrinsic(Floats, Floats, types.int32, Ints, Ints)
def only_between(builder, values, number, first, last):
    """`values` in the lanes where first <= number <= last, minus infinity in the others."""
    numbers = _splat(builder, number, _ints)
    inside = builder.and_(builder.icmp_signed("<=", first, numbers), builder.icmp_signed("<=", numbers, last))
    return builder.select(inside, values, _constant(_floats, float("-inf")))


@_intrinsic(Floats, Floats)
def _floor(builder, values):
    return builder.call(_function(builder, f"llvm.floor.v{LANES}f32", _floats, _floats), [values])


@_intrinsic(Floats, Floats)
def _power_of_two(builder, exponents):
    """2^n for whole numbers n from -126 to 127."""
    whole = builder.add(builder.fptosi(exponents, _ints), _constant(_ints, 127))
    return builder.bitcast(builder.shl(whole, _constant(_ints, 23)), _floats)


@device
def exp(x):
    """e^x to about 1e-7 relative; below -87 it is e^-87, near enough to nothing. (Cephes expf: Cody and Waite's
    reduction, then a polynomial.)
    """
    x = minimum(maximum(x, splat(-87.0)), splat(88.0))
    n = _floor(fma(x, splat(1.44269504088896341), splat(0.5)))
    r = fma(n, splat(-0.693359375), x)
    r = fma(n, splat(2.12194440e-4), r)
    p = fma(splat(1.9875691500e-4), r, splat(1.3981999507e-3))
    p = fma(p, r, splat(8.3334519073e-3))
    p = fma(p, r, splat(4.1665795894e-2))
    p = fma(p, r, splat(1.6666665459e-1))
    p = fma(p, r, splat(5.0000001201e-1))
    p = fma(p, r * r, r + splat(1.0))
    return p * _power_of_two(n)


def _operator(symbol: Callable, method: str) -> None:
    """Define an operator on two Floats."""

    @infer_global(symbol)
    class Template(AbstractTemplate):
        def generic(self, args: tuple, kws: dict) -> Any:
            return signature(Floats, Floats, Floats) if args == (Floats, Floats) else None

    @lower_builtin(symbol, Floats, Floats)
    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: list) -> Any:
        return getattr(builder, method)(*args)


for _symbol, _method in [
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
]:
    _operator(_symbol, _method)


# Tiles


@_sized_intrinsic(_tile)
def zeros(builder, n):
    return ir.Constant(ir.ArrayType(_floats, n), None)


@_sized_intrinsic(_tile, types.int64, types.int64)
def load_tile(builder, address, stride, n):
    """n vectors, `stride` bytes apart."""
    return _pack([builder.load(_pointer(builder, address, _floats, stride, i), align=4) for i in range(n)], builder)


@_sized_intrinsic(_tile, types.int64, types.int64)
def splat_tile(builder, address, stride, n):
    """n single floats, `stride` bytes apart, each in all lanes of a vector."""
    singles = [builder.load(_pointer(builder, address, _f32, stride, i), align=4) for i in range(n)]
    return _pack([_splat(builder, single, _floats) for single in singles], builder)


@intrinsic
def store_tile(typingctx, address, stride, tile):
    """Each vector of the tile, `stride` bytes apart."""

    def codegen(context, builder, _, values):
        for i in range(tile.count):
            pointer = _pointer(builder, values[0], _floats, values[1], i)
            builder.store(builder.extract_value(values[2], i), pointer, align=4)
        return context.get_dummy_value()

    return signature(types.void, types.int64, types.int64, tile), codegen


@intrinsic(prefer_literal=True)
def store_sums(typingctx, address, row_stride, column_stride, tile, n_columns):
    """The sum over the lanes of each vector of the tile, one float each: number i goes to row i // n_columns, column i
    % n_columns.
    """

    def codegen(context, builder, _, values):
        for i in range(tile.count):
            row, column = divmod(i, n_columns.literal_value)
            at = builder.add(values[0], builder.mul(values[1], _i64(row)))
            total = _sum_lanes(builder, builder.extract_value(values[3], i))
            builder.store(total, _pointer(builder, at, _f32, values[2], column), align=4)
        return context.get_dummy_value()

    return signature(types.void, types.int64, types.int64, types.int64, tile, n_columns), codegen


@intrinsic(prefer_literal=True)
def add_to(typingctx, address, row_stride, column_stride, tile, n_columns):
    """Adds the tile to vectors in memory: number i at row i // n_columns, column i % n_columns; strides in bytes."""

    def codegen(context, builder, _, values):
        for i in range(tile.count):
            row, column = divmod(i, n_columns.literal_value)
            at = builder.add(values[0], builder.mul(values[1], _i64(row)))
            pointer = _pointer(builder, at, _floats, values[2], column)
            total = builder.fadd(builder.load(pointer, align=4), builder.extract_value(values[3], i))
            builder.store(total, pointer, align=4)
        return context.get_dummy_value()

    return signature(types.void, types.int64, types.int64, types.int64, tile, n_columns), codegen


@intrinsic
def add_outer(typingctx, sums, rows, columns):
    """sums[i * len(columns) + j] + rows[i] * columns[j], lane by lane."""

    def codegen(context, builder, _, values):
        tile, a, b = values
        for i in range(rows.count):
            for j in range(columns.count):
                k = i * columns.count + j
                product = builder.extract_value(a, i), builder.extract_value(b, j)
                tile = builder.insert_value(tile, _fma(builder, *product, builder.extract_value(tile, k)), k)
        return tile

    return signature(sums, sums, rows, columns), codegen


@intrinsic
def add_tiles(typingctx, a, b):
    """a[i] + b[i]."""

    def codegen(context, builder, _, values):
        return _pack([builder.fadd(*(builder.extract_value(v, i) for v in values)) for i in range(a.count)], builder)

    return signature(a, a, b), codegen


@_intrinsic(types.UniTuple(Floats, 2), Floats, Floats)
def deinterleave(builder, first, second):
    """The elements at even places of two vectors in a row, and those at odd places."""
    places = [ir.Constant(ir.VectorType(_i32, LANES), list(range(odd, 2 * LANES, 2))) for odd in range(2)]
    return _pack([builder.shuffle_vector(first, second, taken) for taken in places], builder)


# Weights. Every format is read as vectors of 32-bit words, which hold 1, 2 or 8 weights, the first in the lowest bits.


@_sized_intrinsic(lambda n: types.UniTuple(Ints, n), types.int64, types.int64)
def load_words(builder, address, stride, n):
    """LANES words of each of n rows, `stride` bytes apart."""
    return _pack([builder.load(_pointer(builder, address, _ints, stride, i), align=1) for i in range(n)], builder)


def _from_words(decode: Callable) -> Any:
    """An intrinsic (tile of words, which) -> tile of Floats: weight number `which` of every word."""

    @wraps(decode)
    def typing(typingctx: Any, words: types.UniTuple, which: types.Type) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, _: Any, values: list) -> Any:
            place = _splat(builder, builder.trunc(values[1], _i32), _ints)
            rows = [builder.extract_value(values[0], i) for i in range(words.count)]
            return _pack([decode(builder, row, place) for row in rows], builder)

        return signature(_tile(words.count), words, types.int64), codegen

    return intrinsic(typing)


@_from_words
def float32_weights(builder, words, which):
    return builder.bitcast(words, _floats)


@_from_words
def bfloat16_weights(builder, words, which):
    raised = builder.shl(words, builder.shl(builder.sub(_constant(_ints, 1), which), _constant(_ints, 4)))
    return builder.bitcast(builder.and_(raised, _constant(_ints, 0xFFFF0000)), _floats)


@_from_words
def mxfp4_weights(builder, words, which):
    """Before scaling."""
    return _e2m1(builder, builder.lshr(words, builder.shl(which, _constant(_ints, 2))))


@_sized_intrinsic(_tile, types.int64, types.int64)
def load_scales(builder, address, stride, n):
    """Of each of n rows, `stride` bytes apart: the scales of LANES / 4 blocks of MXFP4, each in the lanes of its
    block's 4 words.
    """
    in_exponent = ir.Constant(_ints, [(23 - 8 * (lane // 4)) % 32 for lane in range(LANES)])
    rotate = _function(builder, f"llvm.fshl.v{LANES}i32", _ints, _ints, _ints, _ints)
    tile = []
    for i in range(n):
        raw = builder.load(_pointer(builder, address, ir.IntType(2 * LANES), stride, i), align=1)
        scales = _splat(builder, raw if LANES == 16 else builder.zext(raw, _i32), _ints)
        rotated = builder.call(rotate, [scales, scales, in_exponent])
        tile.append(builder.bitcast(builder.and_(rotated, _constant(_ints, 0x7F800000)), _floats))
    return _pack(tile, builder)


@intrinsic
def add_scaled(typingctx, sums, products, scales):
    """sums[i, j] + products[i, j] * scales[i]."""

    def codegen(context, builder, _, values):
        tile, more, by_row = values
        n_columns = sums.count // scales.count
        for i in range(sums.count):
            factors = builder.extract_value(more, i), builder.extract_value(by_row, i // n_columns)
            tile = builder.insert_value(tile, _fma(builder, *factors, builder.extract_value(tile, i)), i)
        return tile

    return signature(sums, sums, products, scales), codegen


# What the intrinsics emit

_E2M1 = [
    0.0,
    0.5,
    1.0,
    1.5,
    2.0,
    3.0,
    4.0,
    6.0,
]  # OCP Microscaling Formats v1.0, section 5.3.3; a code's fourth bit is the sign


def _e2m1(builder: ir.IRBuilder, codes: Any) -> Any:
    """The numbers that bits 0 to 3 of each lane stand for; the other bits may be anything."""
    if INSTRUCTION_SET == "avx512":  # a permutation of 16 entries, which heeds 4 bits
        table = ir.Constant(_floats, _E2M1 + [-x for x in _E2M1])
        return builder.call(
            _function(builder, "llvm.x86.avx512.permvar.sf.512", _floats, _floats, _ints), [table, codes]
        )
    shifted = builder.shl(codes, _constant(_ints, 28))
    if (
        INSTRUCTION_SET == "avx2"
    ):  # one of 8 entries, which heeds 3; then the fourth brings the sign, and the table has undone the others
        table = ir.Constant(_ints, [_bits(x) ^ code << 28 for code, x in enumerate(_E2M1)])
        magnitudes = builder.call(_function(builder, "llvm.x86.avx2.permd", _ints, _ints, _ints), [table, codes])
        return builder.bitcast(builder.xor(magnitudes, shifted), _floats)
    # None at all: the doubled magnitudes, 0 1 2 3 4 6 8 12, are the hexadecimal digits of a number.
    digit = builder.shl(builder.and_(codes, _constant(_ints, 7)), _constant(_ints, 2))
    doubled = builder.and_(builder.lshr(_constant(_ints, 0xC8643210), digit), _constant(_ints, 15))
    magnitudes = builder.fmul(builder.sitofp(doubled, _floats), _constant(_floats, 0.5))
    sign = builder.and_(shifted, _constant(_ints, 0x80000000))
    return builder.bitcast(builder.or_(builder.bitcast(magnitudes, _ints), sign), _floats)


def _bits(x: float) -> int:
    return int.from_bytes(struct.pack("<f", x), "little")


def _e8m0(builder: ir.IRBuilder, exponents: Any, result: ir.Type) -> Any:
    # 0 stands for 2^-127, which the exponent field cannot say; it becomes zero.
    shift = _i32(23) if result == _f32 else _constant(_ints, 23)
    return builder.bitcast(builder.shl(exponents, shift), result)


def _fma(builder: ir.IRBuilder, a: Any, b: Any, c: Any) -> Any:
    # fmuladd is a fused multiply-add where the CPU has one; fma would call a slow function where it has none.
    fmuladd = _function(builder, f"llvm.fmuladd.v{a.type.count}f32", a.type, a.type, a.type, a.type)
    return builder.call(fmuladd, [a, b, c])


def _sum_lanes(builder: ir.IRBuilder, vector: Any) -> Any:
    reduce = _function(builder, f"llvm.vector.reduce.fadd.v{LANES}f32", _f32, _f32, _floats)
    return builder.call(reduce, [_f32(0.0), vector], fastmath=["reassoc"])


def _listed(builder: ir.IRBuilder, addresses: Any, i: int, offset: Any, to: ir.Type) -> Any:
    """A pointer to the i-th of the addresses in memory at `addresses`, plus an offset."""
    address = builder.load(_pointer(builder, addresses, _i64, _i64(8), i), align=8)
    return _pointer(builder, builder.add(address, offset), to)


def _transposed(builder: ir.IRBuilder, rows: list) -> list:
    """The columns of LANES vectors: in each step, rows s apart swap their blocks of s lanes."""
    step = 1
    while step < LANES:
        swapped = list(rows)
        for i in range(LANES):
            if i & step:
                continue
            low = [j if not j & step else LANES + j - step for j in range(LANES)]
            high = [j + step if not j & step else LANES + j for j in range(LANES)]
            for to, places in ((i, low), (i + step, high)):
                swapped[to] = builder.shuffle_vector(rows[i], rows[i + step], ir.Constant(_ints, places))
        rows, step = swapped, 2 * step
    return rows


def _function(builder: ir.IRBuilder, name: str, result: ir.Type, *arguments: ir.Type) -> Any:
    return builder.module.declare_intrinsic(name, fnty=ir.FunctionType(result, arguments))


def _splat(builder: ir.IRBuilder, value: Any, vector: ir.VectorType) -> Any:
    undefined = ir.Constant(vector, ir.Undefined)
    return builder.shuffle_vector(
        builder.insert_element(undefined, value, _i32(0)), undefined, ir.Constant(_ints, None)
    )


def _constant(vector: ir.VectorType, value: float) -> ir.Constant:
    return ir.Constant(vector, [value] * LANES)


def _pack(values: list, builder: ir.IRBuilder) -> Any:
    packed = ir.Constant(ir.ArrayType(values[0].type, len(values)), ir.Undefined)
    for i, value in enumerate(values):
        packed = builder.insert_value(packed, value, i)
    return packed


def _pointer(builder: ir.IRBuilder, address: Any, to: ir.Type, stride: Any = None, i: int = 0) -> Any:
    """A pointer to `address`, or to i strides (bytes) beyond it."""
    pointer = builder.inttoptr(address, _i8.as_pointer())
    if stride is not None:
        pointer = builder.gep(pointer, [builder.mul(stride, _i64(i))])
    return builder.bitcast(pointer, to.as_pointer())
