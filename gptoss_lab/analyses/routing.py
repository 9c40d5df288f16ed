"""Expert routing: how much of which text each expert served.

Axes: layer, expert and pos count from 0; pos from the start of the prompt. A token's *weight* for an expert is what the
router gave it, a softmax over the chosen k, so that a token has weight 1 to give away in each layer.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gptoss_lab.trace import Trace

if TYPE_CHECKING:
    import pandas as pd

Mask = NDArray[np.bool_]
UNNAMED = "(none)"


def expert_load(trace: Trace, by: str = "channel", where: Mask | None = None) -> "pd.DataFrame":
    """Tokens and router weight that each expert served, for each kind of text.

    `by` is "channel", "role", "section" or "speaker" (see `labels`); `where` [pos] says which tokens count, by default
    the reply's content.

    Returns a row for every label, layer and expert, idle experts included. Columns: the label, under the name of `by`;
    layer; expert; tokens, how many chose the expert; weight, what they gave it, summed; share = tokens / the label's
    tokens (over the experts it sums to k); weight_share = weight / the label's tokens (it sums to 1).
    """
    import pandas as pd

    where = reply(trace) & content(trace) if where is None else _checked(trace, where)
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
    where = _checked(trace, where)
    shape = trace.n_layers, trace.n_experts
    chosen = trace.expert_indices[:, where]
    cell = np.arange(trace.n_layers)[:, None, None] * trace.n_experts + chosen
    weight = np.bincount(cell.ravel(), trace.topk_weights[:, where].ravel(), minlength=shape[0] * shape[1])
    tokens = np.bincount(cell.ravel(), minlength=shape[0] * shape[1])
    return weight.reshape(shape).astype(np.float64), tokens.reshape(shape).astype(np.int64)


def labels(trace: Trace, by: str) -> NDArray[np.object_]:
    """What kind of text each token belongs to, [pos] of str; "(none)" where harmony gives it none.

    `by` is "channel", "role" or "section", as in the token's span, or "speaker": of what the assistant says its
    message's channel, of all else the role. So a reply's header goes with the channel that it opens.
    """
    if by == "speaker":
        return _speakers(trace)
    if by not in ("channel", "role", "section"):
        raise ValueError(f'by={by!r}: expected "channel", "role", "section" or "speaker"')
    return np.array([getattr(span, by) or UNNAMED for span in trace.spans], dtype=object)


def content(trace: Trace) -> Mask:
    """Tokens of message contents, [pos]: no headers, no control tokens."""
    return labels(trace, "section") == "content"


def reply(trace: Trace) -> Mask:
    """Tokens after the prompt, [pos]."""
    return np.arange(len(trace.token_ids)) >= trace.n_prompt


def _speakers(trace: Trace) -> NDArray[np.object_]:
    own = {span.message: span.channel for span in trace.spans if span.channel and span.role == "assistant"}
    return np.array([own.get(span.message) or span.role or UNNAMED for span in trace.spans], dtype=object)


def _checked(trace: Trace, where: Mask) -> Mask:
    where = np.asarray(where)
    if where.dtype != bool or where.shape != (len(trace.token_ids),):
        raise ValueError(
            f"where: expected {len(trace.token_ids)} booleans, one a token; found {where.dtype} of shape {where.shape}"
        )
    return where
