"""Several launches as one: threads go through a list of steps without coming back to Python in between.

A step is one kernel and some jobs for it. All threads share in each job, and go on to the next without waiting for each
other; between steps they do wait. So the jobs of one step may not depend on each other.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numba import prange
from numpy.typing import NDArray

from gptoss_lab.ops.compile import Kernel, ParallelLoop, packer
from gptoss_lab.ops.simd import get_int
from gptoss_lab.ops.threads import call, lock, threads

WORTH_SHARING = 100_000
"""Multiply-adds below which a step is left to one thread: fewer than are worth waking the others, for between steps
they stay awake.
"""

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

    def __len__(self) -> int:
        return len(self._steps)

    def field(self, steps: Sequence[int], name: str, job: int | None = None) -> "Field":
        """One field of the jobs of some steps, or of job number `job` of each."""
        places = [self._place(step, name, at) for step in steps for at in self._jobs_of(step, job)]
        return Field(self._words, np.array(places, dtype=np.int64))

    def weigh(self, steps: Sequence[int], multiply_adds: NDArray[np.int64]) -> None:
        """Says anew how many multiply-adds some steps are."""
        self._rows[steps, -1] = multiply_adds < WORTH_SHARING

    def run(self) -> None:
        with lock:
            _run.run(self._rows.ctypes.data, len(self._rows), threads())

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
    alone = step.multiply_adds < WORTH_SHARING
    return step.kernel.address, address, len(step.jobs), _WORD * len(step.jobs[0]), alone


_ROW = 5 * _WORD


@ParallelLoop
def _run(rows, n_steps, n_threads):
    for step in range(n_steps):
        row = rows + step * _ROW
        if n_threads == 1 or get_int(row + 4 * _WORD):
            for job in range(get_int(row + 2 * _WORD)):
                call(get_int(row), 0, 1, get_int(row + _WORD) + job * get_int(row + 3 * _WORD))
        else:
            for thread in prange(n_threads):
                for job in range(get_int(row + 2 * _WORD)):
                    call(get_int(row), thread, n_threads, get_int(row + _WORD) + job * get_int(row + 3 * _WORD))
