"""How sure the router is: the entropy of its choices, by how much they are made, how evenly they share the work."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gptoss_lab.analyses.routing.kinds import Mask, checked
from gptoss_lab.analyses.routing.load import expert_sums
from gptoss_lab.trace import Trace

if TYPE_CHECKING:
    import pandas as pd

NOISE = 1e-5
"""Router logits that differ by no more than this may change places by rounding alone: between the engines of this
package, that is. Programs that compute in bfloat16 need a larger one."""


def router_entropy(trace: Trace) -> NDArray[np.float64]:
    """How undecided the router is between all experts, [layer, pos], in nats: from 0 to log(experts).

    It is the entropy of a softmax over all router logits. The model itself weighs the chosen experts alone: see
    `weight_entropy`.
    """
    logits = trace.router_logits.astype(np.float64)
    probabilities = np.exp(logits - logits.max(axis=2, keepdims=True))
    return _entropy(probabilities / probabilities.sum(axis=2, keepdims=True))


def weight_entropy(trace: Trace) -> NDArray[np.float64]:
    """How evenly a token shares its weight between the experts that it chose, [layer, pos], in nats: 0 to log(k)."""
    return _entropy(trace.topk_weights.astype(np.float64))


def by_layer(trace: Trace, where: Mask | None = None, noise: float = NOISE) -> "pd.DataFrame":
    """What choosing is like in each layer: a row for each.

    where: [pos], which tokens count; by default the reply's content.

    Columns: layer; router_entropy and weight_entropy (means, nats); margin (the median, in router logits, between the
    last chosen expert and the first unchosen one); close (the share of choices made by no more than `noise`);
    effective_experts (exp of the load's entropy: as many experts of equal load would be as hard to tell apart);
    busiest (the largest share of tokens that one expert served); idle (how many experts served none).

    Raises ValueError where no token counts.
    """
    import pandas as pd

    where = checked(trace, where)
    if not where.any():
        raise ValueError("no token counts: say which with where=, for by default only the reply's content does")
    margins = trace.margins()[:, where]
    _, tokens = expert_sums(trace, where)
    return pd.DataFrame(
        {
            "layer": np.arange(trace.n_layers),
            "router_entropy": router_entropy(trace)[:, where].mean(axis=1),
            "weight_entropy": weight_entropy(trace)[:, where].mean(axis=1),
            "margin": np.median(margins, axis=1),
            "close": (margins <= noise).mean(axis=1),
            "effective_experts": np.exp(_entropy(tokens / tokens.sum(axis=1, keepdims=True))),
            "busiest": tokens.max(axis=1) / where.sum(),
            "idle": (tokens == 0).sum(axis=1),
        }
    )


def _entropy(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the last axis, in nats."""
    return -(probabilities * np.log(np.where(probabilities > 0, probabilities, 1))).sum(axis=-1)
