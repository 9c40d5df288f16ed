"""Sampling and generating."""

import numpy as np
import pytest
import torch
from small import SMALL

from gptoss_lab import weights as weights_module
from gptoss_lab.generate import Generator, Sampler, entropy_of, likeliest
from gptoss_lab.model import Transformer
from gptoss_lab.ops import ENGINES


@pytest.fixture(scope="module", params=ENGINES)
def model(request: pytest.FixtureRequest) -> Transformer:
    return Transformer(SMALL, weights_module.random(SMALL, seed=5), request.param)


def run(model: Transformer, n: int = 20, **options) -> Generator:
    generator = Generator(model, [5, 6, 7], n, **options)
    assert [sampled.token for sampled in generator] == generator.result.tokens
    return generator


def test_a_seed_gives_the_same_tokens_and_another_seed_others(model: Transformer) -> None:
    first, again, other = (run(model, seed=seed).result for seed in (1, 1, 2))
    assert first == again
    assert first.tokens != other.tokens


def test_greedy_takes_the_largest_logit_and_reports_its_logprob(model: Transformer) -> None:
    result = run(model, temperature=0).result
    logits = model([5, 6, 7, *result.tokens])[0, 2:-1]
    assert result.tokens == logits.argmax(dim=-1).tolist()
    expected = logits.log_softmax(dim=-1).max(dim=-1).values
    np.testing.assert_allclose(result.logprobs, expected, atol=1e-4)


def test_a_stop_token_ends_the_generation_and_is_included(model: Transformer) -> None:
    tokens = run(model, temperature=0).result.tokens
    stop = tokens[4]
    stopped = run(model, temperature=0, stop={stop}).result
    assert stopped.tokens == tokens[: tokens.index(stop) + 1]
    assert stopped.finish == "stop"
    assert run(model, 3).result.finish == "length"


def test_the_context_ends_a_generation() -> None:
    from dataclasses import replace

    config = replace(SMALL, n_ctx=10)
    result = run(Transformer(config, weights_module.random(config)), 100).result
    assert result.finish == "context"
    assert len(result.tokens) == 8  # seven fill the context; the eighth was read from the last position


def test_stopping_keeps_what_there_is_and_the_cache_usable(model: Transformer) -> None:
    cache = model.new_cache()
    generator = Generator(model, [5, 6, 7], 50, temperature=0, cache=cache, should_stop=lambda: cache.length >= 8)
    tokens = [sampled.token for sampled in generator]
    assert generator.result.finish == "interrupted"
    assert 0 < len(tokens) < 50
    rest = run_on(model, tokens[-1:], cache)
    assert tokens + rest == run(model, len(tokens) + 5, temperature=0).result.tokens


def run_on(model: Transformer, tokens: list[int], cache) -> list[int]:
    return [sampled.token for sampled in Generator(model, tokens, 5, temperature=0, cache=cache)]


def test_sampled_frequencies_are_the_probabilities() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, -torch.inf])
    for temperature in (0.5, 1.0, 2.0):
        sampler = Sampler(temperature, seed=0)
        counts = np.bincount([sampler(logits).token for _ in range(4000)], minlength=4)
        expected = (logits / temperature).softmax(dim=0).numpy()
        np.testing.assert_allclose(counts / 4000, expected, atol=0.03)
        assert counts[3] == 0


def test_alternatives_and_entropy_are_those_of_the_softmax() -> None:
    logits = torch.tensor([0.0, 1.0, -torch.inf, 2.0, 2.0, -3.0])
    logprobs = logits.double().log_softmax(dim=0)
    possible = logprobs[logprobs > -torch.inf]
    for sampled in (Sampler(1.0, seed=1, n_alternatives=9)(logits), Sampler(0.0, n_alternatives=9)(logits)):
        assert [token for token, _ in sampled.alternatives] == [3, 4, 1, 0, 5]  # what is impossible is none
        np.testing.assert_allclose([chance for _, chance in sampled.alternatives], logprobs[[3, 4, 1, 0, 5]])
        assert sampled.entropy == pytest.approx(float(-(possible.exp() * possible).sum()))
        assert sampled.logprob == pytest.approx(float(logprobs[sampled.token]))
    assert entropy_of(logprobs.numpy()) == pytest.approx(sampled.entropy)
    assert likeliest(logprobs.numpy(), 2) == Sampler(0.0, n_alternatives=2)(logits).alternatives


def test_top_p_keeps_the_smallest_set_that_has_the_mass() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    for top_p, kept in ((0.4, {0}), (0.5, {0}), (0.6, {0, 1}), (0.9, {0, 1, 2}), (1.0, {0, 1, 2, 3})):
        sampler = Sampler(top_p=top_p - 1e-9, seed=0)
        assert {sampler(logits).token for _ in range(500)} == kept


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1}, "temperature must be 0 or more; got -1"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0}, "top_p must be above 0"),
        ({"top_p": 1.5}, "top_p"),
    ],
)
def test_bad_options_are_refused(model: Transformer, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Generator(model, [1], 5, **options)
    with pytest.raises(ValueError, match="max_new_tokens must be at least 1; got 0"):
        Generator(model, [1], 0)
