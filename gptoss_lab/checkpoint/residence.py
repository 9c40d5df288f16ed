"""Weights in memory of this process rather than mapped from files: read once, into large pages where there are any.

What is mapped lies in pages of 4 kB, whose places have to be looked up as weights stream by; on a virtual machine,
twice over. In pages of 2 MB that is next to nothing.
"""

import mmap
from contextlib import suppress

import torch
from torch import Tensor
from tqdm.auto import tqdm

from gptoss_lab.paging import free_memory
from gptoss_lab.weights import Weights

_LARGE_PAGE = 2 << 20
_LINE = 64  # where a tensor begins: a cache line, and a vector register


def reside(weights: Weights) -> Weights:
    """The same weights, copied into memory, one tensor after the other, with a progress bar.

    Raises MemoryError where they would not fit.
    """
    tensors: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        tensors.append(tensor)
        return tensor

    weights.map(note)
    memory = _memory(sum(_room(tensor) for tensor in tensors))
    taken = 0
    with tqdm(total=len(memory), desc="reading weights", unit="B", unit_scale=True, delay=1) as bar:

        def copy(tensor: Tensor) -> Tensor:
            nonlocal taken
            place = memory[taken : taken + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
            taken += _room(tensor)
            bar.update(_room(tensor))
            return place.copy_(tensor)

        return weights.map(copy)


def _room(tensor: Tensor) -> int:
    """Bytes from a tensor's begin to the next one's."""
    return -(-tensor.nbytes // _LINE) * _LINE


def _memory(n_bytes: int) -> Tensor:
    free = free_memory()
    if n_bytes > free:
        raise MemoryError(
            f"the weights take {n_bytes / 1e9:.1f} GB and {free / 1e9:.1f} GB of memory are free; load them mapped "
            "(mmap=True, the default), which needs hardly any"
        )
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty(n_bytes, dtype=torch.uint8)
    pages = mmap.mmap(-1, n_bytes + _LARGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # of a system that has no large pages: small ones do as well
        pages.madvise(mmap.MADV_HUGEPAGE)
    memory = torch.frombuffer(pages, dtype=torch.uint8)
    first = -memory.data_ptr() % _LARGE_PAGE
    return memory[first : first + n_bytes]
