"""Dense weights in eight bits: the format, the kernels, a model that runs on them, and what it costs."""

import oracles
import pytest
import torch
from small import SMALL

from gptoss_lab import int8
from gptoss_lab import weights as weights_module
from gptoss_lab.experiments.rounding import rounding
from gptoss_lab.int8 import Int8
from gptoss_lab.model import Transformer
from gptoss_lab.ops import ENGINES, numba_ops
from gptoss_lab.ops.target import BFLOAT16_DOTS


def test_every_value_comes_back_within_half_a_step() -> None:
    matrix = torch.randn(50, 96) * torch.logspace(-30, 30, 50)[:, None]
    matrix[3, :32], matrix[4, :32] = 0, torch.arange(32) - 16.0
    packed = int8.encode(matrix)
    steps = packed.scales.float().repeat_interleave(32, dim=1)
    assert ((int8.decode(packed) - matrix).abs() <= 0.5001 * steps).all()
    assert packed.values.abs().max() == 127
    assert torch.equal(int8.decode(packed)[3, :32], torch.zeros(32))


def test_what_is_encoded_once_stays() -> None:
    packed = int8.encode(torch.randn(5, 64))
    again = int8.encode(int8.decode(packed))
    torch.testing.assert_close(int8.decode(again), int8.decode(packed), rtol=0.01, atol=0.01)


def test_many_rows_are_encoded_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = torch.randn(10, 32)
    whole = int8.encode(matrix)
    monkeypatch.setattr("gptoss_lab.int8._ROWS", 3)
    assert torch.equal(int8.encode(matrix).values, whole.values)


def test_what_cannot_be_encoded() -> None:
    with pytest.raises(ValueError, match=r"blocks of 32; rows of 40"):
        int8.encode(torch.zeros(2, 40))
    with pytest.raises(ValueError, match=r"infinity or a NaN"):
        int8.encode(torch.full((2, 32), torch.inf))
    with pytest.raises(ValueError, match=r"scales of shape \(2, 2\) do not fit values of shape \(2, 32\)"):
        Int8(torch.zeros(2, 32, dtype=torch.int8), torch.zeros(2, 2, dtype=torch.bfloat16))
    with pytest.raises(TypeError, match=r"int8 values and bfloat16 scales, got torch.float32"):
        Int8(torch.zeros(2, 32), torch.zeros(2, 1, dtype=torch.bfloat16))


def test_kernels_multiply_what_is_meant() -> None:
    for n in (1, 2, 5, 16, 40):
        for n_in, n_out in [(32, 1), (96, 97), (160, 33), (1184, 130)]:
            x, packed, bias = torch.randn(n, n_in), int8.encode(torch.randn(n_out, n_in)), torch.randn(n_out)
            expected = oracles.linear(x, int8.decode(packed), bias)
            error = (numba_ops.linear(x, packed, bias) - expected).abs().max() / (n_in**0.5 + 1)
            assert error < 3e-6, f"{n} x {n_in} -> {n_out}"


@pytest.mark.skipif(not BFLOAT16_DOTS, reason="no AVX512_BF16 here; a CPU that has it runs this")
def test_kernels_round_what_is_meant_to_bfloat16() -> None:
    for n_in, n_out in [(32, 1), (96, 97), (1184, 130)]:
        x, packed = torch.randn(32, n_in), int8.encode(torch.randn(n_out, n_in))
        expected = oracles.linear(x.bfloat16(), int8.decode(packed).bfloat16(), None)
        error = (numba_ops.linear(x, packed, None, "bfloat16") - expected).abs().max() / (n_in**0.5 + 1)
        assert error < 3e-6, f"{n_in} -> {n_out}"


def test_both_engines_run_on_int8_and_say_what_it_costs() -> None:
    weights = weights_module.random(SMALL, seed=1)
    exact = Transformer(SMALL, weights, "torch")
    tokens = torch.arange(60) % SMALL.d_vocab
    found = []
    for engine in ENGINES:
        rounded = Transformer(SMALL, weights, engine, dense="int8")
        assert rounded.weights is weights or rounded.weights.unembedding.dtype == torch.bfloat16
        cost = rounding(exact, rounded, tokens)
        assert cost.n_tokens == 60
        assert 1e-4 < cost.logit_error < 0.1
        assert 0 < cost.kl_divergence < 0.01
        assert cost.same_token > 0.8
        assert (cost.flips > 0) == (cost.flip_margin > 0)
        assert cost.flips < 0.1
        found.append(rounded(tokens))
        cache = rounded.new_cache()
        rounded(tokens[:-1], cache)
        torch.testing.assert_close(rounded(tokens[-1:], cache)[0, -1], found[-1][0, -1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-4)


def test_a_run_beside_itself_costs_nothing() -> None:
    model = Transformer(SMALL, weights_module.random(SMALL, seed=1))
    cost = rounding(model, model, [1, 2, 3])
    assert (cost.logit_error, cost.flips, cost.flip_margin, cost.same_token) == (0, 0, 0, 1)
    assert str(cost).startswith("Over 3 tokens: logits differ by 0.0% of their spread")


def test_other_kinds_of_dense_weights_are_refused() -> None:
    with pytest.raises(ValueError, match=r"as stored \(None\) or in 'int8', not in 'int4'"):
        Transformer(SMALL, weights_module.random(SMALL), dense="int4")  # type: ignore[arg-type]
