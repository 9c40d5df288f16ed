"""A folder with a checkpoint, read into `Weights`: mapped, checked name by name, and only then used."""

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gptoss_lab.checkpoint import container, names
from gptoss_lab.checkpoint.names import Slot
from gptoss_lab.config import ModelConfig
from gptoss_lab.mxfp4 import Mxfp4
from gptoss_lab.weights import LayerWeights, Weights

INDEX = "model.safetensors.index.json"


class Checkpoint(NamedTuple):
    """A checkpoint, mapped and checked: every slot has its tensor, of a fitting shape and type."""

    folder: Path
    files: list[Path]
    config: ModelConfig
    dialect: names.Dialect
    packed: bool
    slots: list[Slot]
    tensors: dict[str, Tensor]


def load(folder: str | Path) -> tuple[ModelConfig, Weights]:
    """The shape and the weights of a checkpoint, its matrices and packed experts mapped and never copied.

    `folder` holds config.json and safetensors files, in the root dialect or in the original one; of a whole repository
    the root is taken. Vectors become float32. Plain experts, as transformers saves them, are turned into [expert, out,
    in], which copies them.

    Raises FileNotFoundError for a missing folder, config, shard or index; ValueError for a file that is truncated or
    corrupt, a tensor that is missing, unknown, or of the wrong shape or type, and another architecture; MemoryError
    where the experts that have to be copied do not fit.
    """
    checkpoint = open_checkpoint(folder)
    return checkpoint.config, assemble(checkpoint)


def open_checkpoint(folder: str | Path) -> Checkpoint:
    """The checkpoint in a folder, mapped and checked but not assembled. Raises as `load` does, MemoryError apart."""
    folder = _folder_of_tensors(Path(folder))
    config = read_config(folder)
    files = {path: container.map_tensors(path) for path in _tensor_files(folder)}
    homes = {name: path for path, tensors in files.items() for name in tensors}
    tensors = {name: tensor for mapped in files.values() for name, tensor in mapped.items()}
    if len(homes) < sum(len(mapped) for mapped in files.values()):
        twice = next(name for path in files for name in files[path] if homes[name] != path)
        raise ValueError(f"{folder}: {twice} stands in more than one file, {homes[twice].name} among them")
    try:
        dialect, packed = names.recognise(tensors)
        slots = names.slots(config, dialect, packed=packed)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None
    _check(folder, slots, tensors, homes)
    return Checkpoint(folder, list(files), config, dialect, packed, slots, tensors)


def assemble(checkpoint: Checkpoint) -> Weights:
    """The weights of a checkpoint. Raises MemoryError where the experts that have to be copied do not fit."""
    _check_memory(checkpoint)
    by_layer: dict[int | None, dict[str, Any]] = defaultdict(dict)
    for slot in checkpoint.slots:
        tensor = checkpoint.tensors[slot.name]
        fields = by_layer[slot.layer]
        if slot.part == "blocks":
            fields[slot.field] = Mxfp4(tensor, checkpoint.tensors[slot.name.removesuffix("blocks") + "scales"])
        elif slot.part == "scales":
            continue  # taken with its blocks
        elif slot.field in names.EXPERTS:
            fields[slot.field] = tensor.mT.contiguous()  # stored as [expert, in, out]
        elif slot.field in names.VECTORS:
            fields[slot.field] = tensor.to(torch.float32, copy=True)
        else:
            fields[slot.field] = tensor
    layers = (by_layer[layer] for layer in range(checkpoint.config.n_layers))
    return Weights(
        layers=tuple(LayerWeights(**_unfuse(fields, checkpoint.config)) for fields in layers), **by_layer[None]
    )


def read_config(folder: Path) -> ModelConfig:
    """What config.json in `folder` says. Raises FileNotFoundError or ValueError."""
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: a checkpoint folder holds config.json beside its tensors")
    return ModelConfig.from_dict(_read_json(path), source=str(path))


def is_whole(folder: Path) -> bool:
    """Whether `folder` holds config.json and every file that its index, or a lone model.safetensors, stands for."""
    try:
        files = _tensor_files(folder)
    except (FileNotFoundError, ValueError):
        return False
    sharded = (folder / INDEX).is_file()
    return (folder / "config.json").is_file() and (sharded or [path.name for path in files] == ["model.safetensors"])


