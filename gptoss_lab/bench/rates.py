"""How fast a model decodes, reads prompts, and does so while it is watched."""

import time
from collections.abc import Callable
from dataclasses import replace
from statistics import mean

import torch

from gptoss_lab.cache import KVCache, Pass
from gptoss_lab.model import Transformer
from gptoss_lab.recording import Recorder, record_of

CONTEXT = 16  # tokens that stand before the decoded ones


def prompt(model: Transformer, n_tokens: int, seed: int = 0) -> torch.Tensor:
    """Random ids, [1, n_tokens]: the cost does not depend on the values."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(model.config.d_vocab, (1, n_tokens), generator=generator)


def context(model: Transformer, n_tokens: int = CONTEXT) -> KVCache:
    """A cache that holds random keys and values, as if so many tokens had been read."""
    c = model.config
    cache = model.new_cache()
    generator = torch.Generator().manual_seed(0)
    keys, values = torch.randn(2, 1, n_tokens, c.n_kv_heads, c.d_head, generator=generator)
    with Pass([cache], n_tokens) as filling:
        filling.note(prompt(model, n_tokens))
        for layer in range(c.n_layers):
            filling.extend(layer, keys, values)
    return cache


def without_unembedding(model: Transformer) -> Transformer:
    """The same layers with an unembedding of one row, so that nothing but them takes time."""
    weights = replace(model.weights, unembedding=model.weights.unembedding[:1].clone())
    return Transformer(model.config, weights, model.engine, model.device, model.precision, model.dense)


def decode_seconds(model: Transformer, steps: int, depth: int = CONTEXT) -> float:
    """Mean seconds of a token, one after the other, with `depth` tokens before the first."""
    cache, tokens = context(model, depth), prompt(model, steps, seed=1)
    return _seconds(lambda: [model(tokens[:, n : n + 1], cache, last_only=True) for n in range(steps)]) / steps


def together_seconds(model: Transformer, n_sequences: int, steps: int, depth: int) -> float:
    """Mean seconds until each of several continuations of one prefix of `depth` tokens has one token more."""
    shared = context(model, depth)
    caches = [shared.fork() for _ in range(n_sequences)]
    tokens = prompt(model, n_sequences * steps, seed=1).unflatten(1, (n_sequences, steps))[0]
    return _seconds(lambda: [model(tokens[:, n : n + 1], caches, last_only=True) for n in range(steps)]) / steps


def experts_touched(model: Transformer, n_sequences: int) -> float:
    """How many distinct experts of a layer so many unrelated tokens choose, on average over the layers."""
    tokens = prompt(model, n_sequences, seed=1)
    _, seen = model.run_with_cache(tokens, "blocks.*.mlp.hook_expert_indices")
    return mean(len(chosen.unique()) for chosen in seen.values())


def prefill_seconds(model: Transformer, n_tokens: int) -> float:
    """Seconds from a prompt to the logits after it."""
    return _seconds(lambda: model(prompt(model, n_tokens), last_only=True))


def recorded_ratios(model: Transformer, kinds: tuple[str, ...], pairs: int, steps: int = 8) -> list[float]:
    """For each of `pairs` turns, how fast decoding goes while these kinds are recorded; 1 is as fast as unwatched.

    Which of the two goes first changes from turn to turn.
    """
    record = record_of(kinds, model.config)

    def watched() -> float:
        with model.hooks(Recorder(record, model.config, model.unembed).fwd_hooks):
            return decode_seconds(model, steps)

    def unwatched() -> float:
        return decode_seconds(model, steps)

    ratios = []
    for pair in range(pairs):
        runs: list[Callable[[], float]] = [watched, unwatched]
        seconds = {run: run() for run in (runs if pair % 2 else runs[::-1])}
        ratios.append(seconds[unwatched] / seconds[watched])
    return ratios


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started
