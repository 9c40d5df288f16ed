"""The operations in plain torch: what each one means. Differentiable, on any device.

Packed experts are decoded one at a time, as they are used, so that a checkpoint never stands unpacked in memory.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from gptoss_lab import int8, mxfp4
from gptoss_lab.config import ModelConfig
from gptoss_lab.int8 import Int8
from gptoss_lab.mxfp4 import Mxfp4
from gptoss_lab.ops import Context, Precision, fused_attention
from gptoss_lab.weights import LayerWeights, Weights


def rms_norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    return x / rms(x, eps) * gain


def rms(x: Tensor, eps: float) -> Tensor:
    """sqrt(mean(x^2) + eps) over the last axis, which stays, of length 1."""
    return (x.square().mean(dim=-1, keepdim=True) + eps).sqrt()


def linear(x: Tensor, weight: Tensor | Int8, bias: Tensor | None, precision: Precision = "float32") -> Tensor:
    if isinstance(weight, Int8):
        weight = int8.decode(weight)
    return functional.linear(_rounded(x, precision), weight.to(x.dtype), bias)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    cos, sin = cos[:, None, :], sin[:, None, :]  # one angle for all heads
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def attention(q: Tensor, context: Context, sinks: Tensor, window: int | None) -> Tensor:
    return fused_attention.attention(q, *context.tensors(), sinks, window, context.start)


def attention_scores(q: Tensor, keys: Tensor, start: int, window: int | None) -> Tensor:
    """Scaled and masked scores, [batch, head, q_pos, k_pos]; what a query may not see is minus infinity.

    q: [batch, q_pos, head, d_head], the first query at absolute position `start`. keys: [batch, k_pos, kv_head,
    d_head].
    """
    n_heads, n_kv_heads = q.shape[2], keys.shape[2]
    # heads that share a key-value head stand together: [batch, kv_head, group, pos, d_head]
    grouped = q.transpose(1, 2).unflatten(1, (n_kv_heads, n_heads // n_kv_heads))
    scores = grouped @ keys.transpose(1, 2).unsqueeze(2).mT * q.shape[-1] ** -0.5
    q_pos = torch.arange(start, start + q.shape[1], device=q.device)[:, None]
    k_pos = torch.arange(keys.shape[1], device=q.device)
    hidden = k_pos > q_pos
    if window is not None:
        hidden = hidden | (k_pos <= q_pos - window)
    return scores.flatten(1, 2).masked_fill(hidden, -torch.inf)


def softmax_with_sink(scores: Tensor, sinks: Tensor) -> tuple[Tensor, Tensor]:
    """The attention pattern and the mass that the sink takes, which together sum to one.

    scores: [batch, head, q_pos, k_pos]. sinks: [head]. Returns [batch, head, q_pos, k_pos] and [batch, head, q_pos].
    """
    sink = sinks[None, :, None, None].expand(*scores.shape[:-1], 1)
    probabilities = torch.cat((scores, sink), dim=-1).softmax(dim=-1)
    return probabilities[..., :-1], probabilities[..., -1]


def mix_values(pattern: Tensor, values: Tensor) -> Tensor:
    """z [batch, q_pos, head, d_head] from pattern [batch, head, q_pos, k_pos] and values [batch, k_pos, kv_head,
    d_head].
    """
    grouped = pattern.unflatten(1, (values.shape[2], -1))
    return (grouped @ values.transpose(1, 2).unsqueeze(2)).flatten(1, 2).transpose(1, 2)


def expert_shares(
    x: Tensor,
    indices: Tensor,
    weights: Tensor,
    layer: LayerWeights,
    swiglu_limit: float,
    precision: Precision = "float32",
) -> Tensor:
    n_tokens, k = indices.shape
    chosen = indices.flatten()
    by_expert = chosen.argsort(stable=True)
    counts = chosen.bincount(minlength=len(layer.gate_up_bias)).tolist()
    # index_select and unbind where x[...] would do: the same values, and gradients in half the time
    inputs = x.index_select(0, by_expert // k).split(counts)
    experts = zip(_apart(layer.gate_up), _apart(layer.down), layer.gate_up_bias, layer.down_bias, strict=True)
    outputs = [
        _expert(x, *expert, swiglu_limit, precision) for x, expert in zip(inputs, experts, strict=True) if len(x)
    ]
    shares = torch.cat(outputs).index_select(0, by_expert.argsort()).unflatten(0, (n_tokens, k))
    return shares * weights.unsqueeze(-1)


def layers_at_once(config: ModelConfig, weights: Weights) -> None:
    """There is no such way here."""


def swiglu(hidden: Tensor, limit: float) -> Tensor:
    """gpt-oss's clamped SwiGLU: hidden [..., 2 * d_mlp], gate and up interleaved -> [..., d_mlp]."""
    gate, up = hidden.unflatten(-1, (-1, 2)).unbind(-1)
    gate = gate.clamp(max=limit)
    up = up.clamp(min=-limit, max=limit)
    return gate * torch.sigmoid(1.702 * gate) * (up + 1)


def _expert(
    x: Tensor,
    gate_up: Mxfp4 | Tensor,
    down: Mxfp4 | Tensor,
    gate_up_bias: Tensor,
    down_bias: Tensor,
    swiglu_limit: float,
    precision: Precision,
) -> Tensor:
    hidden = linear(x, _plain(gate_up), gate_up_bias, precision)
    return linear(swiglu(hidden, swiglu_limit), _plain(down), down_bias, precision)


def _rounded(x: Tensor, precision: Precision) -> Tensor:
    return x.bfloat16().to(x.dtype) if precision == "bfloat16" else x


def _apart(experts: Mxfp4 | Tensor) -> Sequence[Mxfp4 | Tensor]:
    """One matrix an expert, packed as it was."""
    return [experts[expert] for expert in range(experts.shape[0])] if isinstance(experts, Mxfp4) else experts.unbind()


def _plain(matrix: Mxfp4 | Tensor) -> Tensor:
    return mxfp4.decode(matrix) if isinstance(matrix, Mxfp4) else matrix
