"""Vectors for kernels: numba types for LANES numbers in a register, and what kernels do with them.

    Floats, Ints    LANES float32s, LANES int32s
    tile            a tuple of Floats, its length known when compiling, which LLVM keeps in registers
    address         an int64; nothing here checks bounds

LANES is 16 where numba compiles for AVX-512, 8 for AVX2 and 4 elsewhere. Only the decoding of E2M1 is written for an instruction set; all
else is LLVM's own vector arithmetic, which every CPU has.
"""

import operator
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


@_intrinsic(types.int64, types.int64)
def get_int(builder, address):
    """The int64 at an address."""
    return builder.load(_pointer(builder, address, _i64), align=8)


@_intrinsic(types.float32, types.int64)
def get_scale(builder, address):
    """The float32 that the E8M0 byte at an address stands for: 2^(byte - 127)."""
    return _e8m0(builder, builder.zext(builder.load(_pointer(builder, address, _i8)), _i32), _f32)


# Vectors in memory


@_intrinsic(Floats, types.int64)
def load(builder, address):
    return builder.load(_pointer(builder, address, _floats), align=4)


@_intrinsic(types.void, types.int64, Floats)
def store(builder, address, vector):
    builder.store(vector, _pointer(builder, address, _floats), align=4)


@_intrinsic(Ints, types.int64)
def load_ints(builder, address):
    return builder.load(_pointer(builder, address, _ints), align=4)


@_intrinsic(Floats, types.int64)
def load_scales(builder, address):
    """LANES E8M0 bytes as the float32s they stand for."""
    raw = builder.load(_pointer(builder, address, ir.VectorType(_i8, LANES)), align=1)
    return _e8m0(builder, builder.zext(raw, _ints), _floats)


@_intrinsic(types.void, types.int64, types.int64, types.int64, types.int64)
def transpose(builder, source, source_stride, to, to_stride):
    """Store the LANES rows of LANES floats at `source` as columns at `to`; strides in bytes."""
    rows = [builder.load(_pointer(builder, source, _floats, source_stride, i), align=4) for i in range(LANES)]
    for i, column in enumerate(_transposed(builder, rows)):
        builder.store(column, _pointer(builder, to, _floats, to_stride, i), align=4)


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
    """e^x to about 1e-7 relative; below -87 it is e^-87, near enough to nothing. (Cephes expf: Cody and Waite's reduction, then a polynomial.)"""
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


