"""Steps that threads go through together: each share is done once, after the steps before it, by whoever comes."""

from collections.abc import Iterator

import numba
import numpy as np
import pytest
import torch
from torch import Tensor

from gptoss_lab.ops import numba_ops, row_kernels, steps
from gptoss_lab.ops.row_kernels import Sum
from gptoss_lab.ops.sharing import WORTH_CUTTING
from gptoss_lab.ops.steps import Step, Steps
from gptoss_lab.ops.target import LANES

N_STEPS, WIDTH = 50, 1000
ONE = torch.ones(WIDTH)


def running_sums(multiply_adds: int) -> tuple[Steps, Tensor]:
    """Steps that each add one to what the one before has left, and the memory that they do it in."""
    rows = torch.zeros(N_STEPS + 1, WIDTH)
    jobs = [Sum(rows[i].data_ptr(), ONE.data_ptr(), rows[i + 1].data_ptr(), 1, 1, WIDTH) for i in range(N_STEPS)]
    return Steps(Step(row_kernels.add_up, [job], multiply_adds) for job in jobs), rows


@pytest.mark.parametrize(
    "multiply_adds",
    [0, steps.WORTH_SHARING, WORTH_CUTTING],
    ids=["one share", "one for each thread", "several for each"],
)
def test_every_share_is_done_once_and_in_order(multiply_adds: int) -> None:
    program, rows = running_sums(multiply_adds)
    for _ in range(200):
        rows.fill_(-1)
        rows[0] = 0
        program.run()
        assert torch.equal(rows, torch.arange(N_STEPS + 1.0)[:, None].expand(-1, WIDTH))


@pytest.fixture
def two_threads() -> Iterator[None]:
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("numba was started with one thread (NUMBA_NUM_THREADS); a machine with two cores runs this")
    before = numba_ops.threads()
    numba_ops.set_threads(2)
    yield
    numba_ops.set_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("multiply_adds", [steps.WORTH_SHARING, WORTH_CUTTING])
def test_any_thread_alone_finishes_what_several_were_to_do(multiply_adds: int) -> None:
    program, rows = running_sums(multiply_adds)
    works, tickets = program._works, program._tickets
    steps._run.run(works.ctypes.data, tickets.ctypes.data, tickets.strides[0], len(program), 1)
    assert torch.equal(rows[-1], torch.full((WIDTH,), float(N_STEPS)))


@pytest.mark.usefixtures("two_threads")
def test_who_helps_takes_what_its_owner_would_come_to_last() -> None:
    program, rows = running_sums(WORTH_CUTTING)
    works, tickets = program._works[:1], program._tickets[:1]
    tickets[0, :] = [2, 0, 0, 2, 0]  # the other thread has done the first two of its shares, and no more
    rows.fill_(-1)
    steps._run.run(works.ctypes.data, tickets.ctypes.data, 0, 1, 1)
    n_shares, n_vectors = int(works[0, -2] * works[0, -1]), -(-WIDTH // LANES)
    first, end = (n_vectors * share // n_shares * LANES for share in (n_shares // 2, n_shares // 2 + 2))
    expected = torch.zeros(WIDTH)
    expected[first:end] = -1
    assert torch.equal(rows[1], expected)


def test_jobs_are_weighed_anew() -> None:
    program, rows = running_sums(0)
    program.weigh(range(N_STEPS), np.full(N_STEPS, WORTH_CUTTING))
    program.run()
    assert torch.equal(rows[-1], torch.full((WIDTH,), float(N_STEPS)))
