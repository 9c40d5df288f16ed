"""Numba types for vectors in registers, and what it takes to write functions for them in LLVM's language."""

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import signature
from numba.extending import intrinsic, models, register_model

from gptoss_lab.ops.target import BFLOAT16_DOTS, LANES


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


def tile_of(n: int) -> types.UniTuple:
    """n Floats, which LLVM keeps in registers."""
    return types.UniTuple(Floats, n)


def emitted(result: types.Type, *arguments: types.Type) -> Callable[[Callable], Any]:
    """Makes a function for kernels of one that is given an LLVM builder and values, and gives a value, or none."""

    def decorate(emit: Callable) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, _: Any, values: list) -> Any:
            return emit(builder, *values) or context.get_dummy_value()

        @wraps(emit)  # numba counts the arguments of what it is given
        def typing(typingctx: Any, *given: types.Type) -> Any:
            return signature(result, *arguments), codegen

        return intrinsic(typing)

    return decorate


def emitted_sized(result: Callable[[int], types.Type], *arguments: types.Type) -> Callable[[Callable], Any]:
    """The same, with a last argument that is a constant in the kernel: an int for `emit` and the result's type."""

    def decorate(emit: Callable) -> Any:
        @wraps(emit)
        def typing(typingctx: Any, *given: types.Type) -> Any:
            n = given[-1].literal_value

            def codegen(context: Any, builder: ir.IRBuilder, _: Any, values: list) -> Any:
                return emit(builder, *values[:-1], n)

            return signature(result(n), *arguments, given[-1]), codegen

        return intrinsic(prefer_literal=True)(typing)

    return decorate


# LLVM's side

I8, I16, I32, I64, F32 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
FLOATS = ir.VectorType(F32, LANES)
HALVES = ir.VectorType(I16, 2 * LANES)
INTS = ir.VectorType(I32, LANES)


def pointer(builder: ir.IRBuilder, address: Any, to: ir.Type, stride: Any = None, i: int = 0) -> Any:
    """A pointer to an address, or to i strides (bytes) beyond it."""
    raw = builder.inttoptr(address, I8.as_pointer())
    if stride is not None:
        raw = builder.gep(raw, [builder.mul(stride, I64(i))])
    return builder.bitcast(raw, to.as_pointer())


def load_from(builder: ir.IRBuilder, address: Any, to: ir.Type, stride: Any = None, i: int = 0, align: int = 4) -> Any:
    return builder.load(pointer(builder, address, to, stride, i), align=align)


def constant(vector: ir.VectorType, value: float) -> ir.Constant:
    """The same number in all lanes."""
    return ir.Constant(vector, [value] * vector.count)


def splat_of(builder: ir.IRBuilder, value: Any, vector: ir.VectorType) -> Any:
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, value, I32(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, vector.count), None))


def array_of(builder: ir.IRBuilder, values: list) -> Any:
    """What a tuple of equal types is in LLVM."""
    array = ir.Constant(ir.ArrayType(values[0].type, len(values)), ir.Undefined)
    for i, value in enumerate(values):
        array = builder.insert_value(array, value, i)
    return array


def items_of(builder: ir.IRBuilder, array: Any) -> list:
    return [builder.extract_value(array, i) for i in range(array.type.count)]


def call(builder: ir.IRBuilder, name: str, result: ir.Type, *arguments: Any, **options: Any) -> Any:
    """Calls one of LLVM's own functions."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(builder.module.declare_intrinsic(name, fnty=kind), arguments, **options)


def call_bfloat16(builder: ir.IRBuilder, name: str, result: ir.Type, *arguments: Any) -> Any:
    """Calls one of AVX-512's functions for bfloat16. A CPU without them gets anything: nobody may ask for it there."""
    if not BFLOAT16_DOTS:
        return ir.Constant(result, ir.Undefined)
    return call(builder, name, result, *arguments)


def hidden(builder: ir.IRBuilder, value: ir.Constant) -> Any:
    """A constant of which LLVM knows nothing: so it cannot choose other instructions for what it is used in."""
    place = ir.GlobalVariable(builder.module, value.type, builder.module.get_unique_name("hidden"))
    place.initializer, place.global_constant, place.linkage, place.align = value, True, "internal", 64
    same = ir.InlineAsm(ir.FunctionType(I64, [I64]), "", "=r,0")  # no instruction
    return load_from(builder, builder.call(same, [builder.ptrtoint(place, I64)]), value.type, align=64)


def in_order(builder: ir.IRBuilder) -> None:
    """What reads memory before this stays before it, and what reads it after stays after. Then LLVM neither keeps in
    registers what is read once more, nor puts off what waits for it.
    """
    builder.call(ir.InlineAsm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", side_effect=True), [])


def fma_of(builder: ir.IRBuilder, a: Any, b: Any, c: Any) -> Any:
    # fmuladd is one instruction where the CPU has it; fma would call a slow function where it has not.
    return call(builder, f"llvm.fmuladd.v{LANES}f32", FLOATS, a, b, c)


def sum_of(builder: ir.IRBuilder, vector: Any) -> Any:
    """The sum over the lanes."""
    return call(builder, f"llvm.vector.reduce.fadd.v{LANES}f32", F32, F32(-0.0), vector, fastmath=["reassoc"])


def columns_of_four(builder: ir.IRBuilder, vectors: list) -> list:
    """Of 4 vectors: the first of each 4 lanes, those of the same place side by side; the second of each; and so on."""

    def mixed(first: Any, second: Any, half: int) -> Any:
        """Their numbers by turns, of one half of each 128 bits: one instruction."""
        count, n = first.type.count, 4 * first.type.count // LANES
        numbers = [lane + half * n // 2 + i for lane in range(0, count, n) for i in range(n // 2)]
        return shuffled(builder, first, second, [number + which for number in numbers for which in (0, count)])

    kind, wide = vectors[0].type, ir.VectorType(I64, LANES // 2)
    columns = []
    for half in range(2):
        pairs = [builder.bitcast(mixed(vectors[i], vectors[i + 1], half), wide) for i in (0, 2)]
        columns += [builder.bitcast(mixed(pairs[0], pairs[1], which), kind) for which in range(2)]
    return columns


def shuffled(builder: ir.IRBuilder, first: Any, second: Any, places: Iterable[int]) -> Any:
    """Lanes of two vectors: those at some places, the second's after the first's."""
    taken = list(places)
    return builder.shuffle_vector(first, second, ir.Constant(ir.VectorType(I32, len(taken)), taken))


def transposed(builder: ir.IRBuilder, rows: list) -> list:
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
                swapped[to] = shuffled(builder, rows[i], rows[i + step], places)
        rows, step = swapped, 2 * step
    return rows
