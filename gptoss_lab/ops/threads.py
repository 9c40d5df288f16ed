"""How many threads compute, in torch and in the kernels alike; the one lock that every launch holds; the memory that
launches share.
"""

import ctypes
import threading
from functools import cache
from typing import NamedTuple

import numba
import torch
from llvmlite import ir
from numba import prange
from numba.core import types
from numba.extending import intrinsic

from gptoss_lab.ops.compile import Kernel, ParallelLoop, packer

# A widget's background thread may run a model beside a cell, but neither numba's pool nor the scratch memory bears two
# launches at once.
lock = threading.RLock()

WORTH_WAKING_A_THREAD = 500_000
"""Multiply-adds (or what takes as long) below which the others are left asleep."""

_n_threads = min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS)
_scratch = torch.empty(0)
_job = ctypes.create_string_buffer(512)


def set_threads(n: int) -> None:
    """Computes with n threads from now on, in torch's operations and in the kernels.

    Raises ValueError where n is below 1 or above what numba's pool was started with: NUMBA_NUM_THREADS, by default the
    number of cores.
    """
    global _n_threads
    most = numba.config.NUMBA_NUM_THREADS
    if not 1 <= n <= most:
        raise ValueError(f"threads must be from 1 to {most}, not {n} (NUMBA_NUM_THREADS sets the limit)")
    with lock:
        torch.set_num_threads(n)
        numba.set_num_threads(n)
        _n_threads = n


def threads() -> int:
    """The number of threads that kernels compute with."""
    return _n_threads


def launch(kernel: Kernel, job: NamedTuple, multiply_adds: int) -> None:
    """Runs a kernel on a job: on all threads, or on this one where there is little to do (or nothing: 0)."""
    with lock:
        _packer(type(job)).pack_into(_job, 0, *job)
        if multiply_adds < WORTH_WAKING_A_THREAD or _n_threads == 1:
            kernel.run(0, 1, _JOB_ADDRESS)
        else:
            _on_all_threads.run(kernel.address, _n_threads, _JOB_ADDRESS)


def scratch(n_floats: int) -> int:
    """The address of n_floats float32s, on a page boundary; theirs who hold the lock, for as long as they do."""
    global _scratch
    if _scratch.numel() < n_floats + 1024:
        _scratch = torch.empty(n_floats + n_floats // 4 + 1024)
    return -(-_scratch.data_ptr() // 4096) * 4096


_JOB_ADDRESS = ctypes.addressof(_job)
_packer = cache(packer)


@intrinsic
def call(typingctx, address, thread, n_threads, job):
    """In compiled code: one thread's share of a job, by the kernel at an address."""

    def codegen(context, builder, _, values):
        word = ir.IntType(64)
        function = builder.inttoptr(values[0], ir.FunctionType(ir.VoidType(), [word] * 3).as_pointer())
        builder.call(function, values[1:])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), codegen


@ParallelLoop
def _on_all_threads(address, n_threads, job):
    for thread in prange(n_threads):
        call(address, thread, n_threads, job)
