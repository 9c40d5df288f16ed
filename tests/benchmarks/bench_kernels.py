"""Kernels by themselves, at gpt-oss-20b's sizes: pytest tests/benchmarks/bench_kernels.py

Weights of several experts are gone through in turn, so that they come from memory and not from a cache.
"""

from collections.abc import Callable
from itertools import cycle

import pytest
import torch

from gptoss_lab.cache import KVCache, Pass
from gptoss_lab.config import PRESETS
from gptoss_lab.mxfp4 import Mxfp4
from gptoss_lab.ops import numba_ops
from gptoss_lab.ops.target import BFLOAT16_DOTS
from gptoss_lab.ops.threads import set_threads

CONFIG = PRESETS["20b"]
ROWS, COLUMNS = 2 * CONFIG.d_mlp, CONFIG.d_model
N_MATRICES = 24  # 200 MB packed


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"], autouse=True)
def n_threads(request: pytest.FixtureRequest) -> int:
    set_threads(request.param)
    return request.param


def packed_matrices(rows: int, columns: int, n: int) -> Mxfp4:
    blocks = torch.randint(256, (n, rows, columns // 32, 16), dtype=torch.uint8)
    return Mxfp4(blocks, torch.randint(118, 122, (n, rows, columns // 32), dtype=torch.uint8))


def bfloat16_matrices(rows: int, columns: int, n: int) -> torch.Tensor:
    return torch.randn(n, rows, columns).bfloat16()


@pytest.mark.parametrize("matrices", [packed_matrices, bfloat16_matrices], ids=["MXFP4", "bfloat16"])
def bench_matrix_times_vector(benchmark, matrices: Callable) -> None:
    weights, x = matrices(ROWS, COLUMNS, N_MATRICES), torch.randn(1, COLUMNS)
    turn = cycle(range(N_MATRICES))
    benchmark(lambda: numba_ops.linear(x, weights[next(turn)], None))
    parts = (weights.blocks, weights.scales) if isinstance(weights, Mxfp4) else (weights,)
    n_bytes = sum(part.nbytes for part in parts) / N_MATRICES
    benchmark.extra_info["GB/s"] = round(n_bytes / benchmark.stats.stats.median / 1e9, 1)


@pytest.mark.parametrize("n_tokens", [4, 16, 64, 512])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def bench_matrix_times_many_vectors(benchmark, precision: str, n_tokens: int) -> None:
    if precision == "bfloat16" and not BFLOAT16_DOTS:
        pytest.skip("this CPU does not multiply bfloat16 numbers; run it on one with AVX512_BF16")
    weights, x = packed_matrices(ROWS, COLUMNS, 4), torch.randn(n_tokens, COLUMNS)
    turn = cycle(range(4))
    benchmark(lambda: numba_ops.linear(x, weights[next(turn)], None, precision))
    operations = 2 * n_tokens * ROWS * COLUMNS
    benchmark.extra_info["GFLOP/s"] = round(operations / benchmark.stats.stats.median / 1e9)


@pytest.mark.parametrize("window", [None, 128])
@pytest.mark.parametrize("depth", [512, 8192])
def bench_attention_of_one_token(benchmark, depth: int, window: int | None) -> None:
    cache = KVCache(CONFIG)
    heads, kv_heads, d_head = CONFIG.n_heads, CONFIG.n_kv_heads, CONFIG.d_head
    with Pass([cache], depth) as before:
        before.note(torch.zeros(1, depth, dtype=torch.int64))
        before.extend(0, torch.randn(1, depth, kv_heads, d_head), torch.randn(1, depth, kv_heads, d_head))
    with Pass([cache], 1) as now:
        context = now.extend(0, torch.randn(1, 1, kv_heads, d_head), torch.randn(1, 1, kv_heads, d_head))
        q, sinks = torch.randn(1, 1, heads, d_head), torch.randn(heads)
        benchmark(lambda: numba_ops.attention(q, context, sinks, window))
