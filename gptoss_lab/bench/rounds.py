"""Rounds of measurement: the machine's limits, then the model, then llama.cpp, again and again."""

import os
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
from tqdm.auto import tqdm

from gptoss_lab import checkpoint
from gptoss_lab.bench import limits, rates
from gptoss_lab.bench.llama import LlamaCpp
from gptoss_lab.costs import bytes_of_token, prefill_operations
from gptoss_lab.model import Transformer
from gptoss_lab.ops.target import BFLOAT16_DOTS
from gptoss_lab.ops.threads import threads

ROUNDS = 5
DECODED = 16  # tokens a round
PROMPTS = (512, 64)  # tokens
PAIRS = 20  # watched and unwatched

EVERYTHING = ("routing", "attention", "residual")


@dataclass(frozen=True)
class Figures:
    """Medians over the rounds; shares and ratios were taken within a round. None where it was not measured."""

    threads: int
    read_gb_s: float
    fma_peak_gflop_s: float
    bytes_of_token: int
    decode_tok_s: float
    decode_share_of_bandwidth: float
    decode_layers_share_of_bandwidth: float
    prefill_tok_s: float
    """At 512 tokens, or as many as the context holds."""
    prefill_gflop_s: float
    prefill_share_of_peak: float
    prefill_64_tok_s: float
    routing_recorded_ratio: float
    routing_recorded_interval: tuple[float, float]
    """95 %, of the median ratio (bootstrapped)."""
    all_recorded_ratio: float
    all_recorded_interval: tuple[float, float]
    private_memory_gb: float
    prefill_bf16_tok_s: float | None = None
    prefill_bf16_gflop_s: float | None = None
    prefill_bf16_64_tok_s: float | None = None
    llama_decode_tok_s: float | None = None
    llama_prefill_tok_s: float | None = None
    decode_over_llama: float | None = None
    prefill_over_llama: float | None = None
    prefill_bf16_over_llama: float | None = None

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


def measure_checkpoint(folder: Path, llama: LlamaCpp | None = None, rounds: int = ROUNDS) -> Figures:
    """Measures the checkpoint in a folder; see `measure`."""
    config, weights = checkpoint.load(folder)
    model = Transformer(config, weights)
    in_bfloat16 = Transformer(config, weights, precision="bfloat16") if BFLOAT16_DOTS else None
    return measure(model, in_bfloat16, llama, rounds)


def measure(
    model: Transformer, in_bfloat16: Transformer | None = None, llama: LlamaCpp | None = None, rounds: int = ROUNDS
) -> Figures:
    """Measures a model. Takes some minutes for a large one; nothing else should run meanwhile.

    in_bfloat16: the same model, computing prompts in bfloat16.
    """
    seen: defaultdict[str, list[float]] = defaultdict(list)
    with tqdm(total=rounds + 2, desc="Measuring", unit="round", leave=False) as bar:
        _warm_up(model, in_bfloat16)
        memory = limits.memory_to_read()
        for _ in range(rounds):
            for name, value in _round(model, in_bfloat16, llama, memory).items():
                seen[name].append(value)
            bar.update()
        del memory  # it is no memory of the model's
        found: dict[str, Any] = {}
        for name, kinds in {"routing_recorded": ("routing",), "all_recorded": EVERYTHING}.items():
            ratios = rates.recorded_ratios(model, kinds, PAIRS)
            found |= {f"{name}_ratio": median(ratios), f"{name}_interval": _interval_of_median(ratios)}
            bar.update()
    found |= {name: median(values) for name, values in seen.items()}
    return Figures(
        threads=threads(),
        bytes_of_token=bytes_of_token(model.config, model.weights).total,
        private_memory_gb=_private_memory() / 1e9,
        **found,
    )


def _round(
    model: Transformer, in_bfloat16: Transformer | None, llama: LlamaCpp | None, memory: np.ndarray
) -> dict[str, float]:
    """Every rate once, the bandwidth before and after the decoding that is held against it."""
    cost = bytes_of_token(model.config, model.weights)
    before = limits.read_gb_s(memory)
    decode = rates.decode_seconds(model, DECODED)
    layers = rates.decode_seconds(rates.without_unembedding(model), DECODED)
    read = max(before, limits.read_gb_s(memory))
    peak = limits.fma_gflop_s()
    found = {
        "read_gb_s": read,
        "fma_peak_gflop_s": peak,
        "decode_tok_s": 1 / decode,
        "decode_share_of_bandwidth": cost.total / decode / 1e9 / read,
        "decode_layers_share_of_bandwidth": cost.layers / layers / 1e9 / read,
        **_prefill(model, "prefill"),
    }
    found["prefill_share_of_peak"] = found["prefill_gflop_s"] / peak
    if in_bfloat16 is not None:
        found |= _prefill(in_bfloat16, "prefill_bf16")
    if llama is not None:
        found |= _beside_llama(found, llama)
    return found


def _prefill(model: Transformer, name: str) -> dict[str, float]:
    longest, shorter = (min(n, model.config.n_ctx) for n in PROMPTS)
    seconds = rates.prefill_seconds(model, longest)
    return {
        f"{name}_tok_s": longest / seconds,
        f"{name}_gflop_s": prefill_operations(model.config, longest) / seconds / 1e9,
        f"{name}_64_tok_s": shorter / rates.prefill_seconds(model, shorter),
    }


def _beside_llama(found: dict[str, float], llama: LlamaCpp) -> dict[str, float]:
    prefill, decode = llama.rates(PROMPTS[0], DECODED, threads())
    ratios = {
        "decode_over_llama": found["decode_tok_s"] / decode,
        "prefill_over_llama": found["prefill_tok_s"] / prefill,
    }
    if "prefill_bf16_tok_s" in found:
        ratios["prefill_bf16_over_llama"] = found["prefill_bf16_tok_s"] / prefill
    return {"llama_prefill_tok_s": prefill, "llama_decode_tok_s": decode, **ratios}


def _warm_up(*models: Transformer | None) -> None:
    """Compiles what is not compiled, and brings the weights into memory."""
    for model in filter(None, models):
        rates.prefill_seconds(model, min(PROMPTS[0], model.config.n_ctx))
        rates.decode_seconds(model, 2)


def _interval_of_median(values: list[float], samples: int = 2000) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(values, (samples, len(values))), axis=1)
    low, high = np.quantile(medians, (0.025, 0.975))
    return float(low), float(high)


def _private_memory() -> int:
    """Bytes that belong to this process alone, the mapped checkpoint not counted."""
    memory = psutil.Process(os.getpid()).memory_full_info()
    return int(memory.uss)
