"""What the attention view draws of a trace, made small enough for a browser: pictures of patterns, strongest reads."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gptoss_lab.trace import Trace
from gptoss_lab.views.strip_data import as_bytes, conversation

N_READS = 12
"""How many of the positions that a token reads are kept, the strongest first; the rest is summed up."""

PICTURE_SIDE = 400
THUMBNAIL_SIDE = 48
THUMBNAIL_BYTES = 1_500_000
"""For all heads together; they get smaller where there are many."""

PAGE_BYTES = 2_800_000
"""For all heads, large, on an exported page."""


def overview(trace: Trace) -> dict[str, Any]:
    """The conversation and every recorded head, small.

    Arrays are bytes (see `strip_data`): thumbnails uint8 [layer, head, side, side], 255 times the square root of the
    largest weight in each square, rounded up; sinkMeans float32 [layer, head], the mass that the sink takes, mean over
    tokens. `reaches` says, layer by layer, how far back its heads see.
    """
    patterns, sinks = recorded(trace)
    n_layers, n_heads, n = sinks.shape
    side = min(n, THUMBNAIL_SIDE, max(8, int((THUMBNAIL_BYTES / (n_layers * n_heads)) ** 0.5)))
    pictures = [[picture(patterns[layer, head], side) for head in range(n_heads)] for layer in range(n_layers)]
    return {
        **conversation(trace),
        "layers": list(trace.attention_layers),
        "heads": list(trace.attention_heads),
        "reaches": [reach_in_words(layer) for layer in patterns],
        "side": side,
        "thumbnails": as_bytes(pictures, "u1"),
        "sinkMeans": as_bytes(sinks.mean(axis=2), "<f4"),
    }


class Detail(NamedTuple):
    """How closely a head is shown: the side of its picture, and how many reads of each token."""

    side: int = PICTURE_SIDE
    n_reads: int = N_READS

    def n_bytes(self, n: int) -> int:
        return self.side**2 + n * (2 + 4 * self.n_reads)


def large(trace: Trace, layer: int, head: int, detail: Detail | None = None) -> dict[str, Any]:
    """One head, given by its layer's and its own number in the model.

    Arrays are bytes: picture uint8 [side, side], as thumbnails are; keys uint16 (uint32 above 65,536 tokens) and
    weights uint16 [pos, read], the positions that a token reads most, strongest first; sinks uint16 [pos]. Weights and
    sinks are 65,535 times the share.
    """
    detail = detail or Detail()
    patterns, all_sinks = recorded(trace)
    place = trace.attention_layers.index(layer), trace.attention_heads.index(head)
    pattern = patterns[place]
    n = len(pattern)
    side = min(n, detail.side)
    keys = strongest(pattern, min(n, detail.n_reads))
    return {
        "head": [layer, head],
        "side": side,
        "nReads": keys.shape[1],
        "picture": as_bytes(picture(pattern, side), "u1"),
        "keys": as_bytes(keys, "<u2" if n <= 65536 else "<u4"),
        "weights": as_bytes(_shares(np.take_along_axis(pattern, keys, axis=1)), "<u2"),
        "sinks": as_bytes(_shares(all_sinks[place]), "<u2"),
    }


def page_heads(trace: Trace, first: tuple[int, int], n_bytes: int = PAGE_BYTES) -> list[dict[str, Any]]:
    """As many heads, large, as an exported page may hold, `first` (layer, head) the first of them.

    Where all fit, they do so in as much detail as there is room for.
    """
    n = len(trace.token_ids)
    names = [(layer, head) for layer in trace.attention_layers for head in trace.attention_heads]
    names.sort(key=lambda name: name != first)
    least = Detail(side=min(n, 96), n_reads=4)
    kept = names[: max(1, n_bytes // least.n_bytes(n))]
    room = n_bytes // len(kept)
    details = [Detail(PICTURE_SIDE, n_reads) for n_reads in range(N_READS, least.n_reads - 1, -2)]
    sides = [detail._replace(side=int(max(0, room - detail._replace(side=0).n_bytes(n)) ** 0.5)) for detail in details]
    chosen = next((detail for detail in sides if detail.side >= least.side), least)
    return [large(trace, *name, chosen._replace(side=min(PICTURE_SIDE, chosen.side))) for name in kept]


def recorded(trace: Trace) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A trace's patterns and sinks. Raises ValueError where no attention was recorded."""
    if trace.patterns is None or trace.sinks is None:
        raise ValueError('this trace has no attention: trace with record=("routing", "attention")')
    return trace.patterns, trace.sinks


def picture(pattern: NDArray[np.float32], side: int) -> NDArray[np.uint8]:
    """A pattern [pos, k_pos] as a picture [side, side]: the largest weight in each square, as 255 times its root.

    Small weights are what would be lost, hence the root, and hence rounding up: 0 is what could not be seen at all.
    """
    starts = np.arange(side) * len(pattern) // side
    squares = np.maximum.reduceat(np.maximum.reduceat(pattern, starts, axis=0), starts, axis=1)
    return np.ceil(255 * np.sqrt(np.clip(squares, 0, 1))).astype(np.uint8)


def strongest(pattern: NDArray[np.float32], n_reads: int) -> NDArray[np.int64]:
    """The positions [pos, read] that each token reads most, strongest first."""
    found = np.argpartition(-pattern, n_reads - 1, axis=1)[:, :n_reads]
    order = np.argsort(-np.take_along_axis(pattern, found, axis=1), axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1)


def reach_in_words(patterns: NDArray[np.float32]) -> str:
    """How far back a layer's heads [head, pos, k_pos] see, in as few words as fit beside them.

    A window shows in the weights: nothing lies beyond it, and what lies at its edge is still seen by every token.
    """
    seen: NDArray[np.bool_] = np.any(patterns > 0, axis=0)
    n = len(seen)
    distance = int((np.arange(n) - seen.argmax(axis=1)).max())
    if distance >= n - 1:
        return "sees all"
    at_edge = seen.diagonal(-distance)
    return f"window {distance + 1}" if at_edge.mean() > 0.9 else f"up to {distance} back"


def _shares(values: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.rint(65535 * np.clip(values.astype(np.float64), 0, 1))
