"""What kernels do with memory and vectors. Addresses and strides are int64, in bytes; nothing here checks bounds."""

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin

from gptoss_lab.ops.compile import device
from gptoss_lab.ops.target import LANES
from gptoss_lab.ops.vectors import (
    F32,
    FLOATS,
    HALVES,
    I8,
    I32,
    I64,
    INTS,
    Floats,
    Ints,
    array_of,
    call,
    call_bfloat16,
    constant,
    emitted,
    emitted_sized,
    fma_of,
    items_of,
    load_from,
    pointer,
    splat_of,
    sum_of,
    tile_of,
    transposed,
)

_float, _int, _void = types.float32, types.int64, types.void

# Single numbers in memory


@emitted(_float, _int)
def get_float(builder, address):
    return load_from(builder, address, F32)


@emitted(_void, _int, _float)
def set_float(builder, address, value):
    builder.store(value, pointer(builder, address, F32), align=4)


@emitted(_int, _int)
def get_int(builder, address):
    """The int64 at an address."""
    return load_from(builder, address, I64, align=8)


@emitted(_void, _int, _int)
def set_int(builder, address, value):
    builder.store(value, pointer(builder, address, I64), align=8)


@emitted(_void, _int, types.int32)
def set_int32(builder, address, value):
    builder.store(value, pointer(builder, address, I32), align=4)


@emitted(_int, _int)
def get_byte(builder, address):
    return builder.zext(load_from(builder, address, I8, align=1), I64)


@emitted(_void, _int, _int)
def set_byte(builder, address, value):
    builder.store(builder.trunc(value, I8), pointer(builder, address, I8))


# Vectors in memory


@emitted(Floats, _int)
def load(builder, address):
    return load_from(builder, address, FLOATS)


@emitted(Ints, _int)
def load_ints(builder, address):
    return load_from(builder, address, INTS)


@emitted(_void, _int, Floats)
def store(builder, address, vector):
    builder.store(vector, pointer(builder, address, FLOATS), align=4)


@emitted(_void, _int)
def prefetch(builder, address):
    """Asks for the cache line at an address, which need not exist, into the L2 cache.

    Asked for into the L1 cache, a core of a Zen 4 CPU reads 13 GB/s rather than 22: as if each line held one of that
    cache's few buffers until memory has answered.
    """
    read, into_l2, data = I32(0), I32(2), I32(1)
    call(builder, "llvm.prefetch.p0", ir.VoidType(), pointer(builder, address, I8), read, into_l2, data)


@emitted(_void, _int, _int, _int, _int)
def gather_columns(builder, rows, offset, to, places):
    """Transposes: LANES floats each of LANES rows, whose addresses stand at `rows`, become LANES vectors.

    The floats are `offset` bytes into the rows. Vector i goes to `to` plus the i-th of the offsets at `places`.
    """
    taken = [load_from(builder, _listed(builder, rows, i, offset), FLOATS) for i in range(LANES)]
    for i, column in enumerate(transposed(builder, taken)):
        builder.store(column, pointer(builder, _listed(builder, places, i, to), FLOATS), align=4)


@emitted(_void, _int, _int, _int)
def gather_pairs(builder, rows, offset, to):
    """As `gather_columns`, of two times LANES floats each, rounded to bfloat16: LANES vectors of pairs, in order."""
    taken = []
    for i in range(LANES):
        row = _listed(builder, rows, i, offset)
        first, second = (load_from(builder, row, FLOATS, I64(4 * LANES), half) for half in range(2))
        taken.append(builder.bitcast(_rounded(builder, first, second), FLOATS))
    for i, column in enumerate(transposed(builder, taken)):
        builder.store(column, pointer(builder, to, FLOATS, I64(4 * LANES), i), align=4)


@emitted(_void, _int, _int, _int, _int)
def scatter_columns(builder, source, stride, rows, offset):
    """The way back: of LANES vectors, `stride` apart, LANES floats go to each of the rows listed at `rows`."""
    taken = [load_from(builder, source, FLOATS, stride, i) for i in range(LANES)]
    for i, column in enumerate(transposed(builder, taken)):
        builder.store(column, pointer(builder, _listed(builder, rows, i, offset), FLOATS), align=4)


def _listed(builder: ir.IRBuilder, addresses: Any, i: int, offset: Any) -> Any:
    """The i-th of the addresses that stand in memory, plus an offset."""
    return builder.add(load_from(builder, addresses, I64, I64(8), i, align=8), offset)


# Arithmetic


