"""The operations as CPU kernels: those of `torch_ops`, with float32 CPU tensors in and out, and weights read as they
are stored.
"""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from gptoss_lab.int8 import Int8
from gptoss_lab.ops import Context, Precision, attention_kernels, products, row_kernels
from gptoss_lab.ops.attention_kernels import Attention
from gptoss_lab.ops.compile import prepare
from gptoss_lab.ops.few_tokens import Layers
from gptoss_lab.ops.place import Place
from gptoss_lab.ops.products import Groups, Matrices, Rows, number_in_panels, stored
from gptoss_lab.ops.row_kernels import Grouping, Norm, Rotation
from gptoss_lab.ops.threads import launch, lock, scratch, set_threads, threads
from gptoss_lab.weights import LayerWeights

__all__ = [
    "attention",
    "expert_shares",
    "layers_at_once",
    "linear",
    "prepare",
    "rms_norm",
    "rotate",
    "set_threads",
    "threads",
]

_KEYS_WORTH_A_SPLIT = 256

layers_at_once = Layers


def rms_norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    x = _float32(x)
    out = torch.empty_like(x)
    n = x.shape[-1]
    job = Norm(x.data_ptr(), gain.data_ptr(), out.data_ptr(), x.numel() // n, n, eps)
    launch(row_kernels.rms_norm, job, 4 * x.numel())
    return out


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    x, cos, sin = _float32(x), cos.contiguous(), sin.contiguous()
    out = torch.empty_like(x)
    batch, pos, n_heads, d_head = x.shape
    place = np.array(Place(0, 0, 0, cos.data_ptr(), sin.data_ptr()), dtype=np.int64)
    job = Rotation(x.data_ptr(), place.ctypes.data, out.data_ptr(), batch * pos, pos, n_heads, d_head // 2)
    launch(row_kernels.rotate, job, 4 * x.numel())
    return out


def linear(x: Tensor, weight: Tensor | Int8, bias: Tensor | None, precision: Precision = "float32") -> Tensor:
    x, matrix = _float32(x), stored(weight, bias)
    n = x.numel() // matrix.n_in
    out = torch.empty(*x.shape[:-1], matrix.n_out)
    rows, results = Rows(x.data_ptr()), Rows(out.data_ptr())
    in_panels = number_in_panels(matrix, n, precision)
    for first in range(0, in_panels, products.MOST_IN_PANELS):
        count = min(products.MOST_IN_PANELS, in_panels - first)
        products.multiply_in_panels(
            matrix, precision, rows.beyond(first, matrix.n_in), count, results.beyond(first, matrix.n_out)
        )
    if in_panels < n:
        products.dot_products(matrix, precision, rows, n, results, first=in_panels)
    return out


def expert_shares(
    x: Tensor,
    indices: Tensor,
    weights: Tensor,
    layer: LayerWeights,
    swiglu_limit: float,
    precision: Precision = "float32",
) -> Tensor:
    x, weights = _float32(x), _float32(weights)
    indices = indices.to(torch.int64).contiguous()
    gate_up, down = stored(layer.gate_up, layer.gate_up_bias), stored(layer.down, layer.down_bias)
    shares = torch.empty(*indices.shape, down.n_out)
    if len(x) == 1 and indices.numel() < len(_COUNT):
        count = _COUNT.data_ptr()
        groups = Groups(indices.data_ptr(), count, count + 8, indices.numel())
        inputs, results = Rows(x.data_ptr(), _ZEROS.data_ptr()), Rows(shares.data_ptr())
        products.experts_in_dots(
            gate_up, down, swiglu_limit, precision, groups, inputs, indices.numel(), results, weights.data_ptr()
        )
        return shares
    starts, pairs, tokens = _by_expert(indices, len(layer.down_bias))
    inputs, results = Rows(x.data_ptr(), tokens.data_ptr()), Rows(shares.data_ptr(), pairs.data_ptr())
    rest = starts
    if number_in_panels(gate_up, len(x), precision):
        rest = _experts_in_panels(gate_up, down, swiglu_limit, precision, starts, inputs, results, weights)
    groups = Groups(0, rest.data_ptr(), starts.data_ptr() + 8, len(layer.down_bias))
    products.experts_in_dots(
        gate_up, down, swiglu_limit, precision, groups, inputs, indices.numel(), results, weights.data_ptr()
    )
    return shares


_COUNT, _ZEROS = torch.arange(257), torch.zeros(257, dtype=torch.int64)


def _by_expert(indices: Tensor, n_experts: int) -> list[Tensor]:
    """Pairs of token and rank by expert: where each expert's begin (and the last's end), the pairs, their tokens."""
    n = indices.numel()
    starts, pairs, tokens = torch.empty(n_experts + 1 + 2 * n, dtype=torch.int64).split([n_experts + 1, n, n])
    job = Grouping(
        indices.data_ptr(), n, n_experts, indices.shape[-1], starts.data_ptr(), pairs.data_ptr(), tokens.data_ptr()
    )
    launch(row_kernels.group_by_expert, job, 0)
    return [starts, pairs, tokens]


def _experts_in_panels(
    gate_up: Matrices,
    down: Matrices,
    limit: float,
    precision: Precision,
    starts: Tensor,
    inputs: Rows,
    results: Rows,
    weights: Tensor,
) -> Tensor:
    """Takes each expert's vectors in panels, as far as they fill them. Returns where the remaining ones start."""
    bounds = starts.tolist()
    rest = starts.clone()
    for expert, (start, end) in enumerate(pairwise(bounds)):
        in_panels = number_in_panels(gate_up, end - start, precision)
        for first in range(start, start + in_panels, products.MOST_IN_PANELS):
            n = min(products.MOST_IN_PANELS, start + in_panels - first)
            products.expert_in_panels(
                gate_up.number(expert),
                down.number(expert),
                limit,
                precision,
                inputs.beyond(first, gate_up.n_in),
                n,
                results.beyond(first, down.n_out),
                weights.data_ptr(),
            )
        rest[expert] += in_panels
    return rest


def attention(q: Tensor, context: Context, sinks: Tensor, window: int | None) -> Tensor:
    q, sinks = _float32(q), sinks.contiguous()
    z = torch.empty_like(q)
    batch, pos, n_heads, d_head = q.shape
    blocks = attention_kernels.n_blocks(batch, pos, n_heads, context.n_kv_heads)
    n_keys = context.start + pos if window is None else min(context.start + pos, window + pos)
    n_splits = min(max(1, -(-threads() // blocks)), max(1, n_keys // _KEYS_WORTH_A_SPLIT))
    partial_size = blocks * n_splits * attention_kernels.partial_floats(d_head)
    tables = context.tables
    place = np.array(Place(context.start, tables.ctypes.data, tables.shape[1], 0, 0), dtype=np.int64)
    with lock:
        partial = scratch(partial_size + attention_kernels.scratch_floats(d_head, threads()))
        job = Attention(
            q=q.data_ptr(),
            z=z.data_ptr(),
            batch=batch,
            pos=pos,
            n_heads=n_heads,
            n_kv_heads=context.n_kv_heads,
            d_head=d_head,
            scale=d_head**-0.5,
            sinks=sinks.data_ptr(),
            window=context.start + pos if window is None else window,
            place=place.ctypes.data,
            piece_length=context.piece_length,
            key_offset=context.key_offset,
            value_offset=context.value_offset,
            first_key=0,
            end_key=context.start + pos,
            sink=1,
            logs=0,
            n_splits=n_splits,
            partial=partial,
            scratch=partial + 4 * partial_size,
        )
        launch(attention_kernels.attend, job, 2 * blocks * 32 * n_keys * d_head)
        if n_splits > 1:
            launch(attention_kernels.merge, job, 4 * partial_size)
    return z


def _float32(x: Tensor) -> Tensor:
    if x.dtype != torch.float32:
        raise TypeError(f"activations are float32 for the numba engine, not {x.dtype}")
    return x.contiguous()
