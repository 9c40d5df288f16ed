"""How many threads compute, in torch and in the kernels alike; the one lock that every launch holds; the memory that
launches share.
"""

import ctypes
import threading
from functools import cache
from typing import NamedTuple

import numba
import numpy as np
import torch
from numba import prange

from gptoss_lab.ops.compile import Kernel, ParallelLoop, packer
from gptoss_lab.ops.sharing import Work, new_tickets, shares_each, take_part

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


def launch(kernel: Kernel, job: NamedTuple, multiply_adds: int, cut: bool = True) -> None:
    """Runs a kernel on a job: on all threads, or on this one where there is little to do (or nothing: 0).

    cut: whether a thread may have several shares, where there is much to do.
    """
    with lock:
        _packer(type(job)).pack_into(_job, 0, *job)
        if multiply_adds < WORTH_WAKING_A_THREAD or _n_threads == 1:
            kernel.run(0, 0, 1, _JOB_ADDRESS)
            return
        n_each = int(shares_each(multiply_adds, _n_threads)) if cut else 1
        work = np.array(Work(kernel.address, _JOB_ADDRESS, 1, 0, _n_threads, n_each), dtype=np.int64)
        tickets = new_tickets(1, _n_threads)
        _on_all_threads.run(work.ctypes.data, tickets.ctypes.data, _n_threads)


def scratch(n_floats: int) -> int:
    """The address of n_floats float32s, on a page boundary; theirs who hold the lock, for as long as they do."""
    global _scratch
    if _scratch.numel() < n_floats + 1024:
        _scratch = torch.empty(n_floats + n_floats // 4 + 1024)
    return -(-_scratch.data_ptr() // 4096) * 4096


_JOB_ADDRESS = ctypes.addressof(_job)
_packer = cache(packer)


@ParallelLoop
def _on_all_threads(work, tickets, n_threads):
    for thread in prange(n_threads):
        take_part(thread, work, tickets)
