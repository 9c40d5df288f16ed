"""Attention: where each head looks, and what it leaves to its sink.

In gpt-oss every head has a sink, a learned logit that joins the softmax and takes its mass to nowhere. So what a token
gives to other tokens sums to 1 less the sink; nothing here is scaled up again to hide that. Layers with an even number
see a window of the last tokens (128 of them in the published models), layers with an odd number see them all.

A trace has attention where it was recorded with record=("attention",), of all layers and heads or of some. Axes: layer
and head as recorded (their numbers stand in `trace.attention_layers` and `trace.attention_heads`); pos, the token that
looks; k_pos, the one looked at.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from gptoss_lab.trace import Trace

if TYPE_CHECKING:
    import pandas as pd

Mask = NDArray[np.bool_]

SINK = -1
"""Stands for the sink, where a position or a distance is meant."""

ELSEWHERE = -2
"""Stands for the tokens of no stretch."""

PARKED = 0.5
"""A head that gives its sink more than this is said to be parked there."""


class Stretch(Protocol):
    """Tokens from `start` to before `stop`: a range, or a segment of a thought."""

    @property
    def start(self) -> int: ...

    @property
    def stop(self) -> int: ...


def with_sink(trace: Trace, layer: int, head: int) -> NDArray[np.float32]:
    """One head's pattern with the sink as the last column, [pos, k_pos + 1]: rows sum to 1.

    Raises ValueError where that head was not recorded.
    """
    patterns, sinks = recorded(trace)
    if layer not in trace.attention_layers or head not in trace.attention_heads:
        raise ValueError(
            f"head {head} of layer {layer} was not recorded; there are layers {list(trace.attention_layers)} and heads "
            f"{list(trace.attention_heads)}"
        )
    place = trace.attention_layers.index(layer), trace.attention_heads.index(head)
    return np.concatenate((patterns[place], sinks[place][:, None]), axis=1)


def head_scores(trace: Trace, where: Mask | None = None) -> "pd.DataFrame":
    """What each head is for, by where it looks: a row for each, with means over tokens.

    where: [pos], the tokens that look; all of them where not given.

    Columns: layer, head, sees ("window" or "all");
    itself, previous_token, first_token: how much a token gives to itself, to the one before it, to the first of all
        (tokens that have no such place are left out);
    duplicate: to earlier tokens of the same id; induction: to the tokens that follow those (both over tokens that
        occurred before). A head with much of the latter continues "A B ... A" with "B": Olsson et al., "In-context
        Learning and Induction Heads" (arXiv 2209.11895);
    sink: to the sink; parked: the share of tokens that give the sink more than half. A head that is parked at some
        tokens and not at others waits for something.

    NaN where no token has such a place.
    """
    import pandas as pd

    where = checked(trace, where)
    targets = {name: target & where[:, None] for name, target in _targets(trace).items()}
    rows = []
    for layer, head, pattern, sink in heads(trace):
        scores = {name: _mean_mass(pattern, target) for name, target in targets.items()}
        rows.append(
            {
                "layer": layer,
                "head": head,
                "sees": sees(layer),
                **scores,
                "sink": sink[where].mean(),
                "parked": (sink[where] > PARKED).mean(),
            }
        )
    return pd.DataFrame(rows)


def distance_profile(trace: Trace, where: Mask | None = None) -> NDArray[np.float64]:
    """How much a token gives, on average, to the one that stands so far before it, [layer, head, distance].

    where: [pos], the tokens that look; all of them where not given. Distance 0 is the token itself. The mean is over
    the tokens that have one so far before them; NaN where there is none.
    """
    where = checked(trace, where)
    n_looking = where[::-1].cumsum()[::-1]  # tokens of `where` that have one so far before them, [distance]
    mass = _mass_by_distance(trace, where)
    return np.divide(mass, n_looking, out=np.full(mass.shape, np.nan), where=n_looking > 0)


def distances(trace: Trace, where: Mask | None = None) -> "pd.DataFrame":
    """What share of its attention each head gives to which distance: a row for each head and band of distances.

    where: [pos], the tokens that look; all of them where not given.

    Columns: layer, head, sees ("window" or "all"), nearest and farthest (the band: 0, 1, 2 to 3, 4 to 7, ..., each
    twice as wide as the one before; both -1 for the sink), weight. A head's weights, the sink's included, sum to 1.
    """
    import pandas as pd

    where = checked(trace, where)
    mass = _mass_by_distance(trace, where) / where.sum()
    nearest = np.array([0, *(2**power for power in range((len(where) - 1).bit_length()))])
    bands = np.add.reduceat(mass, nearest, axis=2)  # [layer, head, band]
    farthest = np.maximum(2 * nearest - 1, nearest)
    rows = []
    for (layer, head, _, sink), weights in zip(heads(trace), bands.reshape(-1, len(nearest)), strict=True):
        whose = {"layer": layer, "head": head, "sees": sees(layer)}
        rows += [
            {**whose, "nearest": near, "farthest": far, "weight": weight}
            for near, far, weight in zip(nearest, farthest, weights, strict=True)
        ]
        rows.append({**whose, "nearest": SINK, "farthest": SINK, "weight": sink[where].mean()})
    return pd.DataFrame(rows)


def to_stretches(trace: Trace, stretches: Sequence[Stretch], where: Mask | None = None) -> "pd.DataFrame":
    """How much attention goes to each of several stretches of text: from an answer to the steps of its thought, say.

    stretches: anything with start and stop, in positions, that does not overlap.
    where: [pos], the tokens that look; all of them where not given.

    Returns a row for each head and stretch, and two more for each head: stretch -1, the sink, and -2, all other tokens.
    Columns: layer, head, sees, stretch (its place among those given), start, stop, text, weight (what a token of
    `where` gives to the whole stretch, on average; a head's weights sum to 1), per_token (weight / tokens in the
    stretch).

    Raises ValueError for stretches that overlap or lie outside the trace.
    """
    import pandas as pd

    where = checked(trace, where)
    inside = _members(trace, stretches)
    sizes = inside.sum(axis=0)
    names = ["".join(trace.texts[each.start : each.stop]) for each in stretches]
    places = [(number, each.start, each.stop) for number, each in enumerate(stretches)]
    rows = []
    for layer, head, pattern, sink in heads(trace):
        weights = pattern[where].mean(axis=0) @ inside
        elsewhere = pattern[where].sum(axis=1).mean() - weights.sum()
        whose = {"layer": layer, "head": head, "sees": sees(layer)}
        rows += [
            {
                **whose,
                "stretch": number,
                "start": start,
                "stop": stop,
                "text": text,
                "weight": weight,
                "per_token": each,
            }
            for (number, start, stop), text, weight, each in zip(places, names, weights, weights / sizes, strict=True)
        ]
        rest = {"start": -1, "stop": -1, "per_token": np.nan}
        rows.append({**whose, "stretch": SINK, "text": "(sink)", "weight": sink[where].mean(), **rest})
        rows.append({**whose, "stretch": ELSEWHERE, "text": "(elsewhere)", "weight": elsewhere, **rest})
    return pd.DataFrame(rows)


def heads(trace: Trace) -> Iterator[tuple[int, int, NDArray[np.float32], NDArray[np.float32]]]:
    """Every recorded head: its layer, its number, its pattern [pos, k_pos] and its sink [pos]."""
    patterns, sinks = recorded(trace)
    for layer, of_layer, of_layers_sinks in zip(trace.attention_layers, patterns, sinks, strict=True):
        for head, pattern, sink in zip(trace.attention_heads, of_layer, of_layers_sinks, strict=True):
            yield layer, head, pattern, sink


def recorded(trace: Trace) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Patterns [layer, head, pos, k_pos] and sinks [layer, head, pos]. Raises ValueError where there are none."""
    if trace.patterns is None or trace.sinks is None:
        raise ValueError('this trace has no attention: trace or chat with record=("attention",)')
    return trace.patterns, trace.sinks


