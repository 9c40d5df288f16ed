"""What threads do with an integer that they share, so that each sees what the others have done before."""

from typing import Any

from llvmlite import ir
from numba.core import types

from gptoss_lab.ops.target import TARGET
from gptoss_lab.ops.vectors import I64, call, emitted, pointer

_int, _void = types.int64, types.void


@emitted(_int, _int, _int)
def fetch_and_add(builder: ir.IRBuilder, address: Any, number: Any) -> Any:
    """Adds to the int64 at an address; gives what it was before."""
    return builder.atomic_rmw("add", pointer(builder, address, I64), number, "acq_rel")


@emitted(_int, _int)
def get_shared_int(builder: ir.IRBuilder, address: Any) -> Any:
    """The int64 at an address, and with it all that was written before it was."""
    return builder.load_atomic(pointer(builder, address, I64), "acquire", 8)


@emitted(_void)
def pause(builder: ir.IRBuilder) -> None:
    """Tells the CPU that this thread waits for another one."""
    if TARGET[0].startswith("x86_64"):
        call(builder, "llvm.x86.sse2.pause", ir.VoidType())
