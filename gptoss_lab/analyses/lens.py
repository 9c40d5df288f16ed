"""The logit lens: what the model would say next, were its residual stream to go straight to the end from here or there.

A trace has it where it was recorded with record=("lens",). Read from the first point to the last, it shows when an
answer forms. Early points need not mean anything: the final norm and the unembedding were trained for the last point
alone, and what stands there earlier may be written in another way.

Axes: point counts the places in the residual stream, in the order in which they are passed, the last one the model's
own end; pos from the start of the prompt. Method: nostalgebraist, "interpreting GPT: the logit lens" (2020).
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gptoss_lab.trace import Trace

if TYPE_CHECKING:
    import pandas as pd

Mask = NDArray[np.bool_]

PLACES = {
    "hook_resid_pre": "before layer",
    "hook_resid_mid": "after attention of layer",
    "hook_resid_post": "after layer",
}
"""What the names of residual points mean, before the layer's number."""


def readings(trace: Trace) -> "pd.DataFrame":
    """How sure the model would be at each point, and how near to what it says in the end: a row for each point, token.

    Columns: position, text (of the token that was read last), point (its number), place (in words), entropy (nats),
    next_text (the token that really came next, "" where unknown), rank (how many tokens were likelier than that one; -1
    where unknown), logprob (of that one), kl (from the model's own expectations, nats), guess (the likeliest token's
    text), guess_logprob.
    """
    import pandas as pd

    n_points, n = lens_array(trace, "lens_entropy").shape
    point, position = (axis.ravel() for axis in np.indices((n_points, n)))
    texts = np.array([*trace.texts, ""], dtype=object)
    columns: dict[str, Any] = {
        "position": position,
        "text": texts[position],
        "point": point,
        "place": np.array(places(trace), dtype=object)[point],
        "entropy": lens_array(trace, "lens_entropy").ravel(),
        "next_text": texts[position + 1],
        "rank": lens_array(trace, "lens_rank").ravel(),
        "logprob": lens_array(trace, "lens_logprob").ravel(),
        "kl": lens_array(trace, "lens_kl").ravel(),
        "guess": guess_texts(trace, lens_array(trace, "lens_tokens")[..., 0]).ravel(),
        "guess_logprob": lens_array(trace, "lens_logprobs")[..., 0].ravel(),
    }
    return pd.DataFrame(columns)


def guesses(trace: Trace) -> "pd.DataFrame":
    """The likeliest tokens at each point: a row for each point, token and choice, likeliest first.

    Columns: position, text (of the token that was read last), point, place, choice, guess (the likeliest token's id),
    guess_text, logprob, probability.
    """
    import pandas as pd

    tokens, logprobs = lens_array(trace, "lens_tokens"), lens_array(trace, "lens_logprobs")
    point, position, choice = (axis.ravel() for axis in np.indices(tokens.shape))
    return pd.DataFrame(
        {
            "position": position,
            "text": np.array(trace.texts, dtype=object)[position],
            "point": point,
            "place": np.array(places(trace), dtype=object)[point],
            "choice": choice,
            "guess": tokens.ravel(),
            "guess_text": guess_texts(trace, tokens).ravel(),
            "logprob": logprobs.ravel(),
            "probability": np.exp(logprobs.ravel()),
        }
    )


def by_point(trace: Trace, where: Mask | None = None) -> "pd.DataFrame":
    """What the points are like over many tokens: a row for each.

    where: [pos], the tokens after which the model is asked; all of them where not given.

    Columns: point, place, entropy and kl (means, nats), agrees (share of tokens after which the likeliest token is
    already the one that is likeliest in the end), right (share of tokens after which the likeliest is the one that
    really came), rank (the median, of the token that really came), logprob (its mean). The last three count the tokens
    whose successor is known. Raises ValueError where no token is chosen.
    """
    import pandas as pd

    where = np.ones(len(trace.token_ids), dtype=np.bool_) if where is None else np.asarray(where)
    if where.dtype != bool or where.shape != trace.token_ids.shape or not where.any():
        raise ValueError(f"where: expected {len(trace.token_ids)} booleans, one a token, at least one of them true")
    tops = lens_array(trace, "lens_tokens")[..., 0]
    known = where & (lens_array(trace, "lens_rank")[-1] >= 0)
    rank, logprob = lens_array(trace, "lens_rank")[:, known], lens_array(trace, "lens_logprob")[:, known]
    any_known = bool(known.any())
    return pd.DataFrame(
        {
            "point": np.arange(len(trace.lens_points)),
            "place": places(trace),
            "entropy": lens_array(trace, "lens_entropy")[:, where].mean(axis=1),
            "kl": lens_array(trace, "lens_kl")[:, where].mean(axis=1),
            "agrees": (tops == tops[-1])[:, where].mean(axis=1),
            "right": (rank == 0).mean(axis=1) if any_known else np.nan,
            "rank": np.median(rank, axis=1) if any_known else np.nan,
            "logprob": logprob.mean(axis=1) if any_known else np.nan,
        }
    )


def settled_at(trace: Trace) -> NDArray[np.int64]:
    """From which point on the likeliest token is the one that is likeliest in the end, and stays so, [pos]."""
    tops = lens_array(trace, "lens_tokens")[..., 0]
    differs = tops != tops[-1]
    last_other = len(tops) - 1 - differs[::-1].argmax(axis=0)
    return np.where(differs.any(axis=0), last_other + 1, 0)


def places(trace: Trace) -> list[str]:
    """The points' names in words: "before layer 0", "after attention of layer 0", "after layer 0", ..."""
    named = []
    for point in trace.lens_points:
        _, layer, name = point.split(".", maxsplit=2)
        named.append(f"{PLACES[name]} {layer}")
    return named


def guess_texts(trace: Trace, tokens: NDArray[np.int64]) -> NDArray[np.object_]:
    """The texts of tokens that the lens found, in an array of the same shape."""
    known, index = np.unique(tokens, return_inverse=True)
    texts = np.array([trace.lens_texts[int(token)] for token in known], dtype=object)
    return texts[index.reshape(tokens.shape)]


def lens_array(trace: Trace, name: str) -> NDArray:
    """One of the trace's lens arrays. Raises ValueError where no lens was recorded."""
    found: NDArray | None = getattr(trace, name)
    if found is None:
        raise ValueError('this trace has no logit lens: trace or chat with record=("lens",)')
    return found
