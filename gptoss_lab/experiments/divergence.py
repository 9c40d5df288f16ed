"""How far two runs' expectations of the next token are apart.

A run's last residual stream stands for its expectations: it is small, and logits over a large vocabulary are not.
"""

import contextlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gptoss_lab.model import Transformer

_CHUNK = 64  # positions that are unembedded together: a large vocabulary's logits are 0.8 MB each


@contextlib.contextmanager
def keeping_final_residual(transformer: Transformer) -> Iterator[list[Tensor]]:
    """The last residual stream [batch, pos, d_model] of every pass within the block, in a list."""
    seen: list[Tensor] = []
    last = f"blocks.{transformer.config.n_layers - 1}.hook_resid_post"
    with transformer.hooks([(last, lambda tensor, hook: seen.append(tensor.detach()))]):
        yield seen


def kl_divergence(transformer: Transformer, before: Tensor, after: Tensor) -> NDArray[np.float32]:
    """KL(before || after), in nats, of what two last residual streams [pos, d_model] expect next, [pos]."""
    found = [np.zeros(0, dtype=np.float32)]
    for one, other in zip(before.split(_CHUNK), after.split(_CHUNK), strict=True):
        p, q = (transformer.unembed(part).detach().double().log_softmax(dim=-1) for part in (one, other))
        found.append((p.exp() * (p - q)).sum(dim=-1).clamp_min(0).float().cpu().numpy())
    return np.concatenate(found)
