"""How much of which text each expert served."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gptoss_lab.analyses.routing.kinds import Mask, checked, labels
from gptoss_lab.trace import Trace

if TYPE_CHECKING:
    import pandas as pd


def expert_load(trace: Trace, by: str = "channel", where: Mask | None = None) -> "pd.DataFrame":
    """Tokens and router weight that each expert served, for each kind of text.

    `by` is "channel", "role", "section", "speaker" or "class" (see `labels`); `where` [pos] says which tokens count,
    by default the reply's content.

    Returns a row for every label, layer and expert, idle experts included. Columns: the label, under the name of `by`;
    layer; expert; tokens, how many chose the expert; weight, what they gave it, summed; share = tokens / the label's
    tokens (over the experts it sums to k); weight_share = weight / the label's tokens (it sums to 1).
    """
    import pandas as pd

    where = checked(trace, where)
    label_of = labels(trace, by)
    layer, expert = (axis.ravel() for axis in np.indices((trace.n_layers, trace.n_experts)))
    tables = []
    for label in dict.fromkeys(label_of[where]):
        counted = where & (label_of == label)
        weight, tokens = expert_sums(trace, counted)
        total = counted.sum()
        tables.append(
            pd.DataFrame(
                {
                    by: label,
                    "layer": layer,
                    "expert": expert,
                    "tokens": tokens.ravel(),
                    "weight": weight.ravel(),
                    "share": tokens.ravel() / total,
                    "weight_share": weight.ravel() / total,
                }
            )
        )
    if tables:
        return pd.concat(tables, ignore_index=True)
    return pd.DataFrame(columns=[by, "layer", "expert", "tokens", "weight", "share", "weight_share"])


def expert_sums(trace: Trace, where: Mask) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Router weight, and number of tokens, that each expert received from the tokens of `where` [pos].

    Both are [layer, expert]; a layer's weights sum to the number of tokens.
    """
    where = checked(trace, where)
    shape = trace.n_layers, trace.n_experts
    chosen = trace.expert_indices[:, where]
    cell = np.arange(trace.n_layers)[:, None, None] * trace.n_experts + chosen
    weight = np.bincount(cell.ravel(), trace.topk_weights[:, where].ravel(), minlength=shape[0] * shape[1])
    # Where an edit makes a layer choose fewer, a trace fills up with experts of weight 0.
    chose = trace.topk_weights[:, where].ravel() > 0
    tokens = np.bincount(cell.ravel(), chose, minlength=shape[0] * shape[1])
    return weight.reshape(shape).astype(np.float64), tokens.reshape(shape).astype(np.int64)
