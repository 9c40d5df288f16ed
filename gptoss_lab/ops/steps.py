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
        packed = [np.frombuffer(_packed(step.jobs), dtype=np.int64).copy() for step in self._steps]
        self._jobs = [words.reshape(len(step.jobs), -1) for step, words in zip(self._steps, packed, strict=True)]
        rows = [_row(step, words) for step, words in zip(self._steps, packed, strict=True)]
        self._rows = np.array(rows, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._steps)

    def field(self, step: int, name: str) -> NDArray[np.int64]:
        """One field of all jobs of a step, an integer, to be changed in place."""
        return self._jobs[step][:, self._steps[step].jobs[0]._fields.index(name)]

    def weigh(self, step: int, multiply_adds: int) -> None:
        """Says anew how many multiply-adds a step is."""
        self._rows[step, -1] = multiply_adds < WORTH_SHARING

    def run(self) -> None:
        with lock:
            _run.run(self._rows.ctypes.data, len(self._rows), threads())


def _packed(jobs: Sequence[NamedTuple]) -> bytes:
    pack = packer(type(jobs[0])).pack
    return b"".join(pack(*job) for job in jobs)


def _row(step: Step, jobs: NDArray[np.int64]) -> tuple[int, ...]:
    """A step as the loop below reads it."""
    alone = step.multiply_adds < WORTH_SHARING
    return step.kernel.address, jobs.ctypes.data, len(step.jobs), jobs.nbytes // len(step.jobs), alone


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