@emitted(Floats, _float)
def splat(builder, value):
    return splat_of(builder, value, FLOATS)


@emitted(Floats, Floats, Floats, Floats)
def fma(builder, a, b, c):
    """a * b + c."""
    return fma_of(builder, a, b, c)


@emitted(Floats, Floats, Floats)
def minimum(builder, a, b):
    return builder.select(builder.fcmp_ordered("<", a, b), a, b)


@emitted(Floats, Floats, Floats)
def maximum(builder, a, b):
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


@emitted(_float, Floats)
def sum_lanes(builder, vector):
    return sum_of(builder, vector)


@emitted(Floats, Floats, Floats)
def pairs_of(builder, first, second):
    """Each lane of two vectors as a word: two numbers, rounded to bfloat16, the first in the lower half."""
    rounded = _rounded(builder, first, second)
    order = ir.Constant(ir.VectorType(I32, 2 * LANES), [i // 2 + i % 2 * LANES for i in range(2 * LANES)])
    return builder.bitcast(builder.shuffle_vector(rounded, rounded, order), FLOATS)


@emitted(_float, _float, _float)
def pair_of(builder, first, second):
    """One word of two numbers, as `pairs_of` makes them."""
    halves = _rounded(builder, splat_of(builder, first, FLOATS), splat_of(builder, second, FLOATS))
    words = builder.shuffle_vector(halves, halves, ir.Constant(ir.VectorType(I32, 2), [0, LANES]))
    return builder.bitcast(words, F32)


@emitted(Floats, Floats, Floats)
def pairs_in_row(builder, first, second):
    """The numbers of two vectors, one after the other, rounded to bfloat16: two to a word."""
    return builder.bitcast(_rounded(builder, first, second), FLOATS)


def _rounded(builder: ir.IRBuilder, first: Any, second: Any) -> Any:
    """The numbers of two vectors, one after the other, as bfloat16."""
    return call_bfloat16(builder, "llvm.x86.avx512bf16.cvtne2ps2bf16.512", HALVES, second, first)


@emitted(types.UniTuple(Floats, 2), Floats, Floats)
def deinterleave(builder, first, second):
    """The elements at even places of two vectors in a row, and those at odd places."""
    places = [ir.Constant(INTS, list(range(odd, 2 * LANES, 2))) for odd in range(2)]
    return array_of(builder, [builder.shuffle_vector(first, second, taken) for taken in places])


@emitted(Floats, Floats)
def swap_neighbours(builder, vector):
    """Lanes 1, 0, 3, 2 and so on."""
    return builder.shuffle_vector(vector, vector, ir.Constant(INTS, [lane ^ 1 for lane in range(LANES)]))


@emitted(Floats, Floats, types.int32, Ints, Ints)
def only_between(builder, values, number, first, last):
    """`values` in the lanes where first <= number <= last, minus infinity in the others."""
    numbers = splat_of(builder, number, INTS)
    inside = builder.and_(builder.icmp_signed("<=", first, numbers), builder.icmp_signed("<=", numbers, last))
    return builder.select(inside, values, constant(FLOATS, float("-inf")))


@emitted(Floats, Floats)
def _floor(builder, values):
    return call(builder, f"llvm.floor.v{LANES}f32", FLOATS, values)


@emitted(Floats, Floats)
def _power_of_two(builder, exponents):
    """2^n for whole numbers n from -126 to 127."""
    biased = builder.add(builder.fptosi(exponents, INTS), constant(INTS, 127))
    return builder.bitcast(builder.shl(biased, constant(INTS, 23)), FLOATS)


@device
def exp(x):
    """e^x to about 1e-7 of it; e^-87, next to nothing, for all that is less. Above 88 it stays what it is there.

    By Cody and Waite's reduction, and the polynomial of Cephes's expf.
    """
    x = minimum(maximum(x, splat(-87.0)), splat(88.0))
    n = _floor(fma(x, splat(1.44269504088896341), splat(0.5)))
    r = fma(n, splat(2.12194440e-4), fma(n, splat(-0.693359375), x))
    p = fma(splat(1.9875691500e-4), r, splat(1.3981999507e-3))
    p = fma(p, r, splat(8.3334519073e-3))
    p = fma(p, r, splat(4.1665795894e-2))
    p = fma(p, r, splat(1.6666665459e-1))
    p = fma(p, r, splat(5.0000001201e-1))
    return fma(p, r * r, r + splat(1.0)) * _power_of_two(n)


def _define_operator(symbol: Callable, method: str) -> None:
    """Makes an operator work on two Floats."""

    @infer_global(symbol)
    class Template(AbstractTemplate):
        def generic(self, args: tuple, kws: dict) -> Any:
            return signature(Floats, Floats, Floats) if args == (Floats, Floats) else None

    @lower_builtin(symbol, Floats, Floats)
    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: list) -> Any:
        return getattr(builder, method)(*args)


for _symbol, _method in {
    operator.add: "fadd",
    operator.sub: "fsub",
    operator.mul: "fmul",
    operator.truediv: "fdiv",
}.items():
    _define_operator(_symbol, _method)


# Tiles


@emitted_sized(tile_of)
def zeros(builder, n):
    return ir.Constant(ir.ArrayType(FLOATS, n), None)


@emitted_sized(tile_of, _int, _int)
def load_tile(builder, address, stride, n):
    """n vectors, `stride` apart."""
    return array_of(builder, [load_from(builder, address, FLOATS, stride, i) for i in range(n)])


@emitted_sized(tile_of, _int, _int)
def splat_tile(builder, address, stride, n):
    """n single floats, `stride` apart, each in all lanes of a vector."""
    singles = [load_from(builder, address, F32, stride, i) for i in range(n)]
    return array_of(builder, [splat_of(builder, single, FLOATS) for single in singles])


@emitted_sized(tile_of, _int, _int)
def splat_pairs(builder, address, stride, n):
    """n times two floats, `stride` apart: the first in the even lanes of a vector, the second in the odd ones."""
    pairs = ir.VectorType(I64, LANES // 2)
    words = [load_from(builder, address, I64, stride, i) for i in range(n)]
    return array_of(builder, [builder.bitcast(splat_of(builder, word, pairs), FLOATS) for word in words])


@intrinsic
def add_outer(typingctx, sums, rows, columns):
    """sums[i, j] + rows[i] * columns[j], lane by lane."""

    def codegen(context, builder, _, values):
        totals, left, right = (items_of(builder, value) for value in values)
        pairs = [(a, b) for a in left for b in right]
        return array_of(builder, [fma_of(builder, *pair, total) for pair, total in zip(pairs, totals, strict=True)])

    return signature(sums, sums, rows, columns), codegen


@intrinsic
def add_outer_of_pairs(typingctx, sums, rows, columns):
    """The same for words that are pairs of bfloat16 numbers: both products are added."""

    def codegen(context, builder, _, values):
        totals, left, right = (items_of(builder, value) for value in values)
        left, right = ([builder.bitcast(words, INTS) for words in side] for side in (left, right))
        name = "llvm.x86.avx512bf16.dpbf16ps.512"
        pairs = [(a, b) for a in left for b in right]
        sums = [call_bfloat16(builder, name, FLOATS, total, *pair) for pair, total in zip(pairs, totals, strict=True)]
        return array_of(builder, sums)

    return signature(sums, sums, rows, columns), codegen


@intrinsic(prefer_literal=True)
def add_to(typingctx, address, row_stride, column_stride, sums, n_columns):
    """Adds sums[i, j] to the vectors in memory, i rows and j columns on."""

    def codegen(context, builder, _, values):
        for at, total in _by_row_and_column(builder, values, n_columns):
            place = pointer(builder, at, FLOATS)
            builder.store(builder.fadd(builder.load(place, align=4), total), place, align=4)
        return context.get_dummy_value()

    return signature(_void, _int, _int, _int, sums, n_columns), codegen


@intrinsic(prefer_literal=True)
def store_sums(typingctx, address, row_stride, column_stride, sums, n_columns):
    """Stores the sum over the lanes of sums[i, j], one float, i rows and j columns on."""

    def codegen(context, builder, _, values):
        for at, total in _by_row_and_column(builder, values, n_columns):
            builder.store(sum_of(builder, total), pointer(builder, at, F32), align=4)
        return context.get_dummy_value()

    return signature(_void, _int, _int, _int, sums, n_columns), codegen


def _by_row_and_column(builder: ir.IRBuilder, values: list, n_columns: types.IntegerLiteral) -> Any:
    """Each vector of a tile, and its place in memory."""
    address, row_stride, column_stride, sums, _ = values
    for i, total in enumerate(items_of(builder, sums)):
        row, column = divmod(i, n_columns.literal_value)
        beyond = builder.add(builder.mul(row_stride, I64(row)), builder.mul(column_stride, I64(column)))
        yield builder.add(address, beyond), total
