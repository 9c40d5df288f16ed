"""Several launches as one: threads go through a list of steps without coming back to Python in between.

A step is one kernel and some jobs for it, cut into as many shares as there are threads, or into one. Threads take
shares as they come by: whoever finds none left waits until all are done, and goes on to the next step. So whatever
happens to the others, any thread by itself would finish the list. The jobs of one step may not depend on each other.
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
        self._tickets = np.zeros(len(rows), dtype=np.int64)

    def __len__(self) -> int:
        return len(self._steps)

    def field(self, steps: Sequence[int], name: str, job: int | None = None) -> "Field":
        """One field of the jobs of some steps, or of job number `job` of each."""
        places = [self._place(step, name, at) for step in steps for at in self._jobs_of(step, job)]
        return Field(self._words, np.array(places, dtype=np.int64))

    def weigh(self, steps: Sequence[int], multiply_adds: NDArray[np.int64]) -> None:
        """Says anew how many multiply-adds some steps are."""
        self._rows[steps, -1] = _n_shares(multiply_adds)

    def run(self) -> None:
        with lock:
            self._tickets.fill(0)
            n_threads = int(self._rows[:, -1].max())
            _run.run(self._rows.ctypes.data, self._tickets.ctypes.data, len(self._rows), n_threads)

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
    """A step as the loop below reads it; its jobs are at an address."""
    n_shares = int(_n_shares(step.multiply_adds))
    return step.kernel.address, address, len(step.jobs), _WORD * len(step.jobs[0]), n_shares


def _n_shares(multiply_adds: int | NDArray[np.int64]) -> NDArray[np.int64]:
    return np.where(np.asarray(multiply_adds) < WORTH_SHARING, 1, threads())


_ROW = 5 * _WORD
_DONE = 1 << 32  # a ticket counts the shares that are done; below this bit, those that were asked for


@ParallelLoop
def _run(rows, tickets, n_steps, n_threads):
    for _ in prange(n_threads):
        _take_part(rows, tickets, n_steps)


@device
def _take_part(rows, tickets, n_steps):
    for step in range(n_steps):
        row, ticket = rows + step * _ROW, tickets + step * _WORD
        n_shares = get_int(row + 4 * _WORD)
        share = fetch_and_add(ticket, 1) % _DONE
        while share < n_shares:
            for job in range(get_int(row + 2 * _WORD)):
                call(get_int(row), share, n_shares, get_int(row + _WORD) + job * get_int(row + 3 * _WORD))
            fetch_and_add(ticket, _DONE)
            share = fetch_and_add(ticket, 1) % _DONE
        while get_shared_int(ticket) < n_shares * _DONE:
            pause()
