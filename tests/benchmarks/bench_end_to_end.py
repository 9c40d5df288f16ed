"""The embedded model from end to end: pytest tests/benchmarks/bench_end_to_end.py

`gptoss-lab bench` does the same for any model.
"""

import subprocess
import sys

import pytest

import gptoss_lab as lab

PROMPT = "What is 38 + 57?"


@pytest.fixture(scope="module")
def model() -> lab.Model:
    return lab.load()


def bench_import(benchmark) -> None:
    command = [
        sys.executable,
        "-c",
        "import time; t = time.perf_counter(); import gptoss_lab; print(time.perf_counter() - t)",
    ]
    seconds = benchmark(lambda: float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    benchmark.extra_info["import alone, s"] = round(seconds, 3)


def bench_fresh_process_to_first_token(benchmark) -> None:
    """With kernels compiled before."""
    script = "import gptoss_lab as lab; lab.load().chat('What is 38 + 57?', max_new_tokens=1, display=False)"
    benchmark.pedantic(lambda: subprocess.run([sys.executable, "-c", script], check=True), rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("record", [(), ("routing",), ("routing", "attention", "residual")], ids=" and ".join)
def bench_chat(benchmark, model: lab.Model, record: tuple[str, ...]) -> None:
    reply = benchmark(lambda: model.chat(PROMPT, effort="high", temperature=0, record=record, display=False))
    benchmark.extra_info["tok/s"] = round(len(reply.tokens) / benchmark.stats.stats.median)


def bench_prefill(benchmark, model: lab.Model) -> None:
    tokens = list(range(512))
    benchmark(lambda: model(tokens, last_only=True))
    benchmark.extra_info["tok/s"] = round(512 / benchmark.stats.stats.median)
