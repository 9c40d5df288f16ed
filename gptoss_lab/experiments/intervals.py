"""Confidence intervals, 95 % all of them."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

N_RESAMPLES = 2000
Z = 1.959964


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Of a share: Wilson's score interval, which stays within 0 and 1 (Wilson 1927). NaN where n is 0."""
    if n == 0:
        return math.nan, math.nan
    share, width = successes / n, Z**2 / n
    middle = (share + width / 2) / (1 + width)
    half = Z * math.sqrt(share * (1 - share) / n + width / (4 * n)) / (1 + width)
    return max(0.0, middle - half), min(1.0, middle + half)


def bootstrap_mean(values: Sequence[float] | NDArray, seed: int | Sequence[int]) -> tuple[float, float]:
    """Of a mean, by drawing the values anew. NaN for fewer than two."""
    values = np.asarray(values, dtype=np.float64)
    if len(values) < 2:
        return math.nan, math.nan
    draws = np.random.default_rng(seed).integers(len(values), size=(N_RESAMPLES, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)
