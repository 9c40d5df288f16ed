"""Trace: what a run of the model did, as arrays with documented axes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gptoss_lab.harmony import Span
from gptoss_lab.hooks import HookFunction, HookPoint

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Trace:
    """Prompt and reply together, and how every token was routed.

    Axes: pos counts tokens from the start of the prompt; layer, expert from 0; rank from the largest router logit.
    """

    tokens: NDArray[np.int64]  # [pos]
    texts: list[str]  # [pos], each token's own text; bytes that are no UTF-8 show as replacement characters
    spans: list[Span]  # [pos]
    n_prompt: int  # tokens before this belong to the prompt
    logprobs: NDArray[np.float32]  # [pos], natural logarithm, of each sampled token; NaN where none was sampled
    router_logits: NDArray[np.float32]  # [layer, pos, expert]
    expert_indices: NDArray[np.int64]  # [layer, pos, rank]
    topk_weights: NDArray[np.float32]  # [layer, pos, rank], sum to 1 over rank
    model_name: str = ""
    provenance: dict[str, str] = field(default_factory=dict)

    @property
    def n_layers(self) -> int:
        return self.router_logits.shape[0]

    @property
    def n_experts(self) -> int:
        return self.router_logits.shape[2]

    def margins(self) -> NDArray[np.float32]:
        """By how much each choice was made, [layer, pos]: last chosen router logit less the first unchosen one.

        Infinite where every expert was chosen.
        """
        k = self.expert_indices.shape[2]
        chosen = np.take_along_axis(self.router_logits, self.expert_indices, axis=2).min(axis=2)
        if k >= self.n_experts:
            return np.full_like(chosen, np.inf)
        others = self.router_logits.copy()
        np.put_along_axis(others, self.expert_indices, -np.inf, axis=2)
        return chosen - others.max(axis=2)

    def dense_weights(self) -> NDArray[np.float32]:
        """Each expert's weight, 0 where it was not chosen, [layer, pos, expert]."""
        weights = np.zeros_like(self.router_logits)
        np.put_along_axis(weights, self.expert_indices, self.topk_weights, axis=2)
        return weights

    def routing(self) -> "pd.DataFrame":
        """A row for every layer, token and chosen expert.

        Columns: position, token (its id), text, role, channel, section, layer, rank, expert, weight, margin (of the
        layer's choice, in router logits).
        """
        import pandas as pd

        n_layers, n_positions, k = self.expert_indices.shape
        layer, position, rank = (axis.ravel() for axis in np.indices((n_layers, n_positions, k)))

        def by_position(values: list) -> NDArray:
            return np.array(values, dtype=object)[position]

        return pd.DataFrame(
            {
                "position": position,
                "token": self.tokens[position],
                "text": by_position(self.texts),
                "role": by_position([span.role for span in self.spans]),
                "channel": by_position([span.channel for span in self.spans]),
                "section": by_position([span.section for span in self.spans]),
                "layer": layer,
                "rank": rank,
                "expert": self.expert_indices.ravel(),
                "weight": self.topk_weights.ravel(),
                "margin": self.margins()[layer, position],
            }
        )


class RoutingRecorder:
    """Collects how a sequence is routed, over as many forward passes as it takes: give `fwd_hooks` to `model.hooks`."""

    _POINTS = ("mlp.hook_router_logits", "mlp.hook_expert_indices", "mlp.hook_topk_weights")

    def __init__(self) -> None:
        self._seen: dict[str, list[NDArray]] = {}

    @property
    def fwd_hooks(self) -> list[tuple[str, HookFunction]]:
        return [(f"blocks.*.{point}", self._keep) for point in self._POINTS]

    def arrays(self, n_layers: int) -> list[NDArray]:
        """Router logits [layer, pos, expert], expert indices and top-k weights [layer, pos, rank]."""
        return [
            np.stack([np.concatenate(self._seen[f"blocks.{layer}.{point}"]) for layer in range(n_layers)])
            for point in self._POINTS
        ]

    def _keep(self, tensor: Tensor, hook: HookPoint) -> None:
        # A copy: a later hook may change the tensor in place.
        self._seen.setdefault(hook.name, []).append(tensor[0].detach().cpu().numpy().copy())


def check_record(record: Sequence[str]) -> None:
    """Raises ValueError for what cannot be recorded."""
    if unknown := sorted(set(record) - {"routing"}):
        raise ValueError(f"record names what to keep of a run, of: routing; got {', '.join(map(repr, unknown))}")
