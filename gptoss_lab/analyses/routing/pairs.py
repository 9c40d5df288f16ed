"""Which experts serve the same tokens, and whether they do so more often than their popularity explains.

A token chooses k different experts. So even experts that have nothing to do with each other meet less often than the
product of their shares says: of 8 equally popular ones, two at a time, a pair meets in 1 of 28 tokens, not 1 of 16.
Independence means here: k experts are drawn with the popularity that they have, and nothing else (the distribution of
largest entropy, "conditional Bernoulli": Chen, Dempster and Liu, Biometrika 81, 1994).
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gptoss_lab.analyses.routing.kinds import Mask, checked
from gptoss_lab.trace import Trace

if TYPE_CHECKING:
    import pandas as pd

_SURE = 1e-9  # popularities so near to 0 or 1 are taken for that


def coactivation(trace: Trace, where: Mask | None = None) -> "pd.DataFrame":
    """How often two experts of a layer serve the same token: a row for each layer and pair.

    where: [pos], which tokens count; by default the reply's content.

    Columns: layer, expert, other (the larger number), tokens (that chose both), expected (how many would, were the two
    independent), lift (tokens / expected; NaN where one of them served none). Raises ValueError where no token counts.
    """
    import pandas as pd

    counts = pair_counts(trace, where)
    expected = expected_counts(trace, where)
    expert, other = np.triu_indices(trace.n_experts, k=1)
    layer = np.repeat(np.arange(trace.n_layers), len(expert))
    expert, other = np.tile(expert, trace.n_layers), np.tile(other, trace.n_layers)
    tokens, by_chance = counts[layer, expert, other], expected[layer, expert, other]
    lift = np.divide(tokens, by_chance, out=np.full(len(tokens), np.nan), where=by_chance > 0)
    return pd.DataFrame(
        {"layer": layer, "expert": expert, "other": other, "tokens": tokens, "expected": by_chance, "lift": lift}
    )


def pair_counts(trace: Trace, where: Mask | None = None) -> NDArray[np.int64]:
    """How many tokens chose both of two experts, [layer, expert, expert]; on the diagonal, how many chose the one."""
    chosen = _choices(trace, where)
    return np.stack([one.T @ one for one in chosen]).round().astype(np.int64)


def expected_counts(trace: Trace, where: Mask | None = None) -> NDArray[np.float64]:
    """What `pair_counts` would be, were experts independent but for their popularity, [layer, expert, expert]."""
    return np.stack([_expected(of_layer) for of_layer in _choices(trace, where)])


def meeting_chances(popularity: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """How probable it is that two experts serve the same token, where k are drawn by popularity alone.

    popularity: [expert], the share of tokens that each serves; it sums to k. Returns [expert, expert], on the diagonal
    the popularity itself.
    """
    meeting = np.outer(popularity, popularity)  # so it is where one of the two serves all tokens, or none
    doubtful = np.flatnonzero((popularity > _SURE) & (popularity < 1 - _SURE))
    k -= int((popularity >= 1 - _SURE).sum())
    if len(doubtful):
        wanted = popularity[doubtful]
        meeting[np.ix_(doubtful, doubtful)] = _meeting(_odds(wanted, k), k)
    np.fill_diagonal(meeting, popularity)
    return meeting


def _choices(trace: Trace, where: Mask | None) -> NDArray[np.float64]:
    """1 where a token chose an expert, and 0 elsewhere, [layer, token, expert]."""
    where = checked(trace, where)
    if not where.any():
        raise ValueError("no token counts: say which with where=, for by default only the reply's content does")
    return (trace.dense_weights()[:, where] > 0).astype(np.float64)


def _expected(chosen: NDArray[np.float64]) -> NDArray[np.float64]:
    """Expected counts of one layer, [expert, expert]. chosen: [token, expert].

    Tokens that chose different numbers of experts, as edits can make them, are counted apart.
    """
    sizes = chosen.sum(axis=1).astype(int)
    alike = [(size, chosen[sizes == size]) for size in np.unique(sizes)]
    return np.sum([len(some) * meeting_chances(some.mean(axis=0), int(size)) for size, some in alike], axis=0)


def _odds(popularity: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """The odds with which k experts must be drawn to have this popularity, [expert], by Newton's method."""
    log_odds = np.log(popularity / (1 - popularity))
    doubt = popularity * (1 - popularity)
    missing = popularity - _inclusion(np.exp(log_odds), k)
    for _ in range(100):
        if np.abs(missing / doubt).max() < 1e-10:
            break
        found = popularity - missing
        covariance = _meeting(np.exp(log_odds), k) - np.outer(found, found)
        np.fill_diagonal(covariance, found * (1 - found))
        # All odds times the same change nothing; a constant in that direction makes the matrix invertible.
        step = np.linalg.solve(covariance + doubt.mean(), missing).clip(-5, 5)
        for _ in range(30):  # a step too far is halved
            still_missing = popularity - _inclusion(np.exp(log_odds + step), k)
            if np.abs(still_missing / doubt).max() < np.abs(missing / doubt).max():
                break
            step /= 2
        log_odds, missing = log_odds + step, still_missing
    return np.exp(log_odds)


def _meeting(odds: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """How probable each two experts are to be among k that are drawn with these odds, [expert, expert]."""
    others = odds * (1 - np.eye(len(odds)))  # [expert, expert]: those that are left once this one has been drawn
    return _inclusion(odds, k)[:, None] * _inclusion(others, k - 1)


def _inclusion(odds: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """How probable each expert is to be among k that are drawn with these odds; over the last axis.

    A set's probability is the product of its odds over the sum of all such products, the elementary symmetric
    polynomial of degree k. Those that leave one expert out are put together from what comes before it and after it.
    """
    n = odds.shape[-1]
    if k == 0:
        return np.zeros_like(odds)
    before = _symmetric_sums(odds, k)
    after = _symmetric_sums(odds[..., ::-1], k)[::-1]
    without = sum(before[:n, ..., degree] * after[1:, ..., k - 1 - degree] for degree in range(k))
    total = before[n, ..., k]
    return odds * np.moveaxis(np.asarray(without), 0, -1) / np.where(total > 0, total, 1)[..., None]


def _symmetric_sums(odds: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Elementary symmetric polynomials of the first 0, 1, ..., n odds, [n + 1, ..., degree up to k]."""
    sums = np.zeros((odds.shape[-1] + 1, *odds.shape[:-1], k + 1))
    sums[0, ..., 0] = 1
    for number in range(odds.shape[-1]):
        sums[number + 1] = sums[number]
        sums[number + 1, ..., 1:] += odds[..., number, None] * sums[number, ..., :-1]
    return sums
