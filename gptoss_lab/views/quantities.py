"""Quantities that tokens can be coloured by: their values, and the words that say what a colour means."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gptoss_lab.analyses import routing
from gptoss_lab.trace import Trace

SURPRISED = np.log(1000)
"""Nats from which a token counts as wholly unexpected: the model gave it one chance in a thousand, or less."""


class Quantity(NamedTuple):
    """One number a token, or one a layer and token: then `values` has a last row more, for all layers together.

    The colour is faint at `faint` and full at `full`, beyond them as at them; either may be the larger.
    """

    name: str
    title: str
    """In a sentence: "tokens by ..."."""
    aid: str
    unit: str
    faint: float
    full: float
    faint_words: str
    full_words: str
    layered: bool
    together: str
    """What the last row is, of a layered quantity: "mean over all layers"."""
    values: NDArray[np.floating]
    """[pos], or [layer + 1, pos]; NaN where unknown."""
    unknown: str = "not known"


def quantities(trace: Trace) -> list[Quantity]:
    """What this trace's tokens can be coloured by, beside channel and weight for an expert."""
    return [surprisal(trace.logprobs), _entropy(trace), _margin(trace)]


def surprisal(logprobs: NDArray[np.float32]) -> Quantity:
    """Of tokens whose log-probabilities [pos] are given."""
    return Quantity(
        name="surprisal",
        title="surprisal",
        aid="How unexpected each token was: the negative logarithm of its probability after those before it.",
        unit="nats",
        faint=0.0,
        full=float(SURPRISED),
        faint_words="0 nats: certain",
        full_words="6.9 nats or more: one chance in 1,000, or less",
        layered=False,
        together="",
        values=-logprobs,
    )


def _entropy(trace: Trace) -> Quantity:
    values = routing.weight_entropy(trace)
    k = trace.expert_indices.shape[2]
    return Quantity(
        name="entropy",
        title="routing entropy",
        aid=f"How evenly the router shares a token out between the {k} experts that it chose.",
        unit="nats",
        faint=0.0,
        full=float(np.log(k)) or 1.0,
        faint_words="0 nats: one expert does it all",
        full_words=f"{np.log(k):.2f} nats: all {k} have the same weight",
        layered=True,
        together="mean over all layers",
        values=np.concatenate((values, values.mean(axis=0, keepdims=True))),
    )


def _margin(trace: Trace) -> Quantity:
    values = trace.margins()
    finite = values[np.isfinite(values)]
    clear = float(np.quantile(finite, 0.9)) if len(finite) else 1.0
    return Quantity(
        name="margin",
        title="router margin",
        aid="By how much the last chosen expert beat the first that was not, in router logits: close calls stand out.",
        unit="logits",
        faint=clear or 1.0,
        full=0.0,
        faint_words=f"{clear:.2g} logits or more: clear",
        full_words="0: a close call",
        layered=True,
        together="least of all layers",
        values=np.concatenate((values, values.min(axis=0, keepdims=True))),
    )
