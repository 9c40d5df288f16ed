"""Which tokens a direction of the residual stream makes likelier: of an expert's output, or of one of its units.

A direction is read as the end of the model would read it: the final norm's gain, then the unembedding. What later
layers make of it is left out, so this tells most of the last layers. Geva et al., "Transformer Feed-Forward Layers
Build Predictions by Promoting Concepts in the Vocabulary Space" (arXiv 2203.14680).
"""

from typing import TYPE_CHECKING

import numpy as np
import tiktoken
import torch
from numpy.typing import ArrayLike, NDArray

from gptoss_lab import mxfp4
from gptoss_lab.mxfp4 import Mxfp4
from gptoss_lab.tokenizer import token_text
from gptoss_lab.trace import Trace
from gptoss_lab.weights import Weights

if TYPE_CHECKING:
    import pandas as pd

_ROWS = 8192  # of the unembedding that are widened together: a large vocabulary's whole would take 2.3 GB


def promoted(
    weights: Weights, directions: ArrayLike, n: int = 10, encoding: tiktoken.Encoding | None = None
) -> "pd.DataFrame":
    """The tokens that each direction raises most, and those that it lowers most: n rows of each kind.

    directions: [d_model] or [direction, d_model]. encoding: for the tokens' texts, "" without it.

    Columns: direction (its number), order (0 is the token raised most; -1 the one lowered most), token, text, score: by
    how much the token's logit would rise above the mean of all, were the direction added to a residual stream whose
    root mean square is 1. Raises ValueError for directions of another width.
    """
    import pandas as pd

    scores = _scores(weights, np.atleast_2d(np.asarray(directions, dtype=np.float32)))
    n = min(n, scores.shape[1] // 2)
    order = np.concatenate((np.arange(n), np.arange(-n, 0)))
    rows = []
    for number, of_direction in enumerate(scores):
        tokens = np.argsort(-of_direction, kind="stable")[order]
        rows.append(
            pd.DataFrame(
                {
                    "direction": number,
                    "order": order,
                    "token": tokens,
                    "text": [token_text(encoding, int(token)) if encoding else "" for token in tokens],
                    "score": of_direction[tokens],
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


def promoted_by_expert(
    trace: Trace,
    weights: Weights,
    layer: int,
    expert: int,
    n: int = 10,
    encoding: tiktoken.Encoding | None = None,
    where: NDArray[np.bool_] | None = None,
) -> "pd.DataFrame":
    """The tokens that an expert made likelier, and less likely, by its mean output over the tokens that it served.

    trace: with record=("experts",). where: [pos], which tokens count; all of them where not given.

    Columns as in `promoted`, with tokens (how many it served) instead of direction. The output is taken before the
    router weighs it. Without a row where the expert served no token. Raises ValueError where the layer's experts were
    not recorded, and as `promoted` does.
    """
    if trace.expert_out is None or layer not in trace.expert_out_layers:
        raise ValueError(f'the experts of layer {layer} were not recorded: trace or chat with record=("experts",)')
    served = (trace.expert_indices[layer] == expert) & (trace.topk_weights[layer] > 0)
    if where is not None:
        served &= np.asarray(where)[:, None]
    shares = trace.expert_out[trace.expert_out_layers.index(layer)][served]
    outputs = shares / trace.topk_weights[layer][served][:, None]
    mean = outputs.mean(axis=0) if len(outputs) else np.zeros(trace.expert_out.shape[3])
    table = promoted(weights, mean, n, encoding).drop(columns="direction")
    table.insert(0, "tokens", len(outputs))
    return table if len(outputs) else table.iloc[:0]


def unit_directions(weights: Weights, layer: int, expert: int) -> NDArray[np.float32]:
    """What each hidden unit of an expert writes, [d_mlp, d_model]: the columns of its output matrix, unpacked."""
    down = weights.layers[layer].down
    matrix = mxfp4.decode(down[expert]) if isinstance(down, Mxfp4) else down[expert]
    return matrix.detach().float().cpu().numpy().T


def _scores(weights: Weights, directions: NDArray[np.float32]) -> NDArray[np.float32]:
    """By how much each direction raises each token's logit above the mean, [direction, d_vocab]."""
    if directions.ndim != 2 or directions.shape[1] != len(weights.final_norm):
        raise ValueError(f"directions: expected [direction, {len(weights.final_norm)}], found shape {directions.shape}")
    read = torch.from_numpy(directions).to(weights.final_norm.device) * weights.final_norm
    parts = [read @ rows.detach().float().mT for rows in weights.unembedding.split(_ROWS)]
    scores = torch.cat(parts, dim=1).detach()
    return (scores - scores.mean(dim=1, keepdim=True)).cpu().numpy()
