"""The safetensors file format, read by mapping and written as a stream.

A file is eight bytes (a length, little-endian), a JSON header of that length, and the tensors' bytes. The header gives
each tensor's type, shape and byte range. Source: https://github.com/huggingface/safetensors, README, "Format".

Mapped tensors cost no memory of the process: their pages belong to the system's file cache. The mapping is private, so
a tensor that somebody changes in place takes pages of its own, and the file is never written.
"""

import json
import math
import mmap
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

DTYPES = {
    "BF16": torch.bfloat16,
    "BOOL": torch.bool,
    "F16": torch.float16,
    "F32": torch.float32,
    "F64": torch.float64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "I8": torch.int8,
    "U8": torch.uint8,
}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}

_LENGTH_BYTES = 8
_LONGEST_HEADER = 100_000_000  # the limit of the format's own library
_ALIGNMENT = 64  # of the first tensor: a cache line, and a vector register


@dataclass(frozen=True)
class Entry:
    """What a header says of one tensor."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def map_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a file, by name, mapped and not read.

    Raises FileNotFoundError where there is no such file, and ValueError for one that is truncated, corrupt or of
    another format.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        data_start, header = _read_header(path, file.read(_LENGTH_BYTES), file.read, size)
        entries = list(_parse_header(path, header, size - data_start))
        buffer = _map(file.fileno())
    return {entry.name: _view(buffer, entry, data_start + start) for entry, start in entries}


def write_tensors(path: Path, entries: Sequence[Entry], chunks: Callable[[Entry], Iterable[memoryview]]) -> None:
    """Writes a file of `entries`, asking `chunks` for each one's bytes in turn, so that none need fit in memory."""
    ranges, end = {}, 0
    for entry in entries:
        ranges[entry.name] = [end, end + entry.n_bytes]
        end += entry.n_bytes
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    for entry in entries:
        header[entry.name] = {
            "dtype": DTYPE_NAMES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": ranges[entry.name],
        }
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-(len(encoded) + _LENGTH_BYTES) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(_LENGTH_BYTES, "little") + encoded)
        for entry in entries:
            written = sum(file.write(chunk) for chunk in chunks(entry))
            if written != entry.n_bytes:
                raise ValueError(f"{path.name}: {entry.name} has {entry.n_bytes} bytes, was given {written}")


def tensor_bytes(tensor: Tensor) -> memoryview:
    """The bytes of a tensor on the CPU; of a contiguous one without a copy."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data


def _read_header(path: Path, length: bytes, read: Callable[[int], bytes], size: int) -> tuple[int, bytes]:
    """Where the tensors begin, and the header."""
    if length == b"version ":
        raise ValueError(f"{path} is a Git LFS pointer, not the file that it stands for: fetch it with `git lfs pull`")
    if len(length) < _LENGTH_BYTES:
        raise ValueError(f"{path} is truncated: a safetensors file begins with 8 bytes of length, found {size} bytes")
    n = int.from_bytes(length, "little")
    if n > _LONGEST_HEADER:
        raise ValueError(f"{path} is no safetensors file, or corrupt: its first bytes promise a header of {n} bytes")
    header = read(n)
    if len(header) < n:
        raise ValueError(f"{path} is truncated: expected a header of {n} bytes, found {len(header)}")
    return _LENGTH_BYTES + n, header


def _parse_header(path: Path, header: bytes, n_data: int) -> Iterator[tuple[Entry, int]]:
    """Each tensor and its first byte among the data; ValueError unless the tensors fill the data without overlap."""
    try:
        fields = json.loads(header)
        fields.pop("__metadata__", None)
        described = sorted(((name, *_describe(field)) for name, field in fields.items()), key=lambda item: item[3:])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is corrupt: its header cannot be read ({error})") from None
    position = 0
    for name, dtype, shape, start, end in described:
        if dtype not in DTYPES:
            raise ValueError(f"{path}: {name} is of type {dtype}; expected one of {', '.join(DTYPES)}")
        entry = Entry(name, DTYPES[dtype], shape)
        if start != position or end - start != entry.n_bytes:
            raise ValueError(
                f"{path} is corrupt: {name}, {dtype} {list(shape)}, should take bytes {position} to "
                f"{position + entry.n_bytes} of the data, the header says {start} to {end}"
            )
        position = end
        yield entry, start
    if position != n_data:
        state = "truncated" if n_data < position else "corrupt"
        raise ValueError(f"{path} is {state}: its header describes {position} bytes of tensors, found {n_data}")


def _describe(field: dict[str, Any]) -> tuple[str, tuple[int, ...], int, int]:
    start, end = field["data_offsets"]
    shape = tuple(field["shape"])
    if any(type(n) is not int or n < 0 for n in (start, end, *shape)):
        raise ValueError(f"expected whole numbers, found shape {shape} at bytes {start} to {end}")
    return str(field["dtype"]), shape, start, end


def _map(fileno: int) -> mmap.mmap:
    if sys.platform == "win32":
        return mmap.mmap(fileno, 0, access=mmap.ACCESS_COPY)
    # Without a reservation, or Linux would refuse to map a file larger than its memory.
    no_reserve = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)
    return mmap.mmap(fileno, 0, flags=mmap.MAP_PRIVATE | no_reserve, prot=mmap.PROT_READ | mmap.PROT_WRITE)


def _view(buffer: mmap.mmap, entry: Entry, offset: int) -> Tensor:
    if entry.n_bytes == 0:
        return torch.empty(entry.shape, dtype=entry.dtype)
    flat = torch.frombuffer(buffer, dtype=torch.uint8, count=entry.n_bytes, offset=offset)
    if offset % entry.dtype.itemsize:  # the format does not promise alignment, kernels want it
        flat = flat.clone()
    return flat.view(entry.dtype).view(entry.shape)