def _folder_of_tensors(folder: Path) -> Path:
    """`folder`, or the folder original/ in it where only that one holds tensors."""
    if folder.is_file():
        raise ValueError(f"{folder} is a file; expected the folder that holds it and config.json")
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} does not exist; expected a folder with config.json and safetensors files")
    for candidate in (folder, folder / "original"):
        if (candidate / INDEX).is_file() or any(candidate.glob("*.safetensors")):
            return candidate
    others = sorted(path.name for path in folder.iterdir())[:5]
    pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt")) or any(folder.glob("*.pth"))
    raise FileNotFoundError(
        f"{folder} holds no safetensors file (it holds {', '.join(others) or 'nothing'})"
        + ("; pickled checkpoints (.bin, .pt, .pth) can run code and are never read" if pickled else "")
    )


def _tensor_files(folder: Path) -> list[Path]:
    """The files that the index names, or every safetensors file where there is no index."""
    index = folder / INDEX
    if not index.is_file():
        return sorted(folder.glob("*.safetensors"))
    fields = _read_json(index)
    weight_map = fields.get("weight_map") if isinstance(fields, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"{index}: expected an object weight_map from tensors to files")
    files = sorted({str(name) for name in weight_map.values()})
    for name in files:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ValueError(f"{index} names the file {name!r}; expected a safetensors file in the same folder")
        if not (folder / name).is_file():
            needed = next(tensor for tensor, file in weight_map.items() if file == name)
            raise FileNotFoundError(f"{folder / name} is missing: {INDEX} expects {needed}, among others, in that file")
    return [folder / name for name in files]


def _check(folder: Path, slots: Iterable[Slot], tensors: dict[str, Tensor], homes: dict[str, Path]) -> None:
    expected = {slot.name: slot for slot in slots}
    for slot in expected.values():
        if slot.name not in tensors:
            where = ", ".join(sorted({path.name for path in homes.values()}))
            raise ValueError(f"{folder}: tensor {slot.name} is missing; expected {_describe(slot)} in {where}")
        tensor = tensors[slot.name]
        if tuple(tensor.shape) != slot.shape or tensor.dtype not in slot.dtypes:
            found = f"{container.DTYPE_NAMES[tensor.dtype]} {list(tensor.shape)}"
            raise ValueError(f"{homes[slot.name]}: tensor {slot.name} is {found}; expected {_describe(slot)}")
    for name in tensors:
        if name not in expected:
            raise ValueError(f"{homes[name]}: tensor {name} has no place in the model that config.json describes")


def _describe(slot: Slot) -> str:
    return f"{' or '.join(container.DTYPE_NAMES[dtype] for dtype in slot.dtypes)} {list(slot.shape)}"


def _check_memory(checkpoint: Checkpoint) -> None:
    """Plain experts are turned, hence copied; all else that is large stays on the disk it is mapped from."""
    copied = [
        checkpoint.tensors[slot.name] for slot in checkpoint.slots if slot.field in names.EXPERTS and not slot.part
    ]
    needed = sum(tensor.nbytes for tensor in copied)
    available = _available_memory()
    if available is not None and needed > available:
        raise MemoryError(
            f"{checkpoint.folder}: its {len(copied)} unpacked expert matrices take {needed / 1e9:.1f} GB of memory,"
            f" {available / 1e9:.1f} GB are available; a checkpoint packed in MXFP4 needs none"
        )


def _available_memory() -> int | None:
    """Bytes that can be allocated without swapping; None where the system does not say."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.is_file():
        return None
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in fields else None


def _unfuse(fields: dict[str, Any], config: ModelConfig) -> dict[str, Any]:
    """The original dialect's q, k and v, which are rows of one matrix, as three views of it."""
    d_query, d_key_value = config.n_heads * config.d_head, config.n_kv_heads * config.d_head
    for suffix in ("", "_bias"):
        fused = fields.pop(f"qkv{suffix}", None)
        if fused is not None:
            parts = fused.split((d_query, d_key_value, d_key_value))
            fields |= zip((f"q{suffix}", f"k{suffix}", f"v{suffix}"), parts, strict=True)
    return fields


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from None
