"""Attention with a sink through PyTorch's fused kernels, where nobody asks for the pattern.

Scores are never stored: memory grows with the length, not with its square, and training takes half the time.

A fused kernel knows no sink, so the sink becomes a key of its own with a value of zero. Vectors get one dimension more,
in which every query holds 1, the sink's key what makes the scaled score come out as its logit, and all others 0.
"""

import torch
from torch import Tensor
from torch.nn import functional


def attention(q: Tensor, keys: Tensor, values: Tensor, sinks: Tensor, window: int | None, start: int) -> Tensor:
    """z [batch, q_pos, head, d_head]; arguments as in `torch_ops.attention_scores` and `mix_values`."""
    n_queries, d_head = q.shape[1], q.shape[-1]
    q, keys, values = _with_sink(q, keys, values, sinks)
    if start or (window is not None and n_queries <= window):
        z = _fused(q, keys, values, d_head, _visible(n_queries, start, window, q.device))
    elif window is None:
        z = _causal(q, keys, values, d_head)
    else:
        z = _in_blocks(q, keys, values, window, d_head)
    return z[..., :d_head]


def _with_sink(q: Tensor, keys: Tensor, values: Tensor, sinks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values [batch, pos, head, d_head + 1], one a query head; the sink's key stands first."""
    batch, _, n_heads, d_head = q.shape
    group = n_heads // keys.shape[2]
    keys, values = (functional.pad(x.repeat_interleave(group, 2), (0, 1)) for x in (keys, values))
    logit = sinks.to(q.dtype)[:, None] * d_head**0.5
    sink = torch.cat((logit.new_zeros(n_heads, d_head), logit), dim=-1).expand(batch, 1, -1, -1)
    q = torch.cat((q, q.new_ones(*q.shape[:-1], 1)), dim=-1)
    return q, torch.cat((sink, keys), dim=1), functional.pad(values, (0, 0, 0, 0, 1, 0))


def _visible(n_queries: int, start: int, window: int | None, device: torch.device) -> Tensor:
    """Which keys a query may see, bool [q_pos, sink and k_pos]."""
    q_pos = torch.arange(start, start + n_queries, device=device)[:, None]
    k_pos = torch.arange(start + n_queries, device=device)
    visible = k_pos <= q_pos
    if window is not None:
        visible = visible & (k_pos > q_pos - window)
    return functional.pad(visible, (1, 0), value=True)


def _causal(q: Tensor, keys: Tensor, values: Tensor, d_head: int) -> Tensor:
    """All that went before. An idle query keeps the sink company, so that the triangle begins with it."""
    return _fused(functional.pad(q, (0, 0, 0, 0, 1, 0)), keys, values, d_head, visible=None)[:, 1:]


def _in_blocks(q: Tensor, keys: Tensor, values: Tensor, window: int, d_head: int) -> Tensor:
    """A window's queries, block by block: each sees the sink, the block before its own, and its own."""
    batch, n_queries = q.shape[:2]
    n_blocks = -(-n_queries // window)
    filling = n_blocks * window - n_queries

    def two_blocks(x: Tensor) -> Tensor:
        sink, rest = x[:, :1], functional.pad(x[:, 1:], (0, 0, 0, 0, window, filling))
        blocks = rest.unflatten(1, (n_blocks + 1, window))
        sinks = sink.unsqueeze(1).expand(-1, n_blocks, -1, -1, -1)
        return torch.cat((sinks, blocks[:, :-1], blocks[:, 1:]), dim=2).flatten(0, 1)

    visible = _visible(window, window, window, q.device).expand(n_blocks, 1, -1, -1).clone()
    visible[0, ..., 1 : window + 1] = False  # nothing stands before the first block
    in_blocks = functional.pad(q, (0, 0, 0, 0, 0, filling)).unflatten(1, (n_blocks, window)).flatten(0, 1)
    z = _fused(in_blocks, two_blocks(keys), two_blocks(values), d_head, visible.repeat(batch, 1, 1, 1))
    return z.unflatten(0, (batch, n_blocks)).flatten(1, 2)[:, :n_queries]


def _fused(q: Tensor, keys: Tensor, values: Tensor, d_head: int, visible: Tensor | None) -> Tensor:
    """q, keys, values and the result: [batch, pos, head, d_head + 1]; without a mask, query n sees keys 0 to n."""
    q, keys, values = (x.transpose(1, 2) for x in (q, keys, values))
    z = functional.scaled_dot_product_attention(
        q, keys, values, attn_mask=visible, is_causal=visible is None, scale=d_head**-0.5
    )
    return z.transpose(1, 2)
