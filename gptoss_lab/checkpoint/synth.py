"""Random checkpoints of any shape, streamed to the disk: for benchmarks, and to try a shape out before fetching it.

Values are drawn bit by bit: random signs and mantissas at a chosen exponent. That is as fast as a disk writes, keeps
activations in a plausible range at every depth, and spreads the routing over all experts.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from gptoss_lab.checkpoint import names
from gptoss_lab.checkpoint.container import Entry
from gptoss_lab.checkpoint.names import Slot
from gptoss_lab.checkpoint.writing import write_checkpoint
from gptoss_lab.config import PRESETS, ModelConfig
from gptoss_lab.mxfp4 import E2M1_VALUES, SCALE_BIAS

CHUNK_BYTES = 1 << 24  # what is in memory at a time
_BFLOAT16_BIAS = 127


def synthesise(folder: str | Path, shape: str = "20b", *, layers: int | None = None, seed: int = 0) -> ModelConfig:
    """Writes a random checkpoint of a preset's shape, packed, in bfloat16; returns its config.

    Holds a few tens of megabytes in memory, whatever the shape. `layers` shortens the model. Raises ValueError for an
    unknown preset.
    """
    if shape not in PRESETS:
        raise ValueError(f"shape is {shape!r}; expected one of {', '.join(PRESETS)}")
    config = PRESETS[shape] if layers is None else replace(PRESETS[shape], n_layers=layers)
    slots = {slot.name: slot for slot in names.slots(config, names.ROOT, packed=True)}
    entries = [Entry(slot.name, torch.uint8 if slot.part else torch.bfloat16, slot.shape) for slot in slots.values()]
    generator = np.random.Generator(np.random.SFC64(seed))

    def chunks(entry: Entry) -> Iterator[memoryview]:
        for start in range(0, entry.n_bytes, CHUNK_BYTES):
            n_bytes = min(CHUNK_BYTES, entry.n_bytes - start)
            yield _draw(generator, config, slots[entry.name], n_bytes).data.cast("B")

    write_checkpoint(folder, config, entries, chunks, {"dtype": "bfloat16"})
    return config


def _draw(generator: np.random.Generator, config: ModelConfig, slot: Slot, n_bytes: int) -> np.ndarray:
    words = generator.integers(0, 2**64, -(-n_bytes // 8), dtype=np.uint64)
    bits = words.view(np.uint8)[:n_bytes]
    size = _typical_size(config, slot)
    if slot.part == "blocks":
        return bits
    if slot.part == "scales":
        codes_rms = math.sqrt(sum(value**2 for value in E2M1_VALUES) / len(E2M1_VALUES))
        middle = SCALE_BIAS + round(math.log2(size / codes_rms))
        return np.uint8(middle - 1) + (bits & np.uint8(1)) + (bits >> np.uint8(7))  # one of three neighbours
    return _bfloat16_bits(bits.view(np.uint16), size, gain=slot.field.endswith("norm"))


def _bfloat16_bits(bits: np.ndarray, size: float, gain: bool) -> np.ndarray:
    """Random bits made into bfloat16: 1 sign, 8 exponent, 7 mantissa. A gain lies between 1 and 1.25."""
    if gain:
        return (bits & np.uint16(0x001F)) | np.uint16(_BFLOAT16_BIAS << 7)
    # The mantissa is drawn from [1, 2), of mean square 7/3.
    exponent = _BFLOAT16_BIAS + round(math.log2(size / math.sqrt(7 / 3)))
    return (bits & np.uint16(0x807F)) | np.uint16(exponent << 7)


def _typical_size(config: ModelConfig, slot: Slot) -> float:
    """The root mean square that keeps the residual stream dominated by the embeddings."""
    if slot.field in ("embedding", "sinks"):
        return 1.0
    if slot.field in names.VECTORS:
        return 0.1
    if slot.field == "unembedding":
        return config.d_model**-0.5
    _, *_, fan_in = names.layer_shapes(config)[slot.field]
    residual = slot.field in ("o", "down")
    return fan_in**-0.5 * ((2 * config.n_layers) ** -0.5 if residual else 1.0)
