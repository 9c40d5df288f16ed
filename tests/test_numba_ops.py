"""The CPU kernels, each against its oracle: shapes that fit no vector, guarded read-only memory, one thread and two."""

import ctypes
import itertools
import mmap
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numba
import oracles
import pytest
import torch
from torch import Tensor

from gptoss_lab import int8, mxfp4
from gptoss_lab.int8 import Int8
from gptoss_lab.mxfp4 import Mxfp4
from gptoss_lab.ops import Precision, compile, numba_ops, products
from gptoss_lab.ops.target import BFLOAT16_DOTS, INSTRUCTION_SET, LANES

DTYPES = [torch.float32, torch.bfloat16]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True, params=[1, 2], ids=["one thread", "two threads"])
def n_threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Runs a test with one thread and with two. All work, however small, is split."""
    if request.param > numba.config.NUMBA_NUM_THREADS:
        pytest.skip("numba was started with one thread (NUMBA_NUM_THREADS); a machine with two cores runs this")
    before = numba_ops.threads()
    numba_ops.set_threads(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gptoss_lab.ops.threads.WORTH_WAKING_A_THREAD", 1)
        yield request.param
    numba_ops.set_threads(before)


def assert_near(actual: Tensor, expected: Tensor, scale: float | None = None, message: str = "") -> None:
    """Differences of at most 3e-6 of the largest number (or of a scale, where sums may cancel)."""
    assert actual.dtype == torch.float32
    assert actual.shape == expected.shape, message
    error = (actual.double() - expected).abs().max().item() / (scale or expected.abs().max().item())
    assert error < 3e-6, f"{error:.1e} {message}"


# Single operations


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (2, 5, 64), (1, 2, 3, 130)])
def test_rms_norm(shape: tuple[int, ...]) -> None:
    x, gain = torch.randn(shape) * 3, torch.randn(shape[-1])
    assert_near(numba_ops.rms_norm(x, gain, 1e-5), oracles.rms_norm(x, gain, 1e-5))
    tiny = x * 1e-5  # now epsilon counts
    assert_near(numba_ops.rms_norm(tiny, gain, 1e-5), oracles.rms_norm(tiny, gain, 1e-5))


@pytest.mark.parametrize("shape", [(1, 1, 1, 2), (2, 5, 3, 24), (1, 7, 8, 64), (3, 2, 2, 38)])
def test_rotate(shape: tuple[int, ...]) -> None:
    x, angles = torch.randn(shape), torch.randn(shape[1], shape[-1] // 2) * 9
    turned = numba_ops.rotate(x, angles.cos(), angles.sin())
    assert_near(turned, oracles.rotate(x, angles.cos(), angles.sin()))


@pytest.mark.parametrize("dtype", DTYPES)
def test_linear_on_awkward_shapes(dtype: torch.dtype) -> None:
    tokens, widths, heights = (1, 2, 3, 4, 7, 13, 16, 31, 40), (1, 7, 33, 130, 515), (1, 3, 33, 97, 205)
    for n, n_in, n_out in itertools.product(tokens, widths, heights):
        x, weight, bias = torch.randn(n, n_in), torch.randn(n_out, n_in).to(dtype), torch.randn(n_out)
        scale = n_in**0.5 + 1
        assert_near(
            numba_ops.linear(x, weight, bias), oracles.linear(x, weight, bias), scale, f"{n} x {n_in} -> {n_out}"
        )


def test_linear_keeps_leading_axes_and_does_without_bias() -> None:
    x, weight = torch.randn(2, 3, 5, 40), torch.randn(20, 40).bfloat16()
    assert_near(numba_ops.linear(x, weight, None), oracles.linear(x, weight, None))


def test_linear_of_more_tokens_than_go_in_panels_at_once() -> None:
    x, weight = torch.randn(1100, 65), torch.randn(33, 65)
    assert_near(numba_ops.linear(x, weight, None), oracles.linear(x, weight, None))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_linear_does_not_heed_what_lies_behind_its_weights(dtype: torch.dtype) -> None:
    for n, n_in in itertools.product((1, 5, 40), (3, 5, 7, 13, 15, 29, 31)):  # rows that end just before a step does
        memory = torch.cat([torch.randn(20 * n_in), torch.full((64,), torch.nan)]).to(dtype)
        x, weight = torch.randn(n, n_in), memory[: 20 * n_in].view(20, n_in)
        assert_near(numba_ops.linear(x, weight, None), oracles.linear(x, weight, None), None, f"{n} x {n_in}")


def test_linear_takes_views() -> None:
    x, weight, bias = torch.randn(40, 6).T, torch.randn(9, 40), torch.randn(9)
    assert_near(numba_ops.linear(x, weight, bias), oracles.linear(x, weight, bias))


def test_what_cannot_be_read_is_refused() -> None:
    x = torch.randn(2, 8)
    with pytest.raises(TypeError, match=r"MXFP4, int8 in blocks, bfloat16 or float32 .* not torch.float16"):
        numba_ops.linear(x, torch.randn(4, 8).half(), None)
    with pytest.raises(ValueError, match=r"\(4, 8\) are not contiguous"):
        numba_ops.linear(x, torch.randn(8, 4).T, None)
    with pytest.raises(TypeError, match=r"activations are float32 .* not torch.float64"):
        numba_ops.linear(x.double(), torch.randn(4, 8), None)


# Experts


def some_experts(n_experts: int, d_model: int, d_mlp: int, kind: str) -> oracles.Experts:
    gate_up, down = torch.randn(n_experts, 2 * d_mlp, d_model) * 2, torch.randn(n_experts, d_model, d_mlp)

    def stored(matrices: Tensor) -> Tensor | Mxfp4:
        return mxfp4.encode(matrices) if kind == "mxfp4" else matrices.to(getattr(torch, kind))

    biases = torch.randn(n_experts, 2 * d_mlp), torch.randn(n_experts, d_model)
    return oracles.Experts(stored(gate_up), biases[0], stored(down), biases[1])


def some_choice(n_tokens: int, k: int, among: list[int]) -> tuple[Tensor, Tensor]:
    chosen = [torch.tensor(among)[torch.randperm(len(among))[:k]] for _ in range(n_tokens)]
    return torch.stack(chosen), torch.rand(n_tokens, k)


@pytest.fixture(params=[False, True], ids=["in panels", "as digits"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever way many vectors meet MXFP4 on this CPU, and the other one."""
    monkeypatch.setattr(products, "DIGITS_FOR_MANY", request.param)


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("kind", ["mxfp4", "bfloat16", "float32"])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_expert_shares(kind: str, k: int) -> None:
    # Of the last matrices of MXFP4, weights may be looked up once for several vectors.
    sizes = [(32, 32), (96, 160), (160, 224), (544, 512)] if kind == "mxfp4" else [(20, 7), (75, 33), (130, 101)]
    for n_tokens, (d_model, d_mlp) in itertools.product((1, 2, 5, 17, 40), sizes):
        experts = some_experts(6, d_model, d_mlp, kind)
        x = torch.randn(n_tokens, d_model)
        indices, weights = some_choice(n_tokens, k, [0, 1, 2, 3, 5])  # nobody chooses expert 4
        shares = numba_ops.expert_shares(x, indices, weights, experts, 7.0)  # type: ignore[arg-type]
        assert_near(shares, oracles.expert_shares(x, indices, weights, experts, 7.0), None, f"{n_tokens} {d_model}")


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("d_model, d_mlp", [(64, 96), (512, 544)])
def test_one_expert_takes_nearly_all_tokens(d_model: int, d_mlp: int) -> None:
    experts = some_experts(4, d_model, d_mlp, "mxfp4")
    x, weights = torch.randn(700, d_model), torch.rand(700, 1)
    indices = torch.where(torch.arange(700) % 100 == 7, 0, 2)[:, None]
    shares = numba_ops.expert_shares(x, indices, weights, experts, 7.0)  # type: ignore[arg-type]
    assert_near(shares, oracles.expert_shares(x, indices, weights, experts, 7.0))


