"""How threads share a kernel's work out among themselves.

Work is cut into shares. Each thread has a row of shares of its own, which follow each other in memory; who is through
with them takes from the ends of others' rows, for one core may be slower than another, or busy. Whatever happens to
the others, any thread by itself would finish all of it.
"""

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from gptoss_lab.ops.atomics import fetch_and_add, get_shared_int, pause
from gptoss_lab.ops.compile import device, job_reader

WORTH_CUTTING = 5_000_000
"""Multiply-adds (or what takes as long) from which on a thread has more than one share."""
_SHARES_EACH = 16

_WORD = 8


class Work(NamedTuple):
    """A kernel and its jobs, which may be done in any order."""

    kernel: int
    jobs: int
    n_jobs: int
    bytes_a_job: int
    n_rows: int
    """Of shares: as many as there are threads to do them, or one."""
    n_each: int
    """Shares in a row."""


def shares_each(multiply_adds: int | NDArray[np.int64], n_threads: int) -> NDArray[np.int64]:
    """How many shares each of so many threads should have."""
    enough = (np.asarray(multiply_adds) >= WORTH_CUTTING) & (n_threads > 1)
    return np.where(enough, _SHARES_EACH, 1)


def most_shares(n_threads: int) -> int:
    """Of any work."""
    return n_threads * _SHARES_EACH


def new_tickets(n_works: int, n_threads: int) -> NDArray[np.int64]:
    """What threads agree by, [work, word]: how many shares are done; how many of each row are taken, and how many of
    these at its end. Zeros, to begin with.
    """
    return np.zeros((n_works, 1 + 2 * n_threads), dtype=np.int64)


_read = job_reader(Work)


@device
def take_part(thread, address, tickets):
    """One thread's part in the `Work` at an address; comes back when all of it is done."""
    work = _read(address)
    for others in range(work.n_rows):
        row = (thread + others) % work.n_rows
        taken, taken_at_end = tickets + (1 + 2 * row) * _WORD, tickets + (2 + 2 * row) * _WORD
        following = 0
        while fetch_and_add(taken, 1) < work.n_each:
            if row == thread:
                share = following
                following += 1
            else:
                share = work.n_each - 1 - fetch_and_add(taken_at_end, 1)
            _do(thread, work, row * work.n_each + share)
            fetch_and_add(tickets, 1)
    while get_shared_int(tickets) < work.n_rows * work.n_each:
        pause()


@device
def _do(thread, work, share):
    for job in range(work.n_jobs):
        _call(work.kernel, thread, share, work.n_rows * work.n_each, work.jobs + job * work.bytes_a_job)


@intrinsic
def _call(typingctx, address, thread, share, n_shares, job):
    """One share of a job, by the kernel at an address."""

    def codegen(context, builder, _, values):
        word = ir.IntType(64)
        function = builder.inttoptr(values[0], ir.FunctionType(ir.VoidType(), [word] * 4).as_pointer())
        builder.call(function, values[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), codegen
