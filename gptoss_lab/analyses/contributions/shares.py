"""How large each chosen expert's share of a layer's output is, and where it points."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gptoss_lab.trace import Trace

if TYPE_CHECKING:
    import pandas as pd


def expert_shares(trace: Trace) -> "pd.DataFrame":
    """What each chosen expert added to the residual stream: a row for each recorded layer, token and chosen expert.

    A share is the expert's output times its router weight; a token's shares sum to the layer's output.

    Columns: position, text, channel, layer, rank, expert, weight; norm (of the share); of_output (its part in the
    layer's output, along that output; a token's parts sum to 1, and a share that works against the others is
    negative); alike (the cosine of the angle between the share and the sum of the others; NaN where there are none).

    Raises ValueError where no expert's share was recorded.
    """
    import pandas as pd

    shares = recorded_shares(trace)
    place, position, rank = (axis.ravel() for axis in np.indices(shares.shape[:3]))
    layer = np.array(trace.expert_out_layers)[place]
    output = shares.sum(axis=2, keepdims=True)
    texts, channels = (
        np.array(trace.texts, dtype=object),
        np.array([span.channel for span in trace.spans], dtype=object),
    )
    return pd.DataFrame(
        {
            "position": position,
            "text": texts[position],
            "channel": channels[position],
            "layer": layer,
            "rank": rank,
            "expert": trace.expert_indices[layer, position, rank],
            "weight": trace.topk_weights[layer, position, rank],
            "norm": np.linalg.norm(shares, axis=3).ravel(),
            "of_output": _ratio((shares * output).sum(axis=3), (output * output).sum(axis=3)).ravel(),
            "alike": _cosine(shares, output - shares).ravel(),
        }
    )


def recorded_shares(trace: Trace) -> NDArray[np.float64]:
    """The shares [recorded layer, pos, rank, d_model]. Raises ValueError where there are none."""
    if trace.expert_out is None:
        raise ValueError('this trace has no experts\' shares: trace or chat with record=("experts",)')
    return trace.expert_out.astype(np.float64)


def _cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    norms = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    return _ratio((one * other).sum(axis=-1), norms)


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 1e-12)
