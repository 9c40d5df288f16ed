"""The gradient of a step: of several batches together, in processes of their own where there are several.

A batch is of one length, and so nearly of one domain; a step takes several of them. Each taught token counts alike: an
answer given at once, which cannot be learned, is few tokens, and would drown the rest if each batch counted alike.
The batches' gradients are added in their order, so that the sum does not depend on which process was faster. Where
there is a GPU it computes them; weights and gradients themselves stay in main memory, which costs next to nothing at
this size.
"""

import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from types import TracebackType
from typing import NamedTuple

import torch
from torch import Tensor, multiprocessing

from gptoss_lab.model import Transformer
from gptoss_lab.nano.batches import Batch
from gptoss_lab.nano.objective import losses, rounded
from gptoss_lab.nano.progress import Plan, Progress
from gptoss_lab.weights import Weights


class Learned(NamedTuple):
    """What one batch came to."""

    loss: float  # mean over its taught tokens
    right: float  # share of its lessons
    taught: int  # tokens


class Gradients:
    """Puts the gradient of a step into the leaves of a training. A context: its processes end with it."""

    def __init__(self, plan: Plan, progress: Progress, processes: int = 1):
        self._leaves = progress.leaves
        size = sum(leaf.numel() for leaf in self._leaves)
        self._slots = torch.zeros(plan.batches_per_step, size)
        """[batch, parameter]: where each batch's gradient is put."""
        self._here = _Worker(plan, progress.weights, self._slots)
        self._pool = _pool(self._here, min(processes, plan.batches_per_step)) if processes > 1 else None

    def __call__(self, batches: Sequence[Batch], rounding: bool) -> tuple[float, float]:
        """The mean loss over the taught tokens, and the share of lessons said right from end to end.

        rounding: whether weights are taken as the checkpoint will store them.
        """
        tasks = [(slot, batch, rounding) for slot, batch in enumerate(batches)]
        learned = list(self._pool.map(_work, tasks) if self._pool else map(self._here, tasks))
        taught = torch.tensor([one.taught for one in learned], dtype=torch.float32)
        share = taught / taught.sum()
        whole = share @ self._slots[: len(learned)]
        for leaf, part in zip(self._leaves, whole.split([leaf.numel() for leaf in self._leaves]), strict=True):
            leaf.grad = part.view_as(leaf)
        losses, right, _ = map(torch.tensor, zip(*learned, strict=True))
        return (share @ losses).item(), right.mean().item()

    def __enter__(self) -> "Gradients":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)


class _Worker:
    """Computes the gradient of a batch at the weights as they stand, and puts it into a slot."""

    def __init__(self, plan: Plan, weights: Weights, slots: Tensor):
        self.plan = plan
        self.leaves: list[Tensor] = []
        self.weights = weights.map(self._leaf)
        self.slots = slots
        self.device = "cuda" if torch.cuda.is_available() else "cpu"

    def __call__(self, task: tuple[int, Batch, bool]) -> Learned:
        slot, batch, rounding = task
        weights = self.weights.map(rounded) if rounding else self.weights
        model = Transformer(self.plan.model, weights, engine="torch", device=self.device)
        cross_entropy, balance, right = losses(model, batch.to(self.device))
        gradients = torch.autograd.grad(cross_entropy + self.plan.balance * balance, self.leaves)
        torch.cat([gradient.flatten() for gradient in gradients], out=self.slots[slot])
        return Learned(cross_entropy.item(), right, int(batch.taught.sum()))

    def share(self) -> "_Worker":
        """Moves weights and slots to where other processes see them too."""
        for tensor in (*self.leaves, self.slots):
            tensor.detach().share_memory_()
        return self

    def _leaf(self, tensor: Tensor) -> Tensor:
        self.leaves.append(tensor.detach().requires_grad_())
        return self.leaves[-1]


def _pool(worker: _Worker, processes: int) -> ProcessPoolExecutor:
    shared = (worker.share().plan, worker.weights, worker.slots)
    # Spawned, since a process that has used several threads cannot be forked safely.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=shared)


def _begin(plan: Plan, weights: Weights, slots: Tensor) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the process that waits for this one
    torch.set_num_threads(1)
    _worker = _Worker(plan, weights, slots)


def _work(task: tuple[int, Batch, bool]) -> Learned:
    return _worker(task)


_worker: _Worker
