"""What an expert's choice tells of the text, in bits: mutual information, beside what chance alone would give.

Of a little text, even experts chosen by lot seem to know something: with many experts and few tokens every label has
its favourites. So the labels are exchanged at random, many times, and what the experts then seem to know is taken off.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gptoss_lab.analyses.routing.kinds import Mask, checked, labels
from gptoss_lab.trace import Trace

if TYPE_CHECKING:
    import pandas as pd

BLOCKS = 50
"""How many parts are left out in turn, to see how much the figures depend on the text that was taken."""


@dataclass(frozen=True)
class Pool:
    """The tokens of many traces, one after the other, as `mutual_information` takes them."""

    experts: NDArray[np.int64]  # [layer, pos, rank]
    labels: NDArray[np.object_]  # [pos]
    tokens: NDArray[np.int64]  # [pos], their ids
    documents: NDArray[np.int64]  # [pos], which trace each comes from


def pool(
    traces: Sequence[Trace], by: str = "channel", where: Callable[[Trace], Mask | None] = lambda trace: None
) -> Pool:
    """Tokens of several traces of one model. `by` as in `labels`.

    where: of a trace, which tokens count, [pos]; by default the reply's content. Raises ValueError for no traces.
    """
    if not traces:
        raise ValueError("there are no traces: give at least one")
    masks = [checked(trace, where(trace)) for trace in traces]
    chosen = list(zip(traces, masks, strict=True))
    return Pool(
        experts=np.concatenate([trace.expert_indices[:, mask] for trace, mask in chosen], axis=1),
        labels=np.concatenate([labels(trace, by)[mask] for trace, mask in chosen]),
        tokens=np.concatenate([trace.token_ids[mask] for trace, mask in chosen]),
        documents=np.repeat(np.arange(len(traces)), [int(mask.sum()) for mask in masks]),
    )


def mutual_information(
    experts: ArrayLike,
    labels: ArrayLike,
    *,
    given: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    permutations: int = 200,
    seed: int = 0,
) -> "pd.DataFrame":
    """How much an expert's number tells of a token's label, in bits: a row for each layer.

    experts: [layer, pos, rank], or [layer, pos] of each token's first. Where a token chose several, the question is
        what one of them, drawn at random, tells.
    labels: [pos], anything that can be compared: channels, roles, classes, subjects.
    given: [pos], such as token ids. The question is then what the expert tells beyond these (conditional mutual
        information): what it knows of the label that the token itself does not say.
    groups: [pos], such as the number of each token's document. Neighbours are alike, and a document's many tokens are
        no independent witnesses; so labels are exchanged in whole pieces, all tokens of a document that have the same
        label (and the same `given`) together, and intervals come from leaving documents out. Where not given, tokens
        count as independent, which makes everything look surer than it is.
    permutations: how often labels are exchanged; given the seed, always in the same ways.

    Columns, in bits: layer; information, as counted; control, the same with labels exchanged, on average, and
    control_high, which 95 of 100 exchanges stay below; corrected = information - control, and low and high, a 95 %
    interval around it (jackknife over at most 50 parts); entropy, of the label (given `given`): the most that there is
    to know. And p, the share of exchanges, the real labels counted among them, that told as much.

    The correction takes off a little too much where experts really know much, for exchanged labels leave more to
    chance than real ones do. Raises ValueError for arrays that do not fit together, and fewer than two groups.
    """
    import pandas as pd

    counted = _Counted.of(experts, labels, given, groups)
    random = np.random.default_rng(seed)
    information = counted.information(counted.labels)
    control = np.stack([counted.information(counted.exchanged(random)) for _ in range(permutations)])
    corrected = information - control.mean(axis=0)
    half = 1.96 * counted.standard_error()
    return pd.DataFrame(
        {
            "layer": np.arange(len(information)),
            "information": information,
            "control": control.mean(axis=0),
            "control_high": np.quantile(control, 0.95, axis=0),
            "corrected": corrected,
            "low": corrected - half,
            "high": corrected + half,
            "p": (1 + (control >= information).sum(axis=0)) / (1 + permutations),
            "entropy": counted.entropy(),
        }
    )


@dataclass(frozen=True)
class _Counted:
    """Everything as small numbers, ready to be counted. Tokens that are all there is of their `given` stay in."""

    experts: NDArray[np.int64]  # [layer, pos, rank]
    labels: NDArray[np.int64]  # [pos]
    strata: NDArray[np.int64]  # [pos], tokens of the same `given`
    blocks: NDArray[np.int64]  # [pos], what is left out together
    pieces: NDArray[np.int64]  # [pos], what is exchanged together

    @classmethod
    def of(cls, experts: ArrayLike, labels: ArrayLike, given: ArrayLike | None, groups: ArrayLike | None) -> "_Counted":
        chosen = np.asarray(experts)
        chosen = chosen[..., None] if chosen.ndim == 2 else chosen
        if chosen.ndim != 3 or chosen.shape[1] == 0 or chosen.dtype.kind not in "iu":
            raise ValueError(f"experts: expected integers [layer, pos, rank], found {chosen.dtype} of {chosen.shape}")
        n = chosen.shape[1]
        label = _numbered("labels", labels, n)
        stratum = np.zeros(n, dtype=np.int64) if given is None else _numbered("given", given, n)
        if groups is None:
            return cls(chosen, label, stratum, blocks=np.arange(n) * min(BLOCKS, n) // n, pieces=np.arange(n))
        group = _numbered("groups", groups, n)
        if group.max() < 1:
            raise ValueError("groups: there is only one, and nothing to hold it against; give several or none")
        _, piece = np.unique(np.stack((stratum, group, label)), axis=1, return_inverse=True)
        return cls(chosen, label, stratum, blocks=group % BLOCKS, pieces=piece.reshape(-1))

    def information(self, labels: NDArray[np.int64], kept: Any = slice(None)) -> NDArray[np.float64]:
        """The mutual information of experts and `labels` [pos], within strata, in bits, [layer]; of some tokens."""
        strata, labels, experts = self.strata[kept], labels[kept], self.experts[:, kept]
        n_strata, n_labels, n_experts = strata.max() + 1, labels.max() + 1, self.experts.max() + 1
        cell = (strata * n_labels + labels)[:, None] * n_experts
        found = []
        for of_layer in experts:
            joint = np.bincount((cell + of_layer).ravel(), minlength=n_strata * n_labels * n_experts)
            joint = joint.reshape(n_strata, n_labels, n_experts)
            by_label, by_expert = joint.sum(axis=2), joint.sum(axis=1)
            bits = _n_log_n(joint) - _n_log_n(by_label) - _n_log_n(by_expert) + _n_log_n(by_label.sum(axis=1))
            found.append(bits / of_layer.size)
        return np.maximum(np.array(found), 0)

    def exchanged(self, random: np.random.Generator) -> NDArray[np.int64]:
        """The labels after an exchange of whole pieces within each stratum, [pos]."""
        _, first = np.unique(self.pieces, return_index=True)
        labels, strata = self.labels[first], self.strata[first]
        given_to = np.argsort(strata, kind="stable")
        given_by = np.lexsort((random.random(len(strata)), strata))
        new = np.empty_like(labels)
        new[given_to] = labels[given_by]
        return new[self.pieces]

    def standard_error(self) -> NDArray[np.float64]:
        """Of the information, [layer]: how much it changes when parts of the text are left out (jackknife)."""
        present = np.unique(self.blocks)
        if len(present) < 2:
            return np.full(len(self.experts), np.nan)
        without = np.stack([self.information(self.labels, self.blocks != block) for block in present])
        return np.sqrt((len(present) - 1) * without.var(axis=0))

    def entropy(self) -> float:
        """Of the labels within strata, in bits."""
        joint = np.bincount(self.strata * (self.labels.max() + 1) + self.labels)
        return float((_n_log_n(np.bincount(self.strata)) - _n_log_n(joint)) / len(self.labels))


def _numbered(name: str, values: ArrayLike, n: int) -> NDArray[np.int64]:
    """Values as numbers from 0, [pos]."""
    array = np.asarray(values)
    if array.shape != (n,):
        raise ValueError(f"{name}: expected {n} values, one a token; found shape {array.shape}")
    return np.unique(array, return_inverse=True)[1].reshape(-1)


def _n_log_n(counts: NDArray[np.int64]) -> float:
    """The sum of n log2 n."""
    counts = counts[counts > 0]
    return float((counts * np.log2(counts)).sum())
