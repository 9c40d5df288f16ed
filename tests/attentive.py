"""Made-up attention for made-up traces: what each head reads is known."""

from dataclasses import replace

import numpy as np
import traces

from gptoss_lab.trace import Trace

WINDOW = 16
LOOKS_BACK = 0.75
"""What head 0 gives to the token before."""


def with_attention(
    trace: Trace, layers: tuple[int, ...] = (0, 1, 2, 3), heads: tuple[int, ...] = (0, 1, 2, 3), seed: int = 0
) -> Trace:
    """The trace with attention: even layers see `WINDOW` tokens, odd layers all.

    In every layer the first head gives `LOOKS_BACK` to the token before (the first token: to its sink), and the last
    head leaves 0.9 or more to its sink.
    """
    n = len(trace.token_ids)
    rng = np.random.default_rng(seed)
    behind = np.arange(n)[:, None] - np.arange(n)
    patterns = np.empty((len(layers), len(heads), n, n), dtype=np.float32)
    sinks = np.empty((len(layers), len(heads), n), dtype=np.float32)
    for place, layer in enumerate(layers):
        is_seen = (behind >= 0) & ((behind < WINDOW) | (layer % 2 == 1))
        for head in range(len(heads)):
            share = rng.gamma(0.3, size=(n, n)) * is_seen + 1e-4 * is_seen
            left = 0.05 if head == len(heads) - 1 else 0.9
            share *= left / share.sum(axis=1, keepdims=True)
            if head == 0:
                share *= (1 - LOOKS_BACK) / share.sum(axis=1, keepdims=True) / 2
                share[np.arange(1, n), np.arange(n - 1)] += LOOKS_BACK
            patterns[place, head] = share
            sinks[place, head] = 1 - share.sum(axis=1)
    return replace(trace, patterns=patterns, sinks=sinks, attention_layers=layers, attention_heads=heads)


def conversation() -> Trace:
    return with_attention(traces.conversation())
