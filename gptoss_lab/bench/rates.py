"""How fast a model decodes, reads prompts, and does so while it is watched."""

import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import torch

from gptoss_lab.cache import KVCache
from gptoss_lab.model import Transformer
from gptoss_lab.recording import Recorder, record_of

CONTEXT = 16  # tokens that stand before the decoded ones


def prompt(model: Transformer, n_tokens: int, seed: int = 0) -> torch.Tensor:
    """Random ids, [1, n_tokens]: the cost does not depend on the values."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(model.config.d_vocab, (1, n_tokens), generator=generator)


def without_unembedding(model: Transformer) -> Transformer:
    """The same layers with an unembedding of one row, so that nothing but them takes time."""
    weights = replace(model.weights, unembedding=model.weights.unembedding[:1].clone())
    return Transformer(model.config, weights, model.engine, model.device)


def decode_seconds(model: Transformer, steps: int) -> float:
    """Median seconds of a token, one after the other."""
    cache = _begun(model)
    return median(_step_seconds(model, cache, steps))


def prefill_seconds(model: Transformer, n_tokens: int) -> float:
    """Seconds from a prompt to the logits after it."""
    return _seconds(lambda: model(prompt(model, n_tokens), last_only=True))


def recorded_ratios(model: Transformer, kinds: tuple[str, ...], pairs: int, steps: int = 4) -> list[float]:
    """For each of `pairs` turns, how fast decoding goes while these kinds are recorded; 1 is as fast as unwatched.

    Which of the two goes first changes from turn to turn.
    """
    record = record_of(kinds, model.config)

    def watched() -> float:
        cache = _begun(model)
        with model.hooks(Recorder(record, model.config, model.unembed).fwd_hooks):
            return sum(_step_seconds(model, cache, steps))

    def unwatched() -> float:
        return sum(_step_seconds(model, _begun(model), steps))

    ratios = []
    for pair in range(pairs):
        runs: list[Callable[[], float]] = [watched, unwatched]
        seconds = {run: run() for run in (runs if pair % 2 else runs[::-1])}
        ratios.append(seconds[unwatched] / seconds[watched])
    return ratios


def _begun(model: Transformer) -> KVCache:
    cache = model.new_cache()
    model(prompt(model, CONTEXT), cache, last_only=True)
    return cache


def _step_seconds(model: Transformer, cache: KVCache, steps: int) -> list[float]:
    tokens = prompt(model, steps, seed=1)
    return [_seconds(lambda n=n: model(tokens[:, n : n + 1], cache, last_only=True)) for n in range(steps)]  # type: ignore[misc]


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started
