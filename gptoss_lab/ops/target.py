"""The CPU that numba compiles for, which NUMBA_CPU_NAME may choose, and how wide its registers are."""

import llvmlite.binding
import numba
from llvmlite import ir
from numba.core.registry import cpu_target

if numba.config.CPU_NAME and numba.config.CPU_FEATURES is None:
    numba.config.CPU_FEATURES = ""  # a name alone means that CPU; numba would add what the host can do

# (triple, CPU name, features)
TARGET: tuple[str, str, str] = cpu_target.target_context.codegen().magic_tuple()


def _instruction_set() -> str:
    """Ask LLVM which registers it would use to multiply and add 16 floats."""
    triple, name, features = TARGET
    vector = ir.VectorType(ir.FloatType(), 16)
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(vector, [vector] * 3), "multiply_add")
    builder = ir.IRBuilder(function.append_basic_block())
    fma = ir.Function(module, function.function_type, "llvm.fma.v16f32")
    builder.ret(builder.call(fma, function.args))
    machine = llvmlite.binding.Target.from_triple(triple).create_target_machine(cpu=name, features=features)
    assembly = machine.emit_assembly(llvmlite.binding.parse_assembly(str(module)))
    if "vfmadd" not in assembly:
        return "portable"
    return "avx512" if "%zmm" in assembly else "avx2"


INSTRUCTION_SET = _instruction_set()
LANES = {"avx512": 16, "avx2": 8, "portable": 4}[INSTRUCTION_SET]

BFLOAT16_DOTS = INSTRUCTION_SET == "avx512" and "+avx512bf16" in TARGET[2].split(",")
"""Whether there is an instruction that multiplies pairs of bfloat16 numbers and adds the products in float32."""

BYTE_DOTS = INSTRUCTION_SET == "avx2" or (
    INSTRUCTION_SET == "avx512" and {"+avx512vnni", "+avx512vbmi"} <= set(TARGET[2].split(","))
)
"""Whether there are instructions that multiply bytes, adding neighbouring products, and that look bytes up."""

FORESEES_ROWS = TARGET[1] == "znver4"
"""Whether what is read in order arrives sooner where nobody asks for it ahead of time. Measured on Zen 4, where one
core then reads bfloat16 at 25 GB/s rather than 22; not tried elsewhere.
"""

DIGITS_FOR_MANY = TARGET[1] == "znver4"
"""Whether many vectors too meet MXFP4 sooner as whole numbers, with weights looked up once for all of them, than in
panels of floats. Measured on Zen 4, which multiplies 64 bytes in the time of 16 floats. Not tried elsewhere.
"""
