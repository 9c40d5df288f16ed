"""Slow, obvious float64 versions of the operations: one number at a time where that is bearable."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gptoss_lab.mxfp4 import Mxfp4

E2M1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]


@dataclass
class Experts:
    """The part of a layer's weights that `expert_shares` reads."""

    gate_up: Tensor | Mxfp4
    gate_up_bias: Tensor
    down: Tensor | Mxfp4
    down_bias: Tensor


def plain(matrix: Tensor | Mxfp4) -> Tensor:
    """Stored weights as float64."""
    if isinstance(matrix, Tensor):
        return matrix.double()
    table = torch.tensor(E2M1 + [-value for value in E2M1], dtype=torch.float64)
    low, high = table[(matrix.blocks & 15).long()], table[(matrix.blocks >> 4).long()]
    scales = 2.0 ** (matrix.scales.double() - 127)
    return (torch.stack((low, high), dim=-1).flatten(-2) * scales[..., None]).flatten(-2)


def rms_norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    x = x.double()
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * gain.double()


def linear(x: Tensor, weight: Tensor | Mxfp4, bias: Tensor | None) -> Tensor:
    product = x.double() @ plain(weight).mT
    return product if bias is None else product + bias.double()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Each pair as a complex number, times a complex number for its angle."""
    half = x.shape[-1] // 2
    turned = torch.complex(x[..., :half].double(), x[..., half:].double())
    turned = turned * torch.complex(cos.double(), sin.double())[:, None, :]
    return torch.cat((turned.real, turned.imag), dim=-1)


def attention(q: Tensor, keys: Tensor, values: Tensor, start: int, sinks: Tensor, window: int | None) -> Tensor:
    """q: [batch, pos, head, d_head]. keys, values: [batch, start + pos, kv_head, d_head]."""
    z = torch.empty_like(q, dtype=torch.float64)
    batch, n, n_heads, d_head = q.shape
    for b in range(batch):
        for i in range(n):
            first = 0 if window is None else max(0, start + i - window + 1)
            for head in range(n_heads):
                kv_head = head * keys.shape[2] // n_heads
                seen = slice(first, start + i + 1)
                scores = keys[b, seen, kv_head].double() @ q[b, i, head].double() / math.sqrt(d_head)
                weights = torch.cat((scores, sinks[head : head + 1].double())).softmax(dim=0)[:-1]
                z[b, i, head] = weights @ values[b, seen, kv_head].double()
    return z


def expert_shares(
    x: Tensor,
    indices: Tensor,
    weights: Tensor,
    layer: Experts,
    swiglu_limit: float,
    rounded_to: torch.dtype | None = None,
) -> Tensor:
    """rounded_to: what goes into either matrix is rounded to this type."""
    gate_up, down = plain(layer.gate_up), plain(layer.down)
    shares = torch.empty(*indices.shape, x.shape[1], dtype=torch.float64)
    for token in range(len(x)):
        for rank, expert in enumerate(indices[token].tolist()):
            hidden = gate_up[expert] @ x[token].to(rounded_to).double() + layer.gate_up_bias[expert].double()
            gate = hidden[0::2].clamp(max=swiglu_limit)
            up = hidden[1::2].clamp(-swiglu_limit, swiglu_limit)
            activation = gate / (1 + torch.exp(-1.702 * gate)) * (up + 1)
            out = down[expert] @ activation.to(rounded_to).double() + layer.down_bias[expert].double()
            shares[token, rank] = weights[token, rank].double() * out
    return shares
