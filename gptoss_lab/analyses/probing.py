"""Linear probes: can what a text is labelled with be read off the residual stream?

A probe that finds something says that it is there to be found, not that the model uses it. Two things guard against
finding what is not there: accuracy is told on tokens that the probe was not fitted on, of other texts where groups are
given; and the same is done with the labels shuffled, which shows what chance and many dimensions can do.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from gptoss_lab.trace import Trace

Stretch = tuple[int, int, bool]
"""A labelled span of tokens: start, stop, and whether it has what is sought."""


@dataclass(frozen=True, eq=False)
class Probe:
    """A direction in the residual stream, and how well it tells. `probe(states)` gives probabilities."""

    weights: NDArray[np.float64]  # [d_model]
    bias: float
    point: str
    """The hook point whose states it reads; empty where that was not said."""
    accuracy: float
    """Held out, balanced: the mean of the accuracies on tokens with the label and on those without."""
    low: float
    high: float
    """A 95 % interval of it, by drawing groups anew (tokens, where there are none)."""
    shuffled: float
    """Its mean with shuffled labels: a half, if nothing but chance was at work."""
    shuffled_high: float
    """What 95 in 100 of those stay below."""
    n: int
    """Tokens."""

    def __call__(self, states: NDArray) -> NDArray[np.float64]:
        """Probabilities [...] of states [..., d_model]."""
        return 1 / (1 + np.exp(-np.clip(np.asarray(states, dtype=np.float64) @ self.weights + self.bias, -50, 50)))

    def __str__(self) -> str:
        beside = "no better than" if self.accuracy <= self.shuffled_high else "against"
        return (
            f"balanced accuracy {self.accuracy:.1%} ({self.low:.1%} to {self.high:.1%}) on {self.n} held-out tokens, "
            f"{beside} {self.shuffled:.1%} (at most {self.shuffled_high:.1%}) with shuffled labels"
        )


def labelled(trace: Trace, point: str, stretches: Sequence[Stretch]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The states [token, d_model] of labelled spans, and the label of each [token].

    Raises ValueError for a point that was not recorded, and for spans that the trace does not have.
    """
    if trace.residual is None or point not in trace.residual_points:
        raise ValueError(f'{point!r} was not recorded: trace with record=("residual",) and name one of its points')
    n = len(trace.token_ids)
    if wrong := [stretch for stretch in stretches if not 0 <= stretch[0] < stretch[1] <= n]:
        raise ValueError(f"a labelled span is (start, stop, label) within the trace's {n} tokens; got {wrong[0]}")
    residual = trace.residual[trace.residual_points.index(point)]
    states = [residual[start:stop] for start, stop, _ in stretches]
    labels = [np.full(stop - start, bool(label)) for start, stop, label in stretches]
    return np.concatenate(states).astype(np.float64), np.concatenate(labels)


def fit_probe(
    states: NDArray,
    labels: NDArray,
    groups: Sequence[object] | NDArray | None = None,
    *,
    point: str = "",
    folds: int = 5,
    penalty: float = 1.0,
    n_shuffles: int = 20,
    seed: int = 0,
) -> Probe:
    """A logistic regression from states to a yes or no, with held-out accuracy and a control.

    states: [token, d_model]. labels: [token], true or false. groups: [token], such as the reply that each comes from:
        tokens of one group are never on both sides. penalty: of the squared weights, states having unit variance.

    Raises ValueError for arrays that do not fit together, and where one of the labels, or a second group, is lacking.
    """
    x, y = np.asarray(states, dtype=np.float64), np.asarray(labels).astype(bool)
    own = np.arange(len(y)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if x.ndim != 2 or len({len(x), len(y), len(own)}) > 1:
        raise ValueError(f"states are [token, d_model], a label and a group each; got {x.shape}, {len(y)}, {len(own)}")
    if y.all() or not y.any():
        raise ValueError(f"all of the {len(y)} labels are {bool(y.any())}: a probe needs both")
    if own.max(initial=0) == 0:
        raise ValueError("all tokens are of one group: there is nothing to hold out")
    rng = np.random.default_rng(seed)
    fold_of = rng.permutation(np.arange(own.max() + 1) % max(2, min(folds, int(own.max()) + 1)))[own]
    right = _held_out(x, y, fold_of, penalty)
    control = []
    for _ in range(n_shuffles):
        shuffled = rng.permutation(y)
        control.append(_balanced(_held_out(x, shuffled, fold_of, penalty), shuffled))
    low, high = _interval(right, y, own, rng)
    weights, bias = _fit(x, y, penalty)
    known = [value for value in control if not math.isnan(value)]
    return Probe(
        weights=weights,
        bias=bias,
        point=point,
        accuracy=_balanced(right, y),
        low=low,
        high=high,
        shuffled=float(np.mean(known)) if known else math.nan,
        shuffled_high=float(np.quantile(known, 0.95)) if known else math.nan,
        n=len(y),
    )


def _held_out(x: NDArray, y: NDArray[np.bool_], fold_of: NDArray, penalty: float) -> NDArray[np.bool_]:
    """Whether each token is told rightly by a probe that was fitted without its fold, [token]."""
    right = np.zeros(len(y), dtype=bool)
    for train, test in _folds(fold_of):
        if y[train].all() or not y[train].any():
            right[test] = y[test] == y[train][0]
        else:
            weights, bias = _fit(x[train], y[train], penalty)
            right[test] = (x[test] @ weights + bias > 0) == y[test]
    return right


def _folds(fold_of: NDArray) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    for fold in np.unique(fold_of):
        yield fold_of != fold, fold_of == fold


def _fit(x: NDArray, y: NDArray[np.bool_], penalty: float) -> tuple[NDArray[np.float64], float]:
    """Weights and bias for states as they are; each label counts as much as the other."""
    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    inputs, wanted = torch.from_numpy((x - mean) / scale), torch.from_numpy(y.astype(np.float64))
    counts = torch.where(wanted > 0, 0.5 / wanted.sum(), 0.5 / (1 - wanted).sum())
    weights = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, bias], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        fit = functional.binary_cross_entropy_with_logits(inputs @ weights + bias, wanted, counts, reduction="sum")
        value = fit + penalty / (2 * len(y)) * weights.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    found = weights.detach().numpy() / scale
    return found, float(bias.detach()) - float(mean @ found)


def _balanced(right: NDArray[np.bool_], y: NDArray[np.bool_]) -> float:
    return float((right[y].mean() + right[~y].mean()) / 2) if y.any() and not y.all() else math.nan


def _interval(
    right: NDArray[np.bool_], y: NDArray[np.bool_], own: NDArray, rng: np.random.Generator, n: int = 1000
) -> tuple[float, float]:
    """A 95 % bootstrap interval of the balanced accuracy, by groups."""
    names = np.arange(own.max() + 1)
    members = [np.flatnonzero(own == name) for name in names]
    draws = []
    for _ in range(n):
        chosen = np.concatenate([members[name] for name in rng.choice(names, len(names))])
        draws.append(_balanced(right[chosen], y[chosen]))
    known = [value for value in draws if not math.isnan(value)]
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)
