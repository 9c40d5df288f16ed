"""What is known about a planted model, and the patterns that attention must show."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import tiktoken
from numpy.typing import NDArray

from gptoss_lab.config import ModelConfig
from gptoss_lab.planted.heads import Head
from gptoss_lab.weights import Weights

Truth = TypeVar("Truth", covariant=True)

Looks = Callable[[NDArray[np.int64]], NDArray[np.bool_]]
"""Of tokens [pos]: at which tokens each token looks, bool [q_pos, k_pos], windows aside."""


@dataclass(frozen=True, eq=False)
class Planted(Generic[Truth]):
    """A model whose mechanism is known, and what is known about it."""

    config: ModelConfig
    weights: Weights
    encoding: tiktoken.Encoding
    truth: Truth


def attention(config: ModelConfig, heads: Mapping[Head, Looks], tokens: Sequence[int]) -> NDArray[np.float32]:
    """The pattern that every head must show, [layer, head, q_pos, k_pos]; what a row lacks to 1 is the sink's.

    A planted head looks at its tokens in equal shares, or where it sees none rests on its sink. Any other is blank: all
    that it may see, and its sink, have the same share.
    """
    ids, positions = np.asarray(tokens, dtype=np.int64), np.arange(len(tokens))
    behind = positions[:, None] - positions  # [q_pos, k_pos]
    pattern = np.zeros((config.n_layers, config.n_heads, len(ids), len(ids)), dtype=np.float32)
    for layer in range(config.n_layers):
        visible = (behind >= 0) & (behind < (config.window(layer) or np.inf))
        for head in range(config.n_heads):
            if (layer, head) in heads:
                seen = visible & heads[layer, head](ids)
                pattern[layer, head] = seen / np.maximum(seen.sum(axis=1, keepdims=True), 1)
            else:
                pattern[layer, head] = visible / (visible.sum(axis=1, keepdims=True) + 1)
    return pattern


def tokens_before(distance: int) -> Looks:
    """Each token looks at the one that stands `distance` before it."""
    return lambda tokens: np.eye(len(tokens), k=-distance, dtype=np.bool_)


def tokens_like(sought: int) -> Looks:
    """Every token looks at all tokens of that id."""
    return lambda tokens: np.broadcast_to(tokens == sought, (len(tokens), len(tokens)))


def tokens_after(sought: int) -> Looks:
    """Every token looks at all tokens that follow one of that id."""
    return lambda tokens: np.broadcast_to(_previous(tokens) == sought, (len(tokens), len(tokens)))


def tokens_after_one_like_this(tokens: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Each token looks at all tokens that follow one of its own id."""
    return _previous(tokens)[None, :] == tokens[:, None]


def claimed(candidates: set[int], config: ModelConfig) -> set[int]:
    """What may come next, where a head carries equal shares of `candidates` to the answer: the one, or if none, all.

    Empty where there are several, of which nothing is claimed: the sum of two code words may be near a third.
    """
    if not candidates:
        return set(range(config.d_vocab))
    return candidates if len(candidates) == 1 else set()


def _previous(tokens: NDArray[np.int64]) -> NDArray[np.int64]:
    """The token before each; -1 before the first."""
    return np.concatenate(([-1], tokens[:-1]))
