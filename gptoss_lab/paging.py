"""Checkpoints larger than memory: what decoding from the disk will cost, said before it starts.

Attention, routers and the unembedding are read for every token, and stay in memory; experts are read from the disk
where they are chosen and not at hand.
"""

import os
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import psutil

from gptoss_lab.config import ModelConfig
from gptoss_lab.costs import bytes_of_token, experts_bytes, stored_bytes
from gptoss_lab.weights import Weights

_BLOCK = 1 << 20
_BLOCKS = 64  # that are read to find out how fast the disk is
_LEFT_FOR_THE_SYSTEM = 1 << 30


@dataclass(frozen=True)
class Paging:
    """A checkpoint that does not fit into memory. Bytes, and bytes a second."""

    checkpoint: int
    free: int
    from_disk: int
    """What a token reads from the disk, on average, if it chooses among all experts alike."""
    disk: float

    @property
    def seconds(self) -> float:
        """What that takes, a token."""
        return self.from_disk / self.disk

    def __str__(self) -> str:
        return (
            f"the weights take {self.checkpoint / 1e9:.1f} GB and {self.free / 1e9:.1f} GB of memory are free, so "
            f"experts are read from the disk as they are chosen: about {self.from_disk / 1e9:.2f} GB a token, at "
            f"{self.disk / 1e9:.1f} GB/s no less than {self.seconds:.1f} s each"
        )


def warn_of_paging(config: ModelConfig, weights: Weights, folder: Path) -> None:
    """Warns where a checkpoint will not fit into memory, with an estimate of what a token will take."""
    if (paging := estimate(config, weights, folder)) is not None:
        warnings.warn(str(paging), stacklevel=3)


def estimate(config: ModelConfig, weights: Weights, folder: Path, free: int | None = None) -> Paging | None:
    """What decoding from the disk will cost; None where all fits into memory.

    free: bytes of memory that the weights may take; what this process may still have, where not given.
    """
    if free is None:
        free = free_memory() - _LEFT_FOR_THE_SYSTEM
    cost, experts = bytes_of_token(config, weights), experts_bytes(weights)
    always = cost.dense + cost.unembedding
    total = always + experts + stored_bytes(weights.embedding)
    if total <= free:
        return None
    missing = 1 - max(0, free - always) / experts
    return Paging(total, free, int(cost.experts * missing), disk_speed(folder.glob("*.safetensors")))


def free_memory() -> int:
    """Bytes that this process may still have: what the machine has free, or all that its control group may take."""
    free = psutil.virtual_memory().available
    for file in _GROUP_LIMITS:
        try:
            free = min(free, int(Path(file).read_text()))
        except (OSError, ValueError):  # no such group, or no limit in it
            continue
    return free


def disk_speed(files: Iterable[Path], seed: int = 0) -> float:
    """Bytes a second of blocks read here and there in some files, not from memory where the system can be told so."""
    files = list(files)
    random = Random(seed)
    started, done = time.perf_counter(), 0
    for _ in range(_BLOCKS):
        with random.choice(files).open("rb", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            place = random.randrange(max(1, size - _BLOCK))
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), place, _BLOCK, os.POSIX_FADV_DONTNEED)
            file.seek(place)
            done += len(file.read(_BLOCK))
    return done / (time.perf_counter() - started)


_GROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""What a container's control group may take, in the two versions of such groups."""
