"""What the lens view draws of a trace: the guesses at each point, small enough for a browser."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gptoss_lab.analyses import lens
from gptoss_lab.trace import Trace
from gptoss_lab.views.plain_text import quoted
from gptoss_lab.views.strip_data import as_bytes, conversation

GUESS_BYTES = 4_750_000
"""For all guesses and what is known of them; fewer guesses a place are sent where that is too little."""

FARTHEST_RANK = 65535


def lens_data(trace: Trace) -> dict[str, Any]:
    """The conversation, and what the model would say after each token, at each point.

    `points` are their short names, `places` their names in words, `isLayerEnd` which of them stand between layers.
    Arrays are bytes (see `strip_data`): guesses uint16 (uint32 above 65,536 texts) numbers in `texts`, and
    probabilities uint16 [pos, point, choice]; entropies uint16 [pos, point], 65,535 standing for `mostEntropy` nats;
    ranks uint16 [pos, point], how many tokens were likelier than the one that came next, at most `farthestRank`.
    Probabilities are 65,535 times the share. What came next is known where `hasNext` [pos] is 1.
    """
    tokens = _by_position(lens.lens_array(trace, "lens_tokens"))
    entropies = _by_position(lens.lens_array(trace, "lens_entropy"))
    ranks = _by_position(lens.lens_array(trace, "lens_rank"))
    n_guesses = tokens.shape[2]
    while True:
        texts, numbers = _texts(trace, tokens[..., :n_guesses])
        wide = len(texts) > 65536
        n_bytes = numbers.size * (6 if wide else 4) + entropies.size * 4 + sum(len(text) + 4 for text in texts)
        if n_guesses == 1 or n_bytes <= GUESS_BYTES:
            break
        n_guesses -= 1
    probabilities = np.exp(_by_position(lens.lens_array(trace, "lens_logprobs"))[..., :n_guesses])
    most_entropy = float(entropies.max(initial=1e-6))
    return {
        **conversation(trace),
        "alternatives": None,  # the last point has them
        "points": [_short(name) for name in trace.lens_points],
        "places": lens.places(trace),
        "isLayerEnd": [not name.endswith("hook_resid_mid") for name in trace.lens_points],
        "nGuesses": n_guesses,
        "texts": texts,
        "guesses": as_bytes(numbers, "<u4" if wide else "<u2"),
        "probabilities": as_bytes(np.rint(65535 * np.clip(probabilities, 0, 1)), "<u2"),
        "mostEntropy": most_entropy,
        "entropies": as_bytes(np.rint(65535 * np.clip(entropies / most_entropy, 0, 1)), "<u2"),
        "farthestRank": FARTHEST_RANK,
        "ranks": as_bytes(np.clip(ranks, 0, FARTHEST_RANK), "<u2"),
        "hasNext": as_bytes(ranks[:, 0] >= 0, "u1"),
        "next": [*map(quoted, trace.texts[1:]), quoted(_after_last(trace))],
    }


def _by_position(values: NDArray) -> NDArray:
    """[point, pos, ...] as [pos, point, ...]: a row of the picture is a position."""
    return np.swapaxes(values, 0, 1)


def _texts(trace: Trace, tokens: NDArray[np.int64]) -> tuple[list[str], NDArray[np.int64]]:
    """Every guess's text once, and the number of each guess's."""
    known, numbers = np.unique(tokens, return_inverse=True)
    return [quoted(trace.lens_texts[int(token)]) for token in known], numbers.reshape(tokens.shape)


def _after_last(trace: Trace) -> str:
    """The text of the token that came after the last one, where it can be told: it is then among the last guesses."""
    rank = int(lens.lens_array(trace, "lens_rank")[-1, -1])
    tokens = lens.lens_array(trace, "lens_tokens")[-1, -1]
    return trace.lens_texts[int(tokens[rank])] if 0 <= rank < len(tokens) else ""


def _short(point: str) -> str:
    """A point's name at the head of a column."""
    _, layer, name = point.split(".", maxsplit=2)
    return {"hook_resid_pre": "start", "hook_resid_mid": f"{layer} attn"}.get(name, f"layer {layer}")
