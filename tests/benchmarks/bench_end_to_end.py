"""The embedded model from end to end: pytest tests/benchmarks/bench_end_to_end.py

`gptoss-lab bench` does the same for any model.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest
import torch
import transformers

import gptoss_lab as lab

PROMPT = "What is 38 + 57?"
FIRST_TOKEN = """
import gptoss_lab as lab
print(lab.load().chat("What is 38 + 57?", max_new_tokens=1, display=False).tokens, flush=True)
"""


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
    benchmark.pedantic(_fresh_process, rounds=5, warmup_rounds=1)


def bench_fresh_process_that_compiles(benchmark, tmp_path: Path) -> None:
    benchmark.pedantic(lambda: _fresh_process(NUMBA_CACHE_DIR=str(tmp_path)), rounds=1)


@pytest.mark.parametrize("record", [(), ("routing",), ("routing", "attention", "residual")], ids=" and ".join)
def bench_chat(benchmark, model: lab.Model, record: tuple[str, ...]) -> None:
    reply = benchmark(lambda: model.chat(PROMPT, effort="high", temperature=0, record=record, display=False))
    benchmark.extra_info["tok/s"] = round(len(reply.tokens) / benchmark.stats.stats.median)


def bench_prefill(benchmark, model: lab.Model) -> None:
    tokens = list(range(512))
    benchmark(lambda: model(tokens, last_only=True))
    benchmark.extra_info["tok/s"] = round(512 / benchmark.stats.stats.median)


@pytest.mark.parametrize("experts", ["grouped_mm", "batched_mm", "eager"])
def bench_decode_beside_transformers(benchmark, model: lab.Model, experts: str) -> None:
    """The same checkpoint, greedily, 256 tokens, in turns; transformers in float32, with each of its ways to run
    experts.
    """
    folder, n_tokens, prompt = Path(lab.__file__).parent / "nano", 256, torch.arange(1, 9)[None]
    theirs = transformers.GptOssForCausalLM.from_pretrained(folder, dtype=torch.float32, experts_implementation=experts)
    length = {"max_new_tokens": n_tokens, "min_new_tokens": n_tokens, "do_sample": False}

    def seconds_of_ours() -> float:
        return _seconds(lambda: model.generate(prompt[0], n_tokens, temperature=0, stop=[]))

    def seconds_of_theirs() -> float:
        return _seconds(lambda: theirs.generate(prompt, attention_mask=torch.ones_like(prompt), **length))

    seconds_of_ours(), seconds_of_theirs()
    pairs = [(seconds_of_ours(), seconds_of_theirs()) for _ in range(5)]
    benchmark.pedantic(seconds_of_ours, rounds=5)
    ours, transformers_ = (round(n_tokens / median(seconds)) for seconds in zip(*pairs, strict=True))
    ratio = round(median(slow / fast for fast, slow in pairs), 1)
    benchmark.extra_info |= {"tok/s": ours, "transformers, tok/s": transformers_, "ratio": ratio}


def _fresh_process(**environment: str) -> None:
    """Until the token is there: how long a process takes to end does not count."""
    command = [sys.executable, "-c", FIRST_TOKEN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | environment) as process:
        assert process.stdout.readline()
        process.kill()


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started
