"""A checkpoint written in the root dialect, packed, as a stream: transformers and this package both read it."""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from gptoss_lab import mxfp4
from gptoss_lab.checkpoint import container, names
from gptoss_lab.checkpoint.container import Entry
from gptoss_lab.checkpoint.names import Slot
from gptoss_lab.checkpoint.reading import INDEX
from gptoss_lab.config import ModelConfig
from gptoss_lab.mxfp4 import Mxfp4
from gptoss_lab.weights import Weights

SHARD_BYTES = 4_800_000_000  # the published shards are of that size

# What transformers needs to know of a packed checkpoint: that experts are, and what is not.
QUANTIZATION = {
    "quant_method": "mxfp4",
    "modules_to_not_convert": [
        "model.layers.*.self_attn",
        "model.layers.*.mlp.router",
        "model.embed_tokens",
        "lm_head",
    ],
}


def save(
    folder: str | Path, config: ModelConfig, weights: Weights, *, config_fields: Mapping[str, Any] | None = None
) -> Path:
    """Writes a checkpoint that `load` and transformers' GptOssForCausalLM.from_pretrained read; returns its folder.

    Plain experts are packed, one matrix at a time. Matrices keep their type; a vector takes the embedding's where that
    loses nothing, and float32 otherwise. `config_fields` are added to config.json (`eos_token_id`, say).

    The files are moved to their places when all are complete; a checkpoint that stood there is replaced, other files
    stay. Raises ValueError where the weights do not have the shape of `config`, or experts do not divide into blocks.
    """
    slots = {slot.name: slot for slot in names.slots(config, names.ROOT, packed=True)}
    _check_shapes(config, weights)

    @lru_cache(maxsize=1)  # for its blocks and its scales are asked for one after the other
    def packed(layer: int, field: str) -> Mxfp4:
        experts = getattr(weights.layers[layer], field)
        if isinstance(experts, Mxfp4):
            return experts
        each = [mxfp4.encode(expert) for expert in experts]
        return Mxfp4(torch.stack([one.blocks for one in each]), torch.stack([one.scales for one in each]))

    def entry(slot: Slot) -> Entry:
        dtype = torch.uint8 if slot.part else _stored_type(weights, slot)
        if dtype not in slot.dtypes:
            raise ValueError(f"{slot.name} is {dtype}; a checkpoint holds bfloat16 or float32")
        return Entry(slot.name, dtype, slot.shape)

    def chunks(entry: Entry) -> Iterator[memoryview]:
        slot = slots[entry.name]
        if slot.layer is not None and slot.part:
            yield container.tensor_bytes(getattr(packed(slot.layer, slot.field), slot.part))
        else:
            yield container.tensor_bytes(_field(weights, slot).to(entry.dtype))

    fields = {"dtype": str(weights.embedding.dtype).removeprefix("torch."), **(config_fields or {})}
    return write_checkpoint(folder, config, [entry(slot) for slot in slots.values()], chunks, fields)


def write_checkpoint(
    folder: str | Path,
    config: ModelConfig,
    entries: Sequence[Entry],
    chunks: Callable[[Entry], Iterable[memoryview]],
    config_fields: Mapping[str, Any],
) -> Path:
    """Writes `entries` in shards, with their index and config.json, asking `chunks` for the bytes of one at a time.

    Raises OSError where the disk has too little room.
    """
    folder = Path(folder)
    total = sum(entry.n_bytes for entry in entries)
    with _replacing_checkpoint(folder) as partial:
        if (free := shutil.disk_usage(partial).free) < total:
            raise OSError(f"{folder}: the checkpoint takes {total / 1e9:.1f} GB, {free / 1e9:.1f} GB are free there")
        with tqdm(total=total, unit="B", unit_scale=True, desc=f"writing {folder.name}", delay=1) as bar:

            def counted(entry: Entry) -> Iterator[memoryview]:
                for chunk in chunks(entry):
                    yield chunk
                    bar.update(len(chunk))

            shards = _shards(entries)
            for name, shard in shards.items():
                container.write_tensors(partial / name, shard, counted)
        if len(shards) > 1:
            weight_map = {entry.name: name for name, shard in shards.items() for entry in shard}
            _write_json(partial / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
        _write_json(partial / "config.json", {**config.to_dict(), "quantization_config": QUANTIZATION, **config_fields})
    return folder


def _shards(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """The entries of each file, by its name, no file larger than SHARD_BYTES unless one tensor is."""
    shards: list[list[Entry]] = [[]]
    size = 0
    for entry in entries:
        if size and size + entry.n_bytes > SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(entry)
        size += entry.n_bytes
    if len(shards) == 1:
        return {"model.safetensors": shards[0]}
    return {f"model-{i:05}-of-{len(shards):05}.safetensors": shard for i, shard in enumerate(shards, start=1)}


@contextmanager
def _replacing_checkpoint(folder: Path) -> Iterator[Path]:
    """A folder to write into, whose files take their places in `folder` at the end, if nothing was raised."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".partial-{os.getpid()}"
    partial.mkdir()
    try:
        yield partial
        written = {path.name for path in partial.iterdir()}
        for name in sorted(written, key=lambda name: (name == "config.json", name)):  # without it nothing is read
            (partial / name).replace(folder / name)
        for path in [*folder.glob("model*.safetensors"), folder / INDEX]:
            if path.name not in written:
                path.unlink(missing_ok=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check_shapes(config: ModelConfig, weights: Weights) -> None:
    if len(weights.layers) != config.n_layers:
        raise ValueError(f"the weights have {len(weights.layers)} layers; expected n_layers, {config.n_layers}")
    owners: list[tuple[str, Any, dict[str, tuple[int, ...]]]] = [("", weights, names.model_shapes(config))]
    owners += [(f"layer {i}: ", layer, names.layer_shapes(config)) for i, layer in enumerate(weights.layers)]
    for where, owner, shapes in owners:
        for field, shape in shapes.items():
            if not field.startswith("qkv") and tuple(getattr(owner, field).shape) != shape:
                found = list(getattr(owner, field).shape)
                raise ValueError(f"{where}{field} has the shape {found}; expected {list(shape)}")


def _field(weights: Weights, slot: Slot) -> Tensor:
    return getattr(weights if slot.layer is None else weights.layers[slot.layer], slot.field)


def _stored_type(weights: Weights, slot: Slot) -> torch.dtype:
    """A tensor's own type, or for a vector that of the embedding if it holds every value exactly."""
    tensor, common = _field(weights, slot), weights.embedding.dtype
    exact = slot.field in names.VECTORS and torch.equal(tensor.to(common).to(tensor.dtype), tensor)
    return common if exact else tensor.dtype


def _write_json(path: Path, fields: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
