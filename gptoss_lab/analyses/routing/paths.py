"""The path that a token takes through the layers, from expert to expert, and which tokens take the same."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gptoss_lab.analyses.routing.kinds import Mask, checked
from gptoss_lab.trace import Trace

if TYPE_CHECKING:
    import pandas as pd


def path(trace: Trace, position: int) -> NDArray[np.int64]:
    """The experts that served a token, [layer, rank], likeliest first. Raises IndexError where there is no token."""
    _check_position(trace, position)
    return trace.expert_indices[:, position]


def path_similarity(
    trace: Trace, where: Mask | None = None, layers: Iterable[int] | None = None
) -> NDArray[np.float32]:
    """The share of experts that two tokens have in common, over the layers, [token, token]: 1 is the same path.

    where: [pos], which tokens; by default the reply's content. layers: all of them where not given.
    """
    steps = _steps(trace, layers)[checked(trace, where)]
    return _in_common(steps, steps, trace)


def most_alike(trace: Trace, position: int, n: int = 10, layers: Iterable[int] | None = None) -> "pd.DataFrame":
    """The tokens whose paths are most like that of one token, the most alike first.

    Columns: position, text, channel, role, similarity (the share of experts in common), usual (the mean similarity of
    all other tokens to this one: what to hold it against). Raises IndexError where there is no such token.
    """
    import pandas as pd

    _check_position(trace, position)
    steps = _steps(trace, layers)
    similarity = _in_common(steps[[position]], steps, trace)[0]
    order = np.argsort(-similarity, kind="stable")
    nearest = order[order != position][:n]
    usual = np.delete(similarity, position).mean() if len(similarity) > 1 else np.nan
    return pd.DataFrame(
        {
            "position": nearest,
            "text": [trace.texts[place] for place in nearest],
            "channel": [trace.spans[place].channel for place in nearest],
            "role": [trace.spans[place].role for place in nearest],
            "similarity": similarity[nearest],
            "usual": usual,
        }
    )


def _steps(trace: Trace, layers: Iterable[int] | None) -> NDArray[np.float32]:
    """1 where a token chose an expert of a layer, and 0 elsewhere, [pos, layer, expert]."""
    wanted = list(range(trace.n_layers) if layers is None else layers)
    return (trace.dense_weights()[wanted] > 0).astype(np.float32).transpose(1, 0, 2)


def _in_common(some: NDArray[np.float32], others: NDArray[np.float32], trace: Trace) -> NDArray[np.float32]:
    most = some.shape[1] * trace.expert_indices.shape[2]
    return some.reshape(len(some), -1) @ others.reshape(len(others), -1).T / most


def _check_position(trace: Trace, position: int) -> None:
    if not 0 <= position < len(trace.token_ids):
        raise IndexError(f"there is no token {position}; they run from 0 to {len(trace.token_ids) - 1}")
