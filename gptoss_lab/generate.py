"""Generating: one token after another from a model that knows nothing of text."""

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gptoss_lab.cache import KVCache
from gptoss_lab.model import Stopped, Tokens, Transformer, never


@dataclass(frozen=True)
class Sampled:
    """A generated token: its id and its log-probability (natural, before temperature and top-p)."""

    token: int
    logprob: float
    alternatives: tuple[tuple[int, float], ...] = ()
    """The likeliest tokens at that place with their log-probabilities, likeliest first, where asked for."""
    entropy: float = math.nan
    """Of the model's expectation at that place, in nats, where alternatives are asked for."""


@dataclass
class Generation:
    """What was generated, and why it ended: "stop" (a stop token, which is included), "length" (max_new_tokens),
    "context" (the model's context is full) or "interrupted" (should_stop said so)."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    alternatives: list[tuple[tuple[int, float], ...]] = field(default_factory=list)
    finish: str = "length"


class Generator:
    """Generates from a prompt; an iterator of `Sampled`, and afterwards a `Generation`.

    model: any `Transformer`; its active hooks see, and may change, every step.
    tokens: the prompt, ids of one sequence.
    temperature: 0 takes the most probable token; top_p keeps the smallest set of tokens that has this much probability.
    seed: the same seed gives the same tokens. drawn: how many tokens were drawn with it before: what goes on after an
        interrupt is then what would have come without.
    stop: ids that end the generation.
    cache: what went before the prompt (empty where not given); it is left holding all but the last token.
    n_alternatives: how many of the likeliest tokens to report with each.
    should_stop: asked between tokens, and between the layers of a long prompt; may be called from this thread only.

    Raises ValueError for a temperature below 0, a top_p outside (0, 1], max_new_tokens below 1, and what `Transformer`
    raises for tokens.
    """

    def __init__(
        self,
        model: Transformer,
        tokens: Tokens,
        max_new_tokens: int,
        *,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int | None = None,
        drawn: int = 0,
        stop: Collection[int] | None = None,
        cache: KVCache | None = None,
        n_alternatives: int = 0,
        should_stop: Callable[[], bool] = never,
    ):
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1; got {max_new_tokens}")
        self._draw = Sampler(temperature, top_p, seed, n_alternatives, drawn)
        self._model = model
        self._prompt = tokens
        self._max_new_tokens = max_new_tokens
        self._stop = frozenset(stop or ())
        self._cache = model.new_cache() if cache is None else cache
        self._should_stop = should_stop
        self.result = Generation()

    def __iter__(self) -> Iterator[Sampled]:
        tokens: Tokens = self._prompt
        while True:
            try:
                logits = self._model(tokens, self._cache, last_only=True, should_stop=self._should_stop)
            except Stopped:
                self.result.finish = "interrupted"
                return
            sampled = self._draw(logits)
            self.result.tokens.append(sampled.token)
            self.result.logprobs.append(sampled.logprob)
            self.result.alternatives.append(sampled.alternatives)
            finish = self._finish(sampled.token)
            if finish:
                self.result.finish = finish
            yield sampled
            if finish:
                return
            tokens = [sampled.token]

    def run_last(self) -> None:
        """Runs the last token too, which was sampled but not run: for hooks that want to see all of them."""
        if self.result.tokens and self._cache.length < self._model.config.n_ctx:
            self._model(self.result.tokens[-1:], self._cache, last_only=True)

    def _finish(self, token: int) -> str | None:
        if token in self._stop:
            return "stop"
        if len(self.result.tokens) >= self._max_new_tokens:
            return "length"
        if self._cache.length >= self._model.config.n_ctx:
            return "context"
        return None


class Sampler:
    """Draws a token from logits."""

    def __init__(
        self,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int | None = None,
        n_alternatives: int = 0,
        drawn: int = 0,
    ):
        if not temperature >= 0:
            raise ValueError(f"temperature must be 0 or more; got {temperature}")
        if not 0 < top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1; got {top_p}")
        self._temperature, self._top_p, self._n_alternatives = temperature, top_p, n_alternatives
        self._random = np.random.default_rng(seed)
        if temperature > 0:
            self._random.random(drawn)  # a number a token

    def __call__(self, logits: Tensor) -> Sampled:
        """logits: [1, 1, d_vocab]."""
        # numpy: a large vocabulary would wake torch's thread pool, which then competes with the kernels' for a while.
        values = logits.numpy(force=True).reshape(-1).astype(np.float64)
        values -= values.max()
        weights = np.exp(values)
        total = float(weights.sum())
        log_total = math.log(total)
        token = int(values.argmax()) if self._temperature == 0 else self._sample(values, weights)
        logprob = float(values[token]) - log_total
        if not self._n_alternatives:
            return Sampled(token, logprob)
        np.maximum(values, _IMPOSSIBLE, out=values)  # 0 times minus infinity is 0 here
        entropy = log_total - float(weights.dot(values)) / total
        return Sampled(token, logprob, _take_likeliest(values, self._n_alternatives, log_total), entropy)

    def _sample(self, values: NDArray[np.float64], weights: NDArray[np.float64]) -> int:
        """values: of which the largest is 0. weights: their exponentials."""
        if self._temperature != 1:
            weights = np.exp(values / self._temperature)
        if self._top_p == 1:
            return _index_at(weights, self._random.random())
        order = np.argsort(-weights, kind="stable")
        mass = np.cumsum(weights[order])
        kept = order[: int(np.searchsorted(mass, self._top_p * mass[-1])) + 1]
        return int(kept[_index_at(weights[kept], self._random.random())])


_IMPOSSIBLE = -1e9
"""A log-probability at which, and below, a token is impossible."""


def likeliest(logprobs: NDArray[np.float64], n: int) -> tuple[tuple[int, float], ...]:
    """The n likeliest tokens with their log-probabilities, likeliest first; fewer where no more are possible.

    logprobs: [d_vocab].
    """
    return _take_likeliest(np.array(logprobs), n)


def entropy_of(logprobs: NDArray[np.float64]) -> float:
    """In nats. logprobs: [d_vocab]."""
    return -float(np.exp(logprobs).dot(np.maximum(logprobs, _IMPOSSIBLE)))


def _take_likeliest(values: NDArray[np.float64], n: int, less: float = 0.0) -> tuple[tuple[int, float], ...]:
    """The n largest values less so much, the largest first. They are no longer there then."""
    # One after another: for the few that anybody looks at, that is several times faster than to sort or to partition.
    found = []
    for _ in range(min(n, len(values))):
        token = int(values.argmax())
        value = values.item(token)
        if value <= _IMPOSSIBLE:
            break
        found.append((token, value - less))
        values[token] = -math.inf
    return tuple(found)


def _index_at(probabilities: NDArray[np.float64], u: float) -> int:
    """Which entry the point u in [0, 1) of the (unnormalised) cumulative distribution falls into."""
    mass = np.cumsum(probabilities)
    return int(np.searchsorted(mass, u * mass[-1], side="right"))