def test_the_limit_of_swiglu_is_felt() -> None:
    experts = some_experts(2, 32, 32, "float32")
    x, indices, weights = torch.randn(3, 32) * 4, torch.tensor([[0], [1], [1]]), torch.ones(3, 1)
    limits = {limit: numba_ops.expert_shares(x, indices, weights, experts, limit) for limit in (0.5, 7.0)}  # type: ignore[arg-type]
    for limit, shares in limits.items():
        assert_near(shares, oracles.expert_shares(x, indices, weights, experts, limit))
    assert not torch.allclose(limits[0.5], limits[7.0])


def test_every_code_and_many_scales() -> None:
    blocks = torch.arange(256, dtype=torch.uint8).repeat(2).reshape(2, 16, 1, 16).repeat(1, 4, 1, 1)
    scales = torch.randint(118, 130, (2, 64, 1), dtype=torch.uint8)
    gate_up, down = Mxfp4(blocks, scales), Mxfp4(blocks[:, :32].contiguous(), scales[:, :32].contiguous())
    experts = oracles.Experts(gate_up, torch.zeros(2, 64), down, torch.zeros(2, 32))
    x = torch.randn(20, 32) * 0.1
    indices, weights = some_choice(20, 2, [0, 1])
    for rows in (slice(1), slice(20)):
        shares = numba_ops.expert_shares(x[rows], indices[rows], weights[rows], experts, 7.0)  # type: ignore[arg-type]
        assert_near(shares, oracles.expert_shares(x[rows], indices[rows], weights[rows], experts, 7.0))