for _symbol, _method in [(operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul"), (operator.truediv, "fdiv")]:
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
    """The sum over the lanes of each vector of the tile, one float each: number i goes to row i // n_columns, column i % n_columns."""

    def codegen(context, builder, _, values):
        for i in range(tile.count):
            row, column = divmod(i, n_columns.literal_value)
            at = builder.add(values[0], builder.mul(values[1], _i64(row)))
            total = _sum_lanes(builder, builder.extract_value(values[3], i))
            builder.store(total, _pointer(builder, at, _f32, values[2], column), align=4)
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


# Weights in memory, by format: for n rows, the next 2 * LANES weights of each, as a tile of n vectors and another.
# Packed formats give even elements, then odd ones; the vectors they meet are laid out alike (`split`).


def _two_tiles(n: int) -> types.UniTuple:
    return types.UniTuple(_tile(n), 2)


@_sized_intrinsic(_two_tiles, types.int64, types.int64, types.int64, types.int64)
def load_float32(builder, address, stride, _scales, _scales_stride, n):
    """n rows, `stride` bytes apart: first LANES elements, next LANES elements."""
    second = builder.add(address, _i64(4 * LANES))
    halves = [[builder.load(_pointer(builder, half, _floats, stride, i), align=4) for i in range(n)] for half in (address, second)]
    return _pack([_pack(half, builder) for half in halves], builder)


@_sized_intrinsic(_two_tiles, types.int64, types.int64, types.int64, types.int64)
def load_bfloat16(builder, address, stride, _scales, _scales_stride, n):
    """n rows, `stride` bytes apart: even elements, odd elements."""
    pairs = [builder.load(_pointer(builder, address, _ints, stride, i), align=2) for i in range(n)]
    even = [builder.bitcast(builder.shl(pair, _constant(_ints, 16)), _floats) for pair in pairs]
    odd = [builder.bitcast(builder.and_(pair, _constant(_ints, 0xFFFF0000)), _floats) for pair in pairs]
    return _pack([_pack(even, builder), _pack(odd, builder)], builder)


@_sized_intrinsic(_two_tiles, types.int64, types.int64, types.int64, types.int64)
def load_mxfp4(builder, address, stride, scales, scales_stride, n):
    """n rows of E2M1 pairs, `stride` bytes apart, times the float32 scale of each: even elements, odd elements."""
    even, odd = [], []
    for i in range(n):
        raw = builder.load(_pointer(builder, address, ir.VectorType(_i8, LANES), stride, i), align=1)
        scale = builder.load(_pointer(builder, scales, _f32, scales_stride, i), align=4)
        low, high = _e2m1(builder, builder.zext(raw, _ints), _splat(builder, scale, _floats))
        even.append(low)
        odd.append(high)
    return _pack([_pack(even, builder), _pack(odd, builder)], builder)


@_intrinsic(types.void, types.int64, types.int64)
def split(builder, source, to):
    """Copy 2 * LANES floats: those at even places first, then those at odd ones."""
    first, second = (builder.load(_pointer(builder, source, _floats, _i64(4 * LANES), i), align=4) for i in range(2))
    for i in range(2):
        places = ir.Constant(ir.VectorType(_i32, LANES), list(range(i, 2 * LANES, 2)))
        pointer = _pointer(builder, to, _floats, _i64(4 * LANES), i)
        builder.store(builder.shuffle_vector(first, second, places), pointer, align=4)


# What the intrinsics emit

_E2M1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]  # OCP Microscaling Formats v1.0, section 5.3.3; the fourth bit is the sign


def _e2m1(builder: ir.IRBuilder, codes: Any, scale: Any) -> tuple:
    """The values of bits 0-3, and those of bits 4-7, of each lane, times a positive scale."""
    high_codes = builder.lshr(codes, _constant(_ints, 4))
    if INSTRUCTION_SET == "avx512":  # one permutation of 16 entries
        table = builder.fmul(ir.Constant(_floats, _E2M1 + [-x for x in _E2M1]), scale)
        permute = _function(builder, "llvm.x86.avx512.permvar.sf.512", _floats, _floats, _ints)
        return builder.call(permute, [table, codes]), builder.call(permute, [table, high_codes])
    if INSTRUCTION_SET == "avx2":  # a permutation of 8 entries, which heeds the three lowest bits; the sign is put on after
        table = builder.fmul(ir.Constant(_floats, _E2M1), scale)
        permute = _function(builder, "llvm.x86.avx2.permps", _floats, _floats, _ints)
        magnitudes = builder.call(permute, [table, codes]), builder.call(permute, [table, high_codes])
    else:  # twice the magnitudes, as the hexadecimal digits of one number
        scale = builder.fmul(scale, _constant(_floats, 0.5))
        magnitudes = tuple(builder.fmul(_digit(builder, 0xC8643210, code), scale) for code in (codes, high_codes))
    return tuple(_with_sign(builder, m, builder.shl(codes, _constant(_ints, s))) for m, s in zip(magnitudes, (28, 24), strict=True))


def _digit(builder: ir.IRBuilder, digits: int, places: Any) -> Any:
    """Hexadecimal digit number (places mod 8) of a number, as floats."""
    shift = builder.shl(builder.and_(places, _constant(_ints, 7)), _constant(_ints, 2))
    return builder.sitofp(builder.and_(builder.lshr(_constant(_ints, digits), shift), _constant(_ints, 15)), _floats)


def _with_sign(builder: ir.IRBuilder, magnitudes: Any, signs: Any) -> Any:
    """Magnitudes, negative where the highest bit of `signs` is set."""
    bits = builder.or_(builder.bitcast(magnitudes, _ints), builder.and_(signs, _constant(_ints, 0x80000000)))
    return builder.bitcast(bits, _floats)


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
    return builder.shuffle_vector(builder.insert_element(undefined, value, _i32(0)), undefined, ir.Constant(_ints, None))


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
