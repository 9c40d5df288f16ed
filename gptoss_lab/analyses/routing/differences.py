"""Where two runs route differently, by how much, and whether rounding alone could have done it."""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gptoss_lab.analyses.routing.choices import NOISE
from gptoss_lab.trace import Trace

if TYPE_CHECKING:
    import pandas as pd

Pairs = Sequence[tuple[int, int]]
"""Positions in the one trace and in the other that are held against each other."""

NOBODY = -1
"""Stands for an expert, where one left and none joined, or the other way round."""


def flips(before: Trace, after: Trace, pairs: Pairs | None = None, noise: float = NOISE) -> "pd.DataFrame":
    """The choices in which two runs differ: a row for each expert that gave way to another.

    pairs: which positions of the one are held against which of the other; where not given, those of equal number, as
    far as both traces go.

    Columns: layer; position, text (in the first trace); other_position, other_text (in the second); left and joined,
    the experts that only the first, and only the second, chose (where several did, the one that had been nearest to
    being left out is taken to have given way to the one that joined most clearly, and so on; -1 where nobody did, since
    an edit made the runs choose more or fewer); margin, other_margin: by how much the one that left was ahead in the
    first run, and the one that joined in the second, in router logits; within_noise: both are no more than `noise`, so
    that rounding alone could have done it. An expert with weight 0 counts as not chosen.

    Raises ValueError for traces of different models, and pairs that are not in them.
    """
    import pandas as pd

    one, other = _pairs(before, after, pairs)
    left, joined = _left_and_joined(before, after, one, other)
    rows = []
    for layer, number in np.argwhere((left | joined).any(axis=2)):
        here, there = before.router_logits[layer, one[number]], after.router_logits[layer, other[number]]
        for exchange in _exchanges(left[layer, number], joined[layer, number], here, there):
            rows.append((layer, one[number], other[number], *exchange))
    columns = ["layer", "position", "other_position", "left", "joined", "margin", "other_margin"]
    table = pd.DataFrame(rows, columns=columns)
    table.insert(2, "text", [before.texts[position] for position in table["position"]])
    table.insert(4, "other_text", [after.texts[position] for position in table["other_position"]])
    # What left or joined alone has no margins, and comparisons with NaN are false.
    return table.assign(within_noise=(table["margin"] <= noise) & (table["other_margin"] <= noise))


def flips_by_layer(before: Trace, after: Trace, pairs: Pairs | None = None, noise: float = NOISE) -> "pd.DataFrame":
    """How much two runs' routing differs in each layer: a row for each.

    Columns: layer; tokens (compared); changed (the share of them with another set of experts); beyond_noise (the share
    with a change that rounding could not have made); moved (the share of router weight that went to another expert, on
    average). Raises as `flips` does.
    """
    import pandas as pd

    one, _ = _pairs(before, after, pairs)
    table, moved = flips(before, after, pairs, noise), moved_weight(before, after, pairs)
    rows = []
    for layer in range(before.n_layers):
        of_layer = table[table["layer"] == layer]
        beyond = of_layer[~of_layer["within_noise"].astype(bool)]
        rows.append(
            {
                "layer": layer,
                "tokens": len(one),
                "changed": len(of_layer.drop_duplicates(["position", "other_position"])) / len(one),
                "beyond_noise": len(beyond.drop_duplicates(["position", "other_position"])) / len(one),
                "moved": moved[layer].mean(),
            }
        )
    return pd.DataFrame(rows)


def moved_weight(before: Trace, after: Trace, pairs: Pairs | None = None) -> NDArray[np.float32]:
    """The share of a token's router weight that goes to other experts in the second run, [layer, pair], 0 to 1.

    Raises as `flips` does.
    """
    one, other = _pairs(before, after, pairs)
    return np.abs(before.dense_weights()[:, one] - after.dense_weights()[:, other]).sum(axis=2) / 2


def _pairs(before: Trace, after: Trace, pairs: Pairs | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions in the one trace and in the other."""
    shapes = [(trace.n_layers, trace.n_experts) for trace in (before, after)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"the traces come from different models: layers and experts are {shapes[0]} and {shapes[1]}")
    lengths = len(before.token_ids), len(after.token_ids)
    if pairs is None:
        pairs = [(position, position) for position in range(min(lengths))]
    found = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    if len(found) == 0 or (found < 0).any() or (found >= lengths).any():
        raise ValueError(f"pairs: expected positions, in traces of {lengths[0]} and {lengths[1]} tokens; got {pairs!r}")
    return found[:, 0], found[:, 1]


def _left_and_joined(
    before: Trace, after: Trace, one: NDArray[np.int64], other: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The experts that only the first run chose, and those that only the second did, [layer, pair, expert] each."""
    chosen, chosen_later = before.dense_weights()[:, one] > 0, after.dense_weights()[:, other] > 0
    return chosen & ~chosen_later, chosen_later & ~chosen


def _exchanges(
    left: NDArray[np.bool_], joined: NDArray[np.bool_], here: NDArray[np.float32], there: NDArray[np.float32]
) -> Iterator[tuple[int, int, float, float]]:
    """Who gave way to whom in one choice, and by how much each had been ahead. All arrays are [expert]."""
    leaving, joining = np.flatnonzero(left), np.flatnonzero(joined)
    weakest_first, strongest_first = leaving[np.argsort(here[leaving])], joining[np.argsort(-there[joining])]
    for gone, come in zip_longest(weakest_first.tolist(), strongest_first.tolist(), fillvalue=NOBODY):
        if NOBODY in (gone, come):
            yield gone, come, np.nan, np.nan
        else:
            yield gone, come, here[gone] - here[come], there[come] - there[gone]
