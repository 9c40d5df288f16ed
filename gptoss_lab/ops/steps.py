"""Several launches as one: threads go through a list of steps without coming back to Python in between.

A step is one kernel and some jobs for it, cut into shares. Each thread has a row of shares of its own, which follow
each other in memory; who is through with them takes from the ends of others' rows, for one core may be slower than
another, or busy. When all shares are done the next step begins. Whatever happens to the others, any thread by itself
would finish the list. The jobs of one step may not depend on each other.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numba import prange
from numpy.typing import NDArray

from gptoss_lab.ops.atomics import fetch_and_add, get_shared_int, pause
from gptoss_lab.ops.compile import Kernel, ParallelLoop, device, packer
from gptoss_lab.ops.simd import get_int
from gptoss_lab.ops.threads import call, lock, threads

WORTH_SHARING = 20_000
"""Multiply-adds below which a step is left to one thread: fewer than it takes to meet the others."""
WORTH_CUTTING = 5_000_000
"""Those from which on a thread has more than one share."""
SHARES_EACH = 16
"""So many then."""

_WORD = 8


class Step(NamedTuple):
    """A kernel, its jobs (of one type), and how many multiply-adds they are, all together."""

    kernel: Kernel
    jobs: Sequence[NamedTuple]
    multiply_adds: int


class Steps:
    """A list of steps, packed once and run often."""

    def __init__(self, steps: Iterable[Step]):
        self._steps = list(steps)
        packed = [np.frombuffer(_packed(step.jobs), dtype=np.int64) for step in self._steps]
        self._words = np.concatenate(packed)
        self._firsts = np.cumsum([0, *map(len, packed)])[:-1]
        addresses = self._words.ctypes.data + _WORD * self._firsts
        rows = [_row(step, address) for step, address in zip(self._steps, addresses, strict=True)]
        self._rows = np.array(rows, dtype=np.int64)
        self._n_threads = threads()
        self._shares_each = SHARES_EACH if self._n_threads > 1 else 1
        self._tickets = np.zeros((len(rows), 1 + 2 * self._n_threads), dtype=np.int64)
        self.weigh(range(len(rows)), np.array([step.multiply_adds for step in self._steps]))

    def __len__(self) -> int:
        return len(self._steps)

    def field(self, steps: Sequence[int], name: str, job: int | None = None) -> "Field":
        """One field of the jobs of some steps, or of job number `job` of each."""
        places = [self._place(step, name, at) for step in steps for at in self._jobs_of(step, job)]
        return Field(self._words, np.array(places, dtype=np.int64))

    def weigh(self, steps: Sequence[int], multiply_adds: NDArray[np.int64]) -> None:
        """Says anew how many multiply-adds some steps are."""
        self._rows[steps, -2] = np.where(multiply_adds < WORTH_SHARING, 1, self._n_threads)
        self._rows[steps, -1] = np.where(multiply_adds < WORTH_CUTTING, 1, self._shares_each)

    def run(self) -> None:
        with lock:
            self._tickets.fill(0)
            n_threads = int(self._rows[:, -2].max())
            _run.run(self._rows.ctypes.data, self._tickets.ctypes.data, len(self._rows), n_threads, self._n_threads)

    def _jobs_of(self, step: int, job: int | None) -> Iterable[int]:
        return range(len(self._steps[step].jobs)) if job is None else (job,)

    def _place(self, step: int, name: str, job: int) -> int:
        names = self._steps[step].jobs[0]._fields
        return int(self._firsts[step]) + job * len(names) + names.index(name)


class Field:
    """A field of several jobs, an integer. All of them are set at once: one by one takes a fifth of the time that the
    embedded model has for a token.
    """

    def __init__(self, words: NDArray[np.int64], places: NDArray[np.int64]):
        self._words, self._places = words, places

    def set(self, values: int | Sequence[int]) -> None:
        """The same for all jobs, or one for each."""
        self._words[self._places] = values


def _packed(jobs: Sequence[NamedTuple]) -> bytes:
    pack = packer(type(jobs[0])).pack
    return b"".join(pack(*job) for job in jobs)


def _row(step: Step, address: int) -> tuple[int, ...]:
    """A step as the loop below reads it, its jobs at an address; rows of shares, and shares in each, are still open."""
    return step.kernel.address, address, len(step.jobs), _WORD * len(step.jobs[0]), 0, 0


def most_shares() -> int:
    """Into how many shares a step may be cut: a kernel that needs memory for each needs so much."""
    return threads() * SHARES_EACH


_ROW = 6 * _WORD
_DONE = 1 << 32  # a step's ticket counts the shares that are done; below this bit, the threads that have come


@ParallelLoop
def _run(rows, tickets, n_steps, n_threads, most_threads):
    for _ in prange(n_threads):
        for step in range(n_steps):
            _take_part(rows + step * _ROW, tickets + step * (1 + 2 * most_threads) * _WORD)


@device
def _take_part(step, ticket):
    n_rows, n_each = get_int(step + 4 * _WORD), get_int(step + 5 * _WORD)
    number = fetch_and_add(ticket, 1) % _DONE
    for others in range(n_rows):
        row = (number + others) % n_rows
        taken, taken_at_end = ticket + (1 + 2 * row) * _WORD, ticket + (2 + 2 * row) * _WORD
        next_one = 0
        while fetch_and_add(taken, 1) < n_each:
            if number < n_rows and others == 0:
                share = next_one
                next_one += 1
            else:
                share = n_each - 1 - fetch_and_add(taken_at_end, 1)
            _do(step, row * n_each + share, n_rows * n_each)
            fetch_and_add(ticket, _DONE)
    while get_shared_int(ticket) < n_rows * n_each * _DONE:
        pause()


@device
def _do(step, share, n_shares):
    kernel, jobs, bytes_a_job = get_int(step), get_int(step + _WORD), get_int(step + 3 * _WORD)
    for job in range(get_int(step + 2 * _WORD)):
        call(kernel, share, n_shares, jobs + job * bytes_a_job)
