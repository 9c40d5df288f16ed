"""The key-value cache, made for branching.

Keys and values live in pieces of `PIECE_LENGTH` positions, each holding every layer. What has been written into a
piece is never changed, so any number of sequences may share it. A fork copies the list of pieces and nothing else.
The first sequence to write on into the last, partly filled piece does so in place; any other finds the next slot
taken, and copies that one piece.
"""

import threading
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gptoss_lab.config import ModelConfig

PIECE_LENGTH = 64

_claiming = threading.Lock()


class KVCache:
    """The keys and values of one sequence; a batch is a list of these."""

    def __init__(self, config: ModelConfig, device: torch.device | str = "cpu"):
        self.config = config
        self.device = torch.device(device)
        self.length = 0
        """Positions held."""
        self._pieces: list[_Piece] = []

    def fork(self) -> "KVCache":
        """A second sequence that goes on from here. Takes no copy; at most one piece is copied when one of them
        grows.
        """
        other = KVCache(self.config, self.device)
        other.length = self.length
        other._pieces = list(self._pieces)
        return other

    def rewind(self, length: int) -> None:
        """Forgets what follows the first `length` positions. Raises ValueError beyond what is held."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot rewind to {length} positions: the cache holds {self.length}")
        self.length = length
        del self._pieces[-(-length // PIECE_LENGTH) :]

    @property
    def n_bytes(self) -> int:
        """Bytes of the pieces that this sequence uses, shared ones included."""
        return sum(piece.data.nbytes for piece in self._pieces)

    def reserve(self, n: int) -> None:
        """Makes the next n positions this sequence's own to write. They count as held only after `advance`."""
        end = self.length + n
        with _claiming:
            first, slot = divmod(self.length, PIECE_LENGTH)
            del self._pieces[first + (slot > 0) :]
            if slot and self._pieces[first].filled != slot:
                self._pieces[first] = self._pieces[first].copy(slot)
            while len(self._pieces) * PIECE_LENGTH < end:
                self._pieces.append(_Piece(self.config, self.device))
            for index in range(first, len(self._pieces)):
                self._pieces[index].filled = min(end - index * PIECE_LENGTH, PIECE_LENGTH)

    def write(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Puts keys and values [pos, kv_head, d_head] of one layer into the reserved positions."""
        stacked = torch.stack((keys, values)).transpose(1, 2)  # [key or value, kv_head, pos, d_head]
        for piece, slots, part in self._reserved(len(keys)):
            piece.data[:, layer, :, slots] = stacked[:, :, part]

    def write_tokens(self, tokens: Tensor) -> None:
        """Notes which ids [pos] the reserved positions belong to."""
        for piece, slots, part in self._reserved(len(tokens)):
            piece.tokens[slots] = tokens[part]

    def advance(self, n: int) -> None:
        """Counts n reserved and written positions as held."""
        self.length += n

    def read(self, layer: int) -> tuple[Tensor, Tensor]:
        """A layer's keys and values, each [pos, kv_head, d_head], in one piece (copied)."""
        if not self._pieces:
            empty = torch.empty(0, self.config.n_kv_heads, self.config.d_head, device=self.device)
            return empty, empty
        joined = torch.cat([piece.data[:, layer] for piece in self._pieces], dim=2)[:, :, : self.length]
        keys, values = joined.transpose(1, 2)
        return keys, values

    @property
    def tokens(self) -> Tensor:
        """The ids whose keys and values are held, int64 [length] (copied)."""
        empty = torch.empty(0, dtype=torch.int64, device=self.device)
        return torch.cat([empty, *(piece.tokens for piece in self._pieces)])[: self.length]

    @property
    def addresses(self) -> list[int]:
        """Where each piece begins in memory."""
        return [piece.address for piece in self._pieces]

    def _reserved(self, n: int) -> Iterator[tuple["_Piece", slice, slice]]:
        """The first n reserved positions: piece, slots in it, and which of the n these are."""
        done = 0
        while done < n:
            index, slot = divmod(self.length + done, PIECE_LENGTH)
            count = min(n - done, PIECE_LENGTH - slot)
            yield self._pieces[index], slice(slot, slot + count), slice(done, done + count)
            done += count


class LayerContext:
    """One layer's view of the caches of a batch during a forward pass: `gptoss_lab.ops.Context`."""

    piece_length = PIECE_LENGTH

    def __init__(self, caches: Sequence[KVCache], tables: NDArray[np.int64], layer: int, k: Tensor, v: Tensor):
        config = caches[0].config
        self.start = caches[0].length
        self.n_kv_heads = config.n_kv_heads
        self.tables = tables
        layer_size = config.n_kv_heads * PIECE_LENGTH * config.d_head
        self.key_offset = layer * layer_size
        self.value_offset = (config.n_layers + layer) * layer_size
        self._caches, self._layer, self._k, self._v = caches, layer, k, v

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Keys and values, each [batch, k_pos, kv_head, d_head]: the held ones, then this pass's, which keep their
        gradient.
        """
        if self.start == 0:
            return self._k, self._v
        held = [cache.read(self._layer) for cache in self._caches]
        keys = torch.cat((torch.stack([keys for keys, _ in held]), self._k), dim=1)
        values = torch.cat((torch.stack([values for _, values in held]), self._v), dim=1)
        return keys, values


class Pass:
    """One forward pass over n new positions of every sequence of a batch.

    Used as a context: positions are reserved on entry, and count as held when the pass ends well.
    """

    def __init__(self, caches: Sequence[KVCache], n: int):
        self._caches, self._n = caches, n

    def __enter__(self) -> "Pass":
        for cache in self._caches:
            cache.reserve(self._n)
        self._tables = np.array([cache.addresses for cache in self._caches], dtype=np.int64)
        return self

    def note(self, tokens: Tensor) -> None:
        """Stores which ids [batch, pos] the new positions belong to."""
        for cache, ids in zip(self._caches, tokens, strict=True):
            cache.write_tokens(ids)

    def extend(self, layer: int, k: Tensor, v: Tensor) -> LayerContext:
        """Stores a layer's new keys and values, [batch, pos, kv_head, d_head]; gives all that its queries may look
        at.
        """
        for cache, keys, values in zip(self._caches, k.detach(), v.detach(), strict=True):
            cache.write(layer, keys, values)
        return LayerContext(self._caches, self._tables, layer, k, v)

    def context(self, layer: int) -> LayerContext:
        """What the queries of a layer may look at, where the new keys and values have yet to be put."""
        empty = torch.empty(0)
        return LayerContext(self._caches, self._tables, layer, empty, empty)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            for cache in self._caches:
                cache.advance(self._n)


class _Piece:
    """`PIECE_LENGTH` positions of every layer: float32 [key or value, layer, kv_head, slot, d_head]; and their ids."""

    __slots__ = ("address", "data", "filled", "tokens")

    def __init__(self, config: ModelConfig, device: torch.device):
        shape = (2, config.n_layers, config.n_kv_heads, PIECE_LENGTH, config.d_head)
        self.data = torch.empty(shape, device=device)
        self.tokens = torch.empty(PIECE_LENGTH, dtype=torch.int64, device=device)
        self.address = self.data.data_ptr()
        self.filled = 0
        """Slots that some sequence has claimed: the next may be written by whoever comes first."""

    def copy(self, filled: int) -> "_Piece":
        """A piece of one's own with the first `filled` slots of this one."""
        other = object.__new__(_Piece)
        other.data = torch.empty_like(self.data)
        other.data[..., :filled, :] = self.data[..., :filled, :]
        other.tokens = self.tokens.clone()
        other.address = other.data.data_ptr()
        other.filled = filled
        return other
