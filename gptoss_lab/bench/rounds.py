"""Rounds of measurement, the machine's limits and the model between them; then turns with llama.cpp."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import numpy as np
import psutil
from tqdm.auto import tqdm

from gptoss_lab import checkpoint
from gptoss_lab.bench import limits, rates
from gptoss_lab.bench.llama import LlamaCpp
from gptoss_lab.costs import bytes_of_token, prefill_operations
from gptoss_lab.model import Dense, Transformer
from gptoss_lab.ops.target import BFLOAT16_DOTS
from gptoss_lab.ops.threads import threads

ROUNDS = 5
DECODED = 32  # tokens a round
PROMPTS = (512, 64)  # tokens
PAIRS = 20  # of decoding: watched and unwatched, llama.cpp and the model
DEPTH = 8192  # tokens before the decoded ones
MEMORY_DEPTH = 4096  # the same, while memory is looked at
SEQUENCES, SHARED = 16, 256  # continuations of one prefix, and its tokens
_STEADY, _TRIES = 0.1, 4  # so much less may be read than before or after; and how often it is tried

EVERYTHING = ("routing", "attention", "residual")

_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Figures:
    """Medians over the rounds; shares and ratios were taken within a round or a turn. None where it was not measured.

    Prompts have 512 tokens where no number is in the name, or as many as the context holds.
    """

    threads: int
    dense: str
    """The type of the weights outside the experts: as stored, or "int8"."""
    read_gb_s: float
    fma_peak_gflop_s: float
    bytes_of_token: int
    decode_tok_s: float
    decode_share_of_bandwidth: float
    decode_layers_share_of_bandwidth: float
    decode_at_depth_ratio: float
    """How fast decoding goes after 8,192 tokens, or as many as the context holds; 1 is as fast as at its start."""
    decode_together_ratio: float
    """Tokens a second of 16 continuations of one prefix of 256 tokens, decoded together, over those of one."""
    experts_touched_together: float
    """Distinct experts of a layer that 16 tokens choose."""
    prefill_tok_s: float
    prefill_gflop_s: float
    prefill_share_of_peak: float
    prefill_64_tok_s: float
    routing_recorded_ratio: float
    all_recorded_ratio: float
    private_memory_gb: float
    """Beside a mapped checkpoint, and with one that was read, while there is a context of 4,096 tokens."""
    intervals: dict[str, tuple[float, float]]
    """95 %, of each median (bootstrapped)."""
    mapped: bool = True
    prefill_bf16_tok_s: float | None = None
    prefill_bf16_gflop_s: float | None = None
    prefill_bf16_64_tok_s: float | None = None
    llama_read_gb_s: float | None = None
    """What the machine read meanwhile: it may have changed since the rounds."""
    llama_decode_tok_s: float | None = None
    llama_prefill_tok_s: float | None = None
    llama_prefill_64_tok_s: float | None = None
    decode_over_llama: float | None = None
    prefill_over_llama: float | None = None
    prefill_64_over_llama: float | None = None
    prefill_bf16_over_llama: float | None = None
    prefill_bf16_64_over_llama: float | None = None

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


def measure_checkpoint(
    folder: Path,
    llama: LlamaCpp | None = None,
    rounds: int = ROUNDS,
    dense: Dense | None = None,
    mmap: bool = True,
) -> Figures:
    """Measures the checkpoint in a folder, its dense weights as stored or in eight bits; see `measure`.

    mmap: whether it is mapped; else it is read into memory.
    """
    config, weights = checkpoint.load(folder)
    if not mmap:
        weights = checkpoint.reside(weights)
    model, in_bfloat16 = Transformer(config, weights, dense=dense), None
    if BFLOAT16_DOTS and dense is None:
        in_bfloat16 = Transformer(config, weights, precision="bfloat16")
    return replace(measure(model, in_bfloat16, llama, rounds), mapped=mmap)


def measure(
    model: Transformer, in_bfloat16: Transformer | None = None, llama: LlamaCpp | None = None, rounds: int = ROUNDS
) -> Figures:
    """Measures a model. Takes some minutes for a large one; nothing else should run meanwhile.

    in_bfloat16: the same model, computing prompts in bfloat16.
    """
    seen: defaultdict[str, Sequence[float]] = defaultdict(list)
    with tqdm(total=rounds + 2, desc="Measuring", unit="round", leave=False) as bar:
        _warm_up(model, in_bfloat16)
        private_memory = _private_memory(model)
        bare, memory = rates.without_unembedding(model), limits.memory_to_read(model.weights)
        for _ in range(rounds):
            for name, value in _round(model, bare, in_bfloat16, memory).items():
                seen[name] = [*seen[name], value]
            bar.update()
        for name, kinds in {"routing_recorded_ratio": ("routing",), "all_recorded_ratio": EVERYTHING}.items():
            seen[name] = rates.recorded_ratios(model, kinds, PAIRS)
            bar.update()
        if llama is not None:
            for name, value in _beside_llama(model, in_bfloat16, llama, memory, rounds):
                seen[name] = [*seen[name], value]
    medians: dict[str, Any] = {name: median(values) for name, values in seen.items()}
    return Figures(
        threads=threads(),
        dense=model.dense or str(model.weights.unembedding.dtype).removeprefix("torch."),
        bytes_of_token=bytes_of_token(model.config, model.running).total,
        experts_touched_together=rates.experts_touched(model, SEQUENCES),
        private_memory_gb=private_memory / 1e9,
        intervals={name: _interval_of_median(values) for name, values in seen.items()},
        **medians,
    )


def _round(
    model: Transformer,
    bare: Transformer,
    in_bfloat16: Transformer | None,
    memory: Sequence[np.ndarray],
) -> dict[str, float]:
    """Every rate once."""
    found = {**_decoding(model, bare, memory), **_prefill(model, "prefill")}
    found["fma_peak_gflop_s"] = limits.fma_gflop_s()
    found["prefill_share_of_peak"] = found["prefill_gflop_s"] / found["fma_peak_gflop_s"]
    if in_bfloat16 is not None:
        found |= _prefill(in_bfloat16, "prefill_bf16")
    return found


def _decoding(model: Transformer, bare: Transformer, memory: Sequence[np.ndarray]) -> dict[str, float]:
    """Decoding, held against what the machine reads meanwhile, and against itself. bare: the model's layers alone."""

    def decode(depth: int = rates.CONTEXT) -> float:
        return rates.decode_seconds(model, DECODED, depth)

    def together() -> float:
        return rates.together_seconds(model, SEQUENCES, DECODED // SEQUENCES, SHARED)

    depth, cost = min(DEPTH, model.config.n_ctx - DECODED), bytes_of_token(model.config, model.running)
    read, (whole, layers) = _while_steady(memory, lambda: (decode(), rates.decode_seconds(bare, DECODED)))
    _, (shallow, deep) = _while_steady(memory, lambda: (decode(), decode(depth)))
    _, (one, all_of_them) = _while_steady(memory, lambda: (decode(), together()))
    return {
        "read_gb_s": read,
        "decode_tok_s": 1 / whole,
        "decode_share_of_bandwidth": cost.total / whole / 1e9 / read,
        "decode_layers_share_of_bandwidth": cost.layers / layers / 1e9 / read,
        "decode_at_depth_ratio": shallow / deep,
        "decode_together_ratio": SEQUENCES * one / all_of_them,
    }


def _while_steady(memory: Sequence[np.ndarray], run: Callable[[], _Found]) -> tuple[float, _Found]:
    """What `run` gives while the machine reads memory about as fast just after as just before, and how fast that is, in
    GB/s; after some tries, what it gives anyway. For some machines change by the minute.
    """
    after = limits.read_gb_s(memory)
    for _ in range(_TRIES):
        before, found, after = after, run(), limits.read_gb_s(memory)
        if abs(before - after) <= _STEADY * max(before, after):
            break
    return max(before, after), found


def _prefill(model: Transformer, name: str) -> dict[str, float]:
    longest, shorter = (min(n, model.config.n_ctx) for n in PROMPTS)
    seconds = rates.prefill_seconds(model, longest)
    return {
        f"{name}_tok_s": longest / seconds,
        f"{name}_gflop_s": prefill_operations(model.config, longest) / seconds / 1e9,
        f"{name}_64_tok_s": shorter / rates.prefill_seconds(model, shorter),
    }


def _beside_llama(
    model: Transformer,
    in_bfloat16: Transformer | None,
    llama: LlamaCpp,
    memory: Sequence[np.ndarray],
    rounds: int,
) -> Iterator[tuple[str, float]]:
    """llama.cpp's rates, and the model's over them, measured just after: by name, in the order in which they are found.

    It has one prefill, which both of the model's are held against.
    """
    tests = llama.tests([n for n in PROMPTS for _ in range(rounds)], [DECODED] * PAIRS, threads())
    for turn, test in enumerate(tests):
        if turn == 0:
            _warm_up(model, in_bfloat16)  # its weights may have driven the model's out of memory
        if test.n_decoded:
            yield "llama_decode_tok_s", test.tok_s
            yield "decode_over_llama", 1 / rates.decode_seconds(model, DECODED) / test.tok_s
            yield "llama_read_gb_s", limits.read_gb_s(memory)
            continue
        length = "" if test.n_prompt == PROMPTS[0] else f"_{test.n_prompt}"
        yield f"llama_prefill{length}_tok_s", test.tok_s
        for name, reader in {"prefill": model, "prefill_bf16": in_bfloat16}.items():
            if reader is not None:
                n_tokens = min(test.n_prompt, model.config.n_ctx)
                yield f"{name}{length}_over_llama", n_tokens / rates.prefill_seconds(reader, n_tokens) / test.tok_s


def _warm_up(*models: Transformer | None) -> None:
    """Compiles what is not compiled, and brings the weights into memory."""
    for model in filter(None, models):
        for n_tokens in PROMPTS:
            rates.prefill_seconds(model, min(n_tokens, model.config.n_ctx))
        rates.decode_seconds(model, DECODED)


def _interval_of_median(values: Sequence[float], samples: int = 2000) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(values, (samples, len(values))), axis=1)
    low, high = np.quantile(medians, (0.025, 0.975))
    return float(low), float(high)


def _private_memory(model: Transformer) -> int:
    """Bytes that belong to this process alone while it holds a long context."""
    held = rates.context(model, min(MEMORY_DEPTH, model.config.n_ctx))
    process = psutil.Process()
    if psutil.LINUX:  # where a mapped checkpoint's pages can be told from this process's own
        own = sum(mapping.anonymous for mapping in process.memory_maps())
    else:
        own = process.memory_full_info().uss
    del held
    return int(own)
