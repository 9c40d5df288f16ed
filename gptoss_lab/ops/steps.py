"""Several launches as one: threads go through a list of steps without coming back to Python in between.

A step is one kernel and some jobs for it, which threads share out as `sharing` has it. When all of it is done the next
step begins. The jobs of one step may not depend on each other.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numba import prange
from numpy.typing import NDArray

from gptoss_lab.ops.compile import Kernel, ParallelLoop, packer
from gptoss_lab.ops.sharing import Work, new_tickets, shares_each, take_part
from gptoss_lab.ops.threads import lock, threads

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
        works = [
            Work(step.kernel.address, address, len(step.jobs), _WORD * len(step.jobs[0]), n_rows=0, n_each=0)
            for step, address in zip(self._steps, addresses, strict=True)
        ]
        self._works = np.array(works, dtype=np.int64)
        self._n_threads = threads()
        self._tickets = new_tickets(len(works), self._n_threads)
        self.weigh(range(len(works)), np.array([step.multiply_adds for step in self._steps]))

    def __len__(self) -> int:
        return len(self._steps)

    def field(self, steps: Sequence[int], name: str, job: int | None = None) -> "Field":
        """One field of the jobs of some steps, or of job number `job` of each."""
        places = [self._place(step, name, at) for step in steps for at in self._jobs_of(step, job)]
        return Field(self._words, np.array(places, dtype=np.int64))

    def weigh(self, steps: Sequence[int], multiply_adds: NDArray[np.int64]) -> None:
        """Says anew how many multiply-adds some steps are."""
        self._works[steps, _N_ROWS] = np.where(multiply_adds < WORTH_SHARING, 1, self._n_threads)
        self._works[steps, _N_EACH] = shares_each(multiply_adds, self._n_threads)

    def run(self) -> None:
        with lock:
            self._tickets.fill(0)
            n_threads = int(self._works[:, _N_ROWS].max())
            works, tickets = self._works.ctypes.data, self._tickets.ctypes.data
            _run.run(works, tickets, self._tickets.strides[0], len(self._works), n_threads)

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


_WORK = _WORD * len(Work._fields)
_N_ROWS, _N_EACH = (Work._fields.index(name) for name in ("n_rows", "n_each"))


@ParallelLoop
def _run(works, tickets, bytes_a_ticket, n_works, n_threads):
    for thread in prange(n_threads):
        for i in range(n_works):
            take_part(thread, works + i * _WORK, tickets + i * bytes_a_ticket)