few_or_many = pytest.mark.parametrize("n_tokens, n_out, n_in", [(1, 40, 416), (3, 40, 416), (13, 64, 832)])


@few_or_many
def test_each_block_of_a_vector_is_as_exact_as_its_largest_element(n_tokens: int, n_out: int, n_in: int) -> None:
    """The kernel may take the elements of a block as whole numbers with a common factor."""
    weight = mxfp4.encode(torch.randn(n_out, n_in))
    sizes = 10.0 ** torch.randint(-12, 6, (n_in // 32,)).repeat_interleave(32)
    x = torch.randn(n_tokens, n_in) * sizes
    x[:, 64:96] = 0
    x[:, 7] = 1e-41
    x[:, 200:208] *= 1e-6  # far below what stands in the same block
    product, expected = numba_ops.linear(x, weight, None), oracles.linear(x, weight, None)
    blocks = x.abs().unflatten(-1, (-1, 32)).double().amax(-1)
    terms = blocks @ oracles.plain(weight).abs().unflatten(-1, (-1, 32)).sum(-1).T
    assert ((product - expected).abs() <= 1e-7 * terms).all()


@pytest.mark.parametrize("n_tokens, n_blocks", [(1, 1), (2, 1), (7, 16)])
def test_scales_however_small_or_large(n_tokens: int, n_blocks: int) -> None:
    """The kernel may add them to exponents, which end somewhere."""
    scales = torch.arange(1, 161, dtype=torch.uint8).reshape(160, 1).repeat(1, n_blocks)
    weight = Mxfp4(torch.randint(256, (160, n_blocks, 16), dtype=torch.uint8), scales)
    for size in (1e-6, 1.0, 1e2):
        x = torch.randn(n_tokens, 32 * n_blocks) * size
        product, expected = numba_ops.linear(x, weight, None), oracles.linear(x, weight, None)
        sizes = size * oracles.plain(weight).abs().sum(-1)
        assert ((product - expected).abs() <= 1e-6 * sizes + 1e-36).all(), f"vectors of size {size:g}"


@pytest.mark.parametrize("n_tokens, n_out, n_in", [(1, 9, 96), (13, 64, 896)])
def test_a_scale_that_is_no_number_shows(n_tokens: int, n_out: int, n_in: int) -> None:
    weight = mxfp4.encode(torch.randn(n_out, n_in))
    weight.scales[4, 1] = 255  # OCP Microscaling Formats, 5.4.1
    finite = numba_ops.linear(torch.randn(n_tokens, n_in), weight, None).isfinite()
    assert not finite[:, 4].any() and finite[:, :4].all() and finite[:, 5:].all()


@pytest.mark.parametrize("together, n_out, n_in", [(1, 4, 32), (2, 4, 32), (50, 32, 512)])
def test_the_largest_element_of_a_block_has_room_in_its_digits(together: int, n_out: int, n_in: int) -> None:
    """However its multiple of the factor is rounded."""
    x, weight = torch.rand(2000, n_in) + 0.5, mxfp4.encode(torch.full((n_out, n_in), 6.0))
    results = torch.cat([numba_ops.linear(few, weight, None) for few in x.split(together)])
    assert_near(results, oracles.linear(x, weight, None))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("n_tokens, n_out", [(1, 5), (7, 32)])
def test_blocks_whose_sums_are_as_large_as_can_be(n_tokens: int, n_out: int, sign: int) -> None:
    """Sums of whole numbers, if they are that, have room for them."""
    weight, x = mxfp4.encode(torch.full((n_out, 864), 6.0) * sign), torch.full((n_tokens, 864), 0.7)
    x[:, 320:] *= -1
    assert_near(numba_ops.linear(x, weight, None), oracles.linear(x, weight, None))


@few_or_many
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_no_number_shows_in_every_product(bad: float, n_tokens: int, n_out: int, n_in: int) -> None:
    x, weight = torch.randn(n_tokens, n_in), mxfp4.encode(torch.randn(n_out, n_in))
    x[0, 70] = bad
    finite = numba_ops.linear(x, weight, None).isfinite()
    assert not finite[0].any() and finite[1:].all()


# Precision


with_bfloat16 = pytest.mark.skipif(not BFLOAT16_DOTS, reason="no AVX512_BF16 here; a CPU that has it runs this")


@pytest.mark.parametrize("precision, most", [("float32", 3e-6), pytest.param("bfloat16", 1e-4, marks=with_bfloat16)])
def test_neighbours_as_large_as_can_be(precision: Precision, most: float) -> None:
    """Kernels may add elements and weights of neighbours, whichever of them are negative."""
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 2)
    sizes = torch.linspace(0.5, 1, 8).bfloat16().repeat_interleave(4).unsqueeze(1)
    x, weight = sizes * signs.repeat(8, 256), mxfp4.encode(6 * signs.repeat(8, 256))
    error = numba_ops.linear(x, weight, None, precision).double() - oracles.linear(x, weight, None)
    assert error.abs().max() < most * 6 * 512


@with_bfloat16
def test_linear_of_vectors_rounded_to_bfloat16() -> None:
    tokens, widths, heights = (3, 5, 7, 9, 16, 31, 35, 40, 1030), (1, 33, 130, 515, 1184), (1, 97)
    for n, n_in, n_out in itertools.product(tokens, widths, heights):
        x, weight, bias = torch.randn(n, n_in), torch.randn(n_out, n_in).bfloat16(), torch.randn(n_out)
        product = numba_ops.linear(x, weight, bias, "bfloat16")
        # What does not fill a panel is rounded too, unless it is very little.
        in_panels = products.number_in_panels(products.stored(weight, None), n, "bfloat16")
        n_rounded = n if n - in_panels > 4 else in_panels
        expected = torch.cat(
            [oracles.linear(x[:n_rounded].bfloat16(), weight, bias), oracles.linear(x[n_rounded:], weight, bias)]
        )
        assert_near(product, expected, n_in**0.5 + 1, f"{n} x {n_in} -> {n_out}")


@with_bfloat16
def test_weights_in_float32_are_not_rounded_to_bfloat16() -> None:
    x, weight = torch.randn(32, 40), torch.randn(20, 40)
    assert_near(numba_ops.linear(x, weight, None, "bfloat16"), oracles.linear(x, weight, None))


@with_bfloat16
@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("kind", ["mxfp4", "bfloat16"])
@pytest.mark.parametrize("n_few", [16, 6])
def test_expert_shares_of_vectors_rounded_to_bfloat16(kind: str, n_few: int) -> None:
    for d_model, d_mlp in [(32, 32), (96, 160), (1184, 608)] if kind == "mxfp4" else [(20, 7), (75, 33), (130, 101)]:
        experts = some_experts(4, d_model, d_mlp, kind)
        x = torch.randn(32 + n_few, d_model)
        indices, weights = torch.tensor([[1, 3]] * 32 + [[3, 0]] * n_few), torch.rand(32 + n_few, 2)
        shares = numba_ops.expert_shares(x, indices, weights, experts, 7.0, "bfloat16")  # type: ignore[arg-type]
        exact = oracles.expert_shares(x, indices, weights, experts, 7.0)
        rounded = oracles.expert_shares(x, indices, weights, experts, 7.0, torch.bfloat16)
        sizes = exact.square().mean().sqrt()
        apart, lost = ((shares - one).square().mean().sqrt() / sizes for one in (rounded, exact))
        assert apart < 0.001 < lost < 0.01, f"{d_model}: {apart:.1e} from rounded inputs, {lost:.1e} from exact ones"


@with_bfloat16
def test_every_scale_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is, to 252; larger numbers bfloat16 does not hold. Digits have narrower limits."""
    monkeypatch.setattr(products, "DIGITS_FOR_MANY", False)
    scales = torch.arange(256).clamp(0, 252).to(torch.uint8)
    down = Mxfp4(torch.randint(256, (1, 256, 1, 16), dtype=torch.uint8), scales.reshape(1, 256, 1))
    gate_up, small = mxfp4.encode(torch.zeros(1, 64, 256)), torch.tensor([[0.01, 0.0] * 32])  # so that no sum overflows
    experts = oracles.Experts(gate_up, small, down, torch.zeros(1, 256))
    given = torch.zeros(16, 256), torch.zeros(16, 1, dtype=torch.int64), torch.ones(16, 1), experts, 7.0
    shares = numba_ops.expert_shares(*given, "bfloat16")  # type: ignore[arg-type]
    expected = oracles.expert_shares(*given, torch.bfloat16)
    sizes = oracles.plain(down).abs().sum(-1) * 0.005
    assert ((shares - expected).abs() <= 1e-6 * sizes + 1e-36).all()


# Attention


def pieces(keys: Tensor, values: Tensor, start: int, length: int) -> Any:
    """Keys and values [batch, pos, kv_head, d_head] in pieces, as one layer of three; all the rest is not a number."""
    batch, n, n_kv_heads, d_head = keys.shape
    data = torch.full((batch, -(-n // length), 2, 3, n_kv_heads, length, d_head), torch.nan)
    for position in range(n):
        piece, slot = divmod(position, length)
        data[:, piece, 0, 1, :, slot], data[:, piece, 1, 1, :, slot] = keys[:, position], values[:, position]
    addresses = [[piece.data_ptr() for piece in sequence] for sequence in data]
    layer = n_kv_heads * length * d_head
    return SimpleNamespace(
        start=start,
        n_kv_heads=n_kv_heads,
        piece_length=length,
        tables=torch.tensor(addresses).numpy(),
        key_offset=layer,
        value_offset=4 * layer,
        data=data,
    )


@pytest.mark.parametrize("n_heads, n_kv_heads, d_head", [(2, 2, 32), (6, 2, 16), (16, 2, 64), (3, 1, 24), (4, 4, 18)])
def test_attention(n_heads: int, n_kv_heads: int, d_head: int) -> None:
    steps, starts, windows, lengths = (1, 2, 9, 37), (0, 1, 70), (None, 1, 5, 128), (64, 7)
    for n, start, window, length in itertools.product(steps, starts, windows, lengths):
        q, sinks = torch.randn(2, n, n_heads, d_head) * 2, torch.randn(n_heads)
        keys, values = torch.randn(2, 2, start + n, n_kv_heads, d_head)
        z = numba_ops.attention(q, pieces(keys, values, start, length), sinks, window)
        expected = oracles.attention(q, keys, values, start, sinks, window)
        assert_near(z, expected, None, f"{n} from {start}, window {window}, pieces of {length}")


@pytest.mark.parametrize("window", [None, 128, 3000])
def test_attention_over_a_long_context_is_split_among_threads(window: int | None) -> None:
    q, sinks = torch.randn(1, 1, 4, 32), torch.tensor([0.0, 9.0, -9.0, 60.0])
    keys, values = torch.randn(2, 1, 2501, 1, 32)
    z = numba_ops.attention(q, pieces(keys, values, 2500, 64), sinks, window)
    assert_near(z, oracles.attention(q, keys, values, 2500, sinks, window))


def test_large_scores_do_not_overflow() -> None:
    q, sinks = torch.randn(1, 3, 2, 32) * 1000, torch.randn(2)
    keys, values = torch.randn(2, 1, 13, 2, 32) * 100
    z = numba_ops.attention(q, pieces(keys, values, 10, 64), sinks, None)
    assert_near(z, oracles.attention(q, keys, values, 10, sinks, None))


# Memory


class Guarded:
    """Memory that can be read up to the tensor's end, and not written; anything else kills the process."""

    def __init__(self, tensor: Tensor):
        page = mmap.PAGESIZE
        size = tensor.nbytes
        self._length = (size + page - 1) // page * page
        self._map = mmap.mmap(-1, self._length + page)
        raw = torch.frombuffer(self._map, dtype=torch.uint8)
        self.tensor = raw[self._length - size : self._length].view(tensor.dtype).view(tensor.shape)
        self.tensor.copy_(tensor)
        libc = ctypes.CDLL(None, use_errno=True)
        for offset, length, allowed in ((0, self._length, mmap.PROT_READ), (self._length, page, 0)):
            address = ctypes.c_void_p(raw.data_ptr() + offset)
            assert libc.mprotect(address, ctypes.c_size_t(length), allowed) == 0, os.strerror(ctypes.get_errno())


@pytest.mark.skipif(not hasattr(mmap, "PROT_READ"), reason="mprotect is POSIX's; any such system runs this")
@pytest.mark.parametrize("n_tokens, precision", [(1, "float32"), (3, "float32"), (40, "float32"), (40, "bfloat16")])
def test_nothing_is_written_to_weights_or_read_beyond_them(n_tokens: int, precision: str) -> None:
    def guarded(value: Any) -> Any:
        if isinstance(value, Mxfp4):
            return Mxfp4(guarded(value.blocks), guarded(value.scales))
        kept.append(Guarded(value))
        return kept[-1].tensor

    kept: list[Guarded] = []
    for kind, d_model, d_mlp in [("mxfp4", 96, 160), ("bfloat16", 51, 37), ("float32", 51, 37)]:
        experts = some_experts(3, d_model, d_mlp, kind)
        x = torch.randn(n_tokens, d_model)
        indices, weights = some_choice(n_tokens, 2, [0, 1, 2])
        held = oracles.Experts(*map(guarded, vars(experts).values()))
        given = guarded(x), guarded(indices), guarded(weights), held, 7.0
        if precision == "bfloat16":
            if BFLOAT16_DOTS:
                numba_ops.expert_shares(*given, precision)
            continue
        assert_near(numba_ops.expert_shares(*given), oracles.expert_shares(x, indices, weights, experts, 7.0))
        if kind != "mxfp4":
            matrix, bias = experts.gate_up[0], experts.gate_up_bias[0]  # type: ignore[index]
            product = numba_ops.linear(guarded(x), guarded(matrix), guarded(bias))
            assert_near(product, oracles.linear(x, matrix, bias))
    packed, x = int8.encode(torch.randn(37, 96)), torch.randn(n_tokens, 96)
    product = numba_ops.linear(guarded(x), Int8(guarded(packed.values), guarded(packed.scales)), None)
    assert_near(product, oracles.linear(x, int8.decode(packed), None))


def test_a_mapped_file(tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    weight = torch.randn(30, 70).bfloat16()
    save_file({"weight": weight}, tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        x = torch.randn(2, 70)
        assert_near(numba_ops.linear(x, file.get_tensor("weight"), None), oracles.linear(x, weight, None))


# Threads, compiling


def test_both_pools_have_as_many_threads_as_were_set(n_threads: int) -> None:
    numba_ops.linear(torch.randn(2, 8), torch.randn(3, 8), None)
    assert (numba_ops.threads(), torch.get_num_threads(), numba.get_num_threads()) == (n_threads,) * 3


@pytest.mark.parametrize("n", [0, -1, 10_000])
def test_impossible_numbers_of_threads(n: int) -> None:
    with pytest.raises(ValueError, match=rf"threads must be from 1 to \d+, not {n}"):
        numba_ops.set_threads(n)


def test_two_python_threads_at_once() -> None:
    experts = some_experts(5, 96, 64, "mxfp4")
    cases = []
    for n_tokens in (1, 23):
        x = torch.randn(n_tokens, 96)
        indices, weights = some_choice(n_tokens, 2, [0, 1, 2, 3, 4])
        cases.append((x, indices, weights, experts, 7.0))
    expected = [numba_ops.expert_shares(*case) for case in cases]  # type: ignore[arg-type]
    wrong: list[int] = []

    def work(first: int) -> None:
        for i in range(first, first + 200):
            if not torch.equal(numba_ops.expert_shares(*cases[i % 2]), expected[i % 2]):  # type: ignore[arg-type]
                wrong.append(i)

    workers = [threading.Thread(target=work, args=(first,)) for first in (0, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_the_user_s_numba_cache_stays_where_it_was() -> None:
    before = numba.config.CACHE_DIR
    numba_ops.prepare()
    assert before == numba.config.CACHE_DIR


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache that holds nothing, and one kernel to compile."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kernels"))
    monkeypatch.setattr(compile, "_compilable", [])
    compile.cache_folder.cache_clear()
    compile.Kernel(_nothing)
    yield tmp_path / "kernels"
    compile.cache_folder.cache_clear()


def _nothing(thread: int, share: int, n_shares: int, job: int) -> None:
    pass


def test_a_bar_shows_only_while_something_is_compiled(empty_cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    numba_ops.prepare()
    assert "Compiling kernels" in capfd.readouterr().err
    assert list(empty_cache.glob("kernels-*/**/*.nbi"))
    compile._compilable.clear()
    compile.Kernel(_nothing)
    numba_ops.prepare()
    assert capfd.readouterr().err == ""


def test_another_process_compiles_the_last_kernels_and_ends(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helpers = []

    class Popen(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            helpers.append(self)

    monkeypatch.setattr(subprocess, "Popen", Popen)
    monkeypatch.setattr(numba.config, "NUMBA_DEFAULT_NUM_THREADS", 2)
    with compile._helper():
        deadline = time.monotonic() + 60
        while not list(empty_cache.glob("kernels-*/**/steps.*.nbi")) and time.monotonic() < deadline:
            time.sleep(0.1)
    assert list(empty_cache.glob("kernels-*/**/steps.*.nbi"))
    assert [helper.poll() is not None for helper in helpers] == [True]

    monkeypatch.setattr(numba.config, "NUMBA_DEFAULT_NUM_THREADS", 1)
    with compile._helper():
        assert len(helpers) == 1, "one core has enough to do"


def test_a_folder_that_cannot_be_written_costs_the_cache_and_one_warning(empty_cache: Path) -> None:
    empty_cache.write_text("a file, where a folder is wanted")
    with pytest.warns(UserWarning, match="set NUMBA_CACHE_DIR to a folder that can") as caught:
        numba_ops.prepare(progress=False)
        compile.Kernel(_nothing)
        numba_ops.prepare(progress=False)
    assert len(caught) == 1


# Other CPUs


@pytest.mark.slow
@pytest.mark.parametrize("cpu, instruction_set, lanes", [("haswell", "avx2", 8), ("nehalem", "portable", 4)])
def test_other_cpus(cpu: str, instruction_set: str, lanes: int, n_threads: int) -> None:
    """These tests again, in a process whose numba compiles for another CPU."""
    if n_threads == 1:
        pytest.skip("once is enough: the tests in the other process run with one thread and with two")
    if "x86" not in os.uname().machine:
        pytest.skip(f"{cpu} is an x86 CPU; a machine of that kind runs this")
    command = [sys.executable, "-m", "pytest", "-q", __file__, "-p", "no:cacheprovider"]
    environment = {**os.environ, "NUMBA_CPU_NAME": cpu, "PYTEST_ADDOPTS": ""}
    environment["GPTOSS_LAB_EXPECTS"] = f"{instruction_set} {lanes}"
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]


@pytest.mark.skipif("GPTOSS_LAB_EXPECTS" not in os.environ, reason="test_other_cpus runs this")
def test_the_instruction_set_is_the_one_asked_for() -> None:
    assert f"{INSTRUCTION_SET} {LANES}" == os.environ["GPTOSS_LAB_EXPECTS"]
