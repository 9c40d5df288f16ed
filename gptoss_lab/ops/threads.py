"""How many threads compute, in torch and in numba alike; the one lock that every launch holds; the scratch memory that launches share."""

import threading

import numba
import torch

# A widget's background thread may run a model beside a cell. Neither numba's thread pools nor the scratch memory bear two launches at once.
launch_lock = threading.RLock()

_MULTIPLY_ADDS_WORTH_A_THREAD = 30_000
_in_this_thread = threading.local()
_count = min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS)
_scratch = torch.empty(0)


def set_threads(n: int) -> None:
    """Compute with n threads, in torch's operations and in the kernels.

    Raises ValueError where n is below 1 or above what numba's pool was started with (NUMBA_NUM_THREADS; the number of cores by default).
    """
    global _count
    most = numba.config.NUMBA_NUM_THREADS
    if not 1 <= n <= most:
        raise ValueError(f"threads must be from 1 to {most} (NUMBA_NUM_THREADS), not {n}")
    with launch_lock:
        torch.set_num_threads(n)
        _count = n
        _tell_numba()
    if (torch.get_num_threads(), numba.get_num_threads()) != (n, n):
        raise RuntimeError(f"asked for {n} threads; torch uses {torch.get_num_threads()}, numba {numba.get_num_threads()}")


def threads() -> int:
    """The number of threads that kernels compute with."""
    return _count


def threads_for(multiply_adds: int) -> int:
    """The number of threads worth waking for an amount of work: 1 for little. To be called with the lock held, before a launch."""
    if multiply_adds < _MULTIPLY_ADDS_WORTH_A_THREAD:
        return 1
    if getattr(_in_this_thread, "told", None) != _count:
        _tell_numba()
    return _count


def scratch(n_floats: int) -> int:
    """The address of n_floats float32s, on a page boundary, for one launch: to be called, and used, with the lock held."""
    global _scratch
    if _scratch.numel() < n_floats + 1024:
        _scratch = torch.empty(n_floats + n_floats // 4 + 1024)
    return -(-_scratch.data_ptr() // 4096) * 4096


def _tell_numba() -> None:
    # numba keeps its number for each Python thread, so each must be told.
    numba.set_num_threads(_count)
    _in_this_thread.told = _count