def sees(layer: int) -> str:
    """What a layer's heads see: "window" or "all"."""
    return "all" if layer % 2 else "window"


def checked(trace: Trace, where: Mask | None) -> Mask:
    """A mask over tokens, all of them where not given. Raises ValueError for another shape, or where none is chosen."""
    n = len(trace.token_ids)
    where = np.ones(n, dtype=np.bool_) if where is None else np.asarray(where)
    if where.dtype != bool or where.shape != (n,) or not where.any():
        raise ValueError(f"where: expected {n} booleans, one a token, at least one of them true")
    return where


def _targets(trace: Trace) -> dict[str, Mask]:
    """Which tokens each token may be said to look at, by the name of the score, [pos, k_pos]."""
    ids, positions = trace.token_ids, np.arange(len(trace.token_ids))
    earlier = positions[:, None] > positions
    duplicate = (ids[:, None] == ids) & earlier
    after_duplicate = np.zeros_like(duplicate)
    after_duplicate[:, 1:] = duplicate[:, :-1]
    return {
        "itself": positions[:, None] == positions,
        "previous_token": positions[:, None] == positions + 1,
        "first_token": (positions == 0) & earlier,
        "duplicate": duplicate,
        "induction": after_duplicate,
    }


def _mean_mass(pattern: NDArray[np.float32], target: Mask) -> float:
    """What tokens give to their targets, over the tokens that have any."""
    has_target = target.any(axis=1)
    return float((pattern * target).sum(axis=1)[has_target].mean()) if has_target.any() else np.nan


def _mass_by_distance(trace: Trace, where: Mask) -> NDArray[np.float64]:
    """What the tokens of `where` give, in all, to those that stand so far before them, [layer, head, distance]."""
    patterns, _ = recorded(trace)
    given = [
        patterns.diagonal(-distance, axis1=2, axis2=3)[:, :, where[distance:]].sum(axis=2, dtype=np.float64)
        for distance in range(len(where))
    ]
    return np.stack(given, axis=2)


def _members(trace: Trace, stretches: Sequence[Stretch]) -> NDArray[np.float64]:
    """Which tokens belong to which stretch, 1 or 0, [pos, stretch]."""
    n = len(trace.token_ids)
    inside = np.zeros((n, len(stretches)), dtype=np.float64)
    for number, stretch in enumerate(stretches):
        if not 0 <= stretch.start < stretch.stop <= n:
            raise ValueError(f"a stretch from {stretch.start} to {stretch.stop} is none of these {n} tokens")
        inside[stretch.start : stretch.stop, number] = 1
    if (inside.sum(axis=1) > 1).any():
        raise ValueError("stretches overlap: give such as share no token")
    return inside
