"""What the comparing view sends to a browser: both runs, and where they route differently."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gptoss_lab.analyses import routing
from gptoss_lab.views.compared import Compared
from gptoss_lab.views.plain_text import quoted
from gptoss_lab.views.quantities import Quantity
from gptoss_lab.views.routing_map import choices
from gptoss_lab.views.strip_data import as_bytes, colours, conversation

MOST_FLIPS = 60_000
"""So many are sent, those with the largest margins: a page should stay below 5 MB."""
NOT_COMPARED = "not compared"


def compare_data(runs: Compared) -> dict[str, Any]:
    """The first run's conversation and choices, and of the second, unless `sameText`, the same.

    Arrays are bytes (little endian, C order): secondOf int32 [pos], positions in the second run, -1 where there is
    none; secondLogprobs float32 [pos of first]. `flips` is a table, a column an array: layer, position, left, joined
    int32 (-1: nobody), margin, otherMargin float32, noise uint8.
    """
    first, second = runs.first, runs.second
    second_of = np.full(len(first.texts), -1)
    second_of[runs.pairs[:, 0]] = runs.pairs[:, 1]
    logprobs = np.full(len(first.texts), np.nan)
    logprobs[runs.pairs[:, 0]] = second.logprobs[runs.pairs[:, 1]]
    table = flips(runs)
    return {
        **conversation(first),
        **choices(first),
        "quantities": colours(quantities(runs, table)),
        "names": [quoted(name) if name.strip() == "" else name for name in runs.names],
        "secondOf": as_bytes(second_of, "<i4"),
        "secondLogprobs": as_bytes(logprobs, "<f4"),
        "secondChoices": choices(second) | {"nTokens": len(second.texts)},
        "second": None if runs.same_text else conversation(second),
        "flips": _sent(table),
    }


def flips(runs: Compared) -> pd.DataFrame:
    """Every expert that gave way to another (see `analyses.routing.flips`)."""
    return routing.flips(runs.first, runs.second, [(int(one), int(other)) for one, other in runs.pairs])


def quantities(runs: Compared, table: pd.DataFrame) -> list[Quantity]:
    """What the tokens can be coloured by."""
    return [_flipped(runs, table), _moved(runs), *([] if runs.kl is None else [_expected(runs.kl)])]


def _flipped(runs: Compared, table: pd.DataFrame) -> Quantity:
    real = table[~table["within_noise"].astype(bool)].drop_duplicates(["layer", "position"])
    layers = np.full(len(runs.first.texts), np.nan)
    layers[runs.pairs[:, 0]] = 0
    np.add.at(layers, real["position"].to_numpy(dtype=np.int64), 1)
    most = max(1, int(np.nanmax(layers)))
    return Quantity(
        name="flips",
        title="layers that choose other experts",
        aid=f"In how many of the {runs.first.n_layers} layers the two runs send a token to different experts, where "
        "rounding alone could not have done it.",
        unit=f"of {runs.first.n_layers}",
        faint=0.0,
        full=float(most),
        faint_words="none",
        full_words=f"{most} layer{'' if most == 1 else 's'}",
        layered=False,
        together="",
        values=layers,
        unknown=NOT_COMPARED,
    )


def _moved(runs: Compared) -> Quantity:
    moved = routing.moved_weight(runs.first, runs.second, [(int(one), int(other)) for one, other in runs.pairs])
    values = _by_position(runs, np.concatenate((moved, moved.mean(axis=0, keepdims=True))))
    return Quantity(
        name="moved",
        title="router weight that moved",
        aid="How much of a token's router weight goes to other experts in the other run.",
        unit="of the weight",
        faint=0.0,
        full=1.0,
        faint_words="0: none",
        full_words="1: all of it",
        layered=True,
        together="mean over all layers",
        values=values,
        unknown=NOT_COMPARED,
    )


def _expected(kl: NDArray[np.float32]) -> Quantity:
    return Quantity(
        name="kl",
        title="change of expectation",
        aid="How far what the model expects at each place moves, KL(first || second), from the tokens before it.",
        unit="nats",
        faint=0.0,
        full=1.0,
        faint_words="0 nats: as before",
        full_words="1 nat or more",
        layered=False,
        together="",
        values=kl,
        unknown=NOT_COMPARED,
    )


def _by_position(runs: Compared, of_pairs: NDArray[np.floating]) -> NDArray[np.floating]:
    """From [..., pair] to [..., pos of first]; NaN where there is no pair."""
    values = np.full((*of_pairs.shape[:-1], len(runs.first.texts)), np.nan)
    values[..., runs.pairs[:, 0]] = of_pairs
    return values


def _sent(table: pd.DataFrame) -> dict[str, Any]:
    margin = table[["margin", "other_margin"]].max(axis=1).fillna(np.inf)
    kept = table.loc[margin.sort_values(ascending=False, kind="stable").index[:MOST_FLIPS]]
    types = {
        "layer": ("layer", "<i4"),
        "position": ("position", "<i4"),
        "left": ("left", "<i4"),
        "joined": ("joined", "<i4"),
        "margin": ("margin", "<f4"),
        "otherMargin": ("other_margin", "<f4"),
        "noise": ("within_noise", "u1"),
    }
    return {name: as_bytes(kept[column].to_numpy(), dtype) for name, (column, dtype) in types.items()} | {
        "total": len(table)
    }
