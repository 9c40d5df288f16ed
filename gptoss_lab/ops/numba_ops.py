"""The operations of the model as CPU kernels: the signatures of torch_ops, float32 CPU tensors in and out, packed experts read as they are."""

import math

import torch
from numba import prange

from gptoss_lab.ops import threads as pool
from gptoss_lab.ops.compile import device, kernel, prepare
from gptoss_lab.ops.simd import get_bfloat16, get_byte, get_float, get_int, get_scale, set_float
from gptoss_lab.ops.threads import set_threads, threads

__all__ = ["attention", "expert_shares", "linear", "prepare", "rms_norm", "rotate", "set_threads", "threads"]

FLOAT32, BFLOAT16, MXFP4 = 0, 1, 2


def rms_norm(x, gain, eps):
    x = x.contiguous()
    return x / torch.sqrt(x.square().mean(-1, keepdim=True) + eps) * gain


def rotate(x, cos, sin):
    first, second = x.chunk(2, dim=-1)
    cos, sin = cos[:, None], sin[:, None]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def linear(x, weight, bias):
    rows = x.reshape(-1, x.shape[-1]).contiguous()
    out = torch.empty(rows.shape[0], weight.shape[0])
    with pool.launch_lock:
        _linear(
            _format(weight), weight.data_ptr(), 0, weight.shape[0], weight.shape[1], 0 if bias is None else bias.data_ptr(),
            rows.data_ptr(), rows.shape[0], out.data_ptr(),
        )
    return out.view(*x.shape[:-1], -1)


def attention(q, context, sinks, window):
    q = q.contiguous()
    batch, pos, heads, d_head = q.shape
    z = torch.empty_like(q)
    with pool.launch_lock:
        _attention(
            q.data_ptr(), batch, pos, heads, d_head, context.n_kv_heads, context.start, context.tables.ctypes.data, context.tables.shape[1],
            context.key_offset, context.value_offset, context.piece_length, sinks.data_ptr(), window or 1 << 40, z.data_ptr(),
        )
    return z


def expert_shares(x, indices, weights, layer, swiglu_limit):
    tokens, k = indices.shape
    shares = torch.empty(tokens, k, x.shape[1])
    for token in range(tokens):
        for rank in range(k):
            expert = int(indices[token, rank])
            h = _expert_linear(x[token], layer.gate_up, layer.gate_up_bias, expert)
            gate = h[0::2].clamp(max=swiglu_limit)
            up = h[1::2].clamp(-swiglu_limit, swiglu_limit)
            act = gate * torch.sigmoid(1.702 * gate) * (up + 1)
            shares[token, rank] = weights[token, rank] * _expert_linear(act, layer.down, layer.down_bias, expert)
    return shares


def _expert_linear(x, packed, bias, expert):
    x, bias = x.contiguous(), bias[expert].contiguous()
    out = torch.empty(bias.shape[0])
    with pool.launch_lock:
        if isinstance(packed, torch.Tensor):
            matrix = packed[expert].contiguous()
            format, weights, scales, n_in = _format(matrix), matrix.data_ptr(), 0, matrix.shape[1]
        else:
            blocks, scales = packed.blocks[expert].contiguous(), packed.scales[expert].contiguous()
            format, weights, scales, n_in = MXFP4, blocks.data_ptr(), scales.data_ptr(), blocks.shape[1] * 32
        _linear(format, weights, scales, out.shape[0], n_in, bias.data_ptr(), x.data_ptr(), 1, out.data_ptr())
    return out


def _format(weight):
    return {torch.float32: FLOAT32, torch.bfloat16: BFLOAT16}[weight.dtype]


@device
def _e2m1(code):
    magnitude = (0xC8643210 >> (4 * (code & 7))) & 15
    return -0.5 * magnitude if code & 8 else 0.5 * magnitude


@kernel("void(int64,int64,int64,int64,int64,int64,int64,int64,int64)", parallel=True)
def _linear(format, weights, scales, n_out, n_in, bias, x, n_tokens, out):
    for row in prange(n_out):
        for token in range(n_tokens):
            total = 0.0
            for i in range(n_in):
                place = row * n_in + i
                if format == FLOAT32:
                    weight = get_float(weights + 4 * place)
                elif format == BFLOAT16:
                    weight = get_bfloat16(weights + 2 * place)
                else:
                    code = get_byte(weights + place // 2) >> (4 * (place % 2))
                    weight = _e2m1(code) * get_scale(scales + place // 32)
                total += weight * get_float(x + 4 * (token * n_in + i))
            if bias:
                total += get_float(bias + 4 * row)
            set_float(out + 4 * (token * n_out + row), total)


@kernel("void(int64,int64,int64,int64,int64,int64,int64,int64,int64,int64,int64,int64,int64,int64,int64)", parallel=True)
def _attention(q, batch, pos, heads, d_head, kv_heads, start, tables, n_pieces, key_offset, value_offset, length, sinks, window, z):
    for item in prange(batch * pos * heads):
        head = item % heads
        i = start + item // heads % pos
        sequence = item // heads // pos
        kv_head = head // (heads // kv_heads)
        largest, mass = get_float(sinks + 4 * head), 1.0
        for d in range(d_head):
            set_float(z + 4 * (item * d_head + d), 0.0)
        for j in range(max(0, i - window + 1), i + 1):
            piece = get_int(tables + 8 * (sequence * n_pieces + j // length))
            slot = (kv_head * length + j % length) * d_head
            score = 0.0
            for d in range(d_head):
                score += get_float(q + 4 * (item * d_head + d)) * get_float(piece + 4 * (key_offset + slot + d))
            score /= math.sqrt(d_head)
            higher = max(largest, score)
            kept, share = math.exp(largest - higher), math.exp(score - higher)
            largest, mass = higher, mass * kept + share
            for d in range(d_head):
                at = z + 4 * (item * d_head + d)
                set_float(at, get_float(at) * kept + share * get_float(piece + 4 * (value_offset + slot + d)))
        for d in range(d_head):
            at = z + 4 * (item * d_head + d)
            set_float(at, get_float(at) / mass)
