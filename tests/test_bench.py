"""`gptoss-lab bench`: what a token costs, the machine's limits, the figures and how they are told."""

import itertools
import json
import stat
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from small import SMALL

from gptoss_lab import bench, checkpoint, cli, costs, weights
from gptoss_lab.bench import limits, rates, rounds
from gptoss_lab.model import Transformer
from gptoss_lab.ops import probes
from gptoss_lab.ops.target import LANES

KEYS = {
    "read_gb_s",
    "decode_tok_s",
    "decode_share_of_bandwidth",
    "decode_layers_share_of_bandwidth",
    "prefill_tok_s",
    "prefill_gflop_s",
    "prefill_bf16_gflop_s",
    "fma_peak_gflop_s",
    "routing_recorded_ratio",
    "all_recorded_ratio",
}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A little of everything: these figures mean nothing."""
    monkeypatch.setattr(rounds, "PAIRS", 2)
    monkeypatch.setattr(rounds, "DECODED", 2)
    monkeypatch.setattr(limits, "_MULTIPLICATIONS", 1000)
    monkeypatch.setattr(limits, "ENOUGH", 1 << 20)
    monkeypatch.setattr(rounds, "DEPTH", 40)
    monkeypatch.setattr(rounds, "MEMORY_DEPTH", 40)
    monkeypatch.setattr(rounds, "SEQUENCES", 2)


@pytest.fixture
def llama_bench(tmp_path: Path) -> Path:
    """A program that prints what llama.cpp's benchmark would, and what it was asked."""
    program = tmp_path / "llama-bench"
    program.write_text(
        f"#!{sys.executable}\n"
        "import json, sys\n"
        "if 'missing.gguf' in sys.argv: sys.exit('no such model')\n"
        "for n in map(int, sys.argv[sys.argv.index('-p') + 1].split(',')):\n"
        "    print(json.dumps({'n_prompt': n, 'n_gen': 0, 'avg_ts': n / 16}), flush=True)\n"
        "for n in map(int, sys.argv[sys.argv.index('-n') + 1].split(',')):\n"
        "    print(json.dumps({'n_prompt': 0, 'n_gen': n, 'avg_ts': 10.0}), flush=True)\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


# What a token costs


def test_a_token_reads_every_dense_matrix_and_the_experts_that_it_chooses() -> None:
    c = SMALL
    made = weights.random(c)  # bfloat16 matrices, MXFP4 experts: 4 bits a weight, 8 more for each 32
    heads, kv_heads = c.n_heads * c.d_head, c.n_kv_heads * c.d_head
    dense = 2 * c.d_model * (2 * heads + 2 * kv_heads + c.n_experts)
    experts = c.experts_per_token * 3 * c.d_mlp * c.d_model * 17 // 32
    cost = costs.bytes_of_token(c, made)
    assert cost.layers == c.n_layers * (dense + experts)
    assert cost.unembedding == 2 * c.d_vocab * c.d_model
    assert cost.total == cost.layers + cost.unembedding


def test_operations_are_those_of_every_product_counted_one_by_one() -> None:
    c, n = SMALL, 21
    heads, kv_heads = c.n_heads * c.d_head, c.n_kv_heads * c.d_head
    a_token = 2 * c.d_model * heads + 2 * c.d_model * kv_heads + c.d_model * c.n_experts
    a_token += c.experts_per_token * 3 * c.d_model * c.d_mlp
    total = n * c.n_layers * a_token + c.d_model * c.d_vocab
    for layer in range(c.n_layers):
        window = c.window(layer) or n
        seen = sum(1 for query in range(n) for key in range(query + 1) if query - key < window)
        total += 2 * heads * seen  # scores, and the values that they weigh
    assert costs.prefill_operations(c, n) == 2 * total


# The machine's limits


@pytest.mark.parametrize("spread", [False, True])
def test_reading_reads_everything(spread: bool) -> None:
    """The sums that the kernel leaves are those of what it read."""
    memory = np.random.default_rng(0).random(1 << 16, dtype=np.float32)
    found = probes.read(memory, spread)
    assert found == pytest.approx(memory.sum(dtype=np.float64), rel=1e-4)


def test_multiplications_are_counted() -> None:
    operations = probes.multiply(10)
    assert operations % (10 * 2 * LANES) == 0
    assert limits.fma_gflop_s() > 0.1


@pytest.mark.parametrize("enough", [1 << 10, 1 << 30])
def test_what_is_read_is_the_model_where_it_is_large_enough(monkeypatch: pytest.MonkeyPatch, enough: int) -> None:
    monkeypatch.setattr(limits, "ENOUGH", enough)
    made = weights.random(SMALL)
    read = limits.memory_to_read(made)
    assert sum(part.nbytes for part in read) >= enough
    assert (read[0].ctypes.data == made.embedding.data_ptr()) == (enough == 1 << 10)


# Figures


@pytest.mark.parametrize("n_sequences", [1, 3])
def test_a_context_stands_before_what_is_decoded(n_sequences: int) -> None:
    model = Transformer(SMALL, weights.random(SMALL))
    held = rates.context(model, 20)
    assert held.length == 20
    assert held.read(SMALL.n_layers - 1)[0].std() == pytest.approx(1, abs=0.2)
    assert rates.decode_seconds(model, 2, depth=20) > 0
    assert rates.together_seconds(model, n_sequences, 2, depth=20) > 0


def test_distinct_experts_are_counted_in_each_layer() -> None:
    model = Transformer(SMALL, weights.random(SMALL))
    assert rates.experts_touched(model, 1) == SMALL.experts_per_token
    assert SMALL.experts_per_token < rates.experts_touched(model, 16) <= SMALL.n_experts


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a mapped file's pages cannot be told from others")
def test_a_mapped_checkpoint_is_no_memory_of_ones_own(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "model", enlarged := replace(SMALL, d_vocab=200_000), weights.random(enlarged))
    config, mapped = checkpoint.load(tmp_path / "model")
    model = Transformer(config, mapped)
    before = rounds._private_memory(model)
    mapped.embedding.view(torch.int64).sum()  # every page of it is read
    assert rounds._private_memory(model) - before < mapped.embedding.nbytes / 10


def test_recording_is_held_against_not_recording() -> None:
    model = Transformer(SMALL, weights.random(SMALL))
    ratios = rates.recorded_ratios(model, rounds.EVERYTHING, pairs=3, steps=2)
    assert len(ratios) == 3
    assert all(0 < ratio < 20 for ratio in ratios)


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        ([50, 48], (50, 1)),  # steady enough, whichever way it went
        ([48, 50], (50, 1)),
        ([50, 34, 33], (34, 2)),  # slower all of a sudden: what came then counts
        ([33, 50, 34, 34], (34, 3)),
        ([50, 34, 50, 34, 50, 34], (50, 4)),  # never steady: as it is, after some tries
    ],
)
def test_what_memory_changed_under_is_measured_anew(
    readings: list[int], expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    remaining, runs = iter(readings), itertools.count(1)
    monkeypatch.setattr(limits, "read_gb_s", lambda _: next(remaining))
    assert rounds._while_steady([], lambda: next(runs)) == expected


def test_without_its_unembedding_a_model_has_the_same_layers() -> None:
    model = Transformer(SMALL, weights.random(SMALL))
    bare = rates.without_unembedding(model)
    logits = bare(rates.prompt(model, 5), last_only=True)
    np.testing.assert_allclose(logits, model(rates.prompt(model, 5), last_only=True)[..., :1], rtol=1e-4, atol=1e-5)


def test_the_command_tells_its_figures_as_a_table_and_as_json(quick, capsys) -> None:
    assert cli.main(["bench", "--rounds", "1"]) == 0
    shown = capsys.readouterr().out
    assert "reading limit" in shown
    assert "llama.cpp" not in shown
    assert cli.main(["bench", "--shape", "nano", "--layers", "2", "--rounds", "1", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert set(figures) >= KEYS
    assert figures["decode_tok_s"] > 0


def test_weights_are_read_where_they_are_not_to_be_mapped(quick, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[weights.Weights] = []

    def reside(mapped: weights.Weights) -> weights.Weights:
        read.append(mapped)
        return mapped

    monkeypatch.setattr(checkpoint, "reside", reside)
    for options, mapped in ([], True), (["--no-mmap"], False):
        assert cli.main(["bench", "--shape", "nano", "--layers", "1", "--rounds", "1", "--json", *options]) == 0
        assert json.loads(capsys.readouterr().out)["mapped"] is mapped
        assert len(read) == (not mapped)


def test_weights_in_eight_bits_are_fewer_bytes(quick, capsys) -> None:
    def measured(*options: str) -> dict[str, object]:
        assert cli.main(["bench", "--shape", "nano", "--layers", "1", "--rounds", "1", "--json", *options]) == 0
        return json.loads(capsys.readouterr().out)

    stored, eight_bits = measured(), measured("--dense", "int8")
    assert (stored["dense"], eight_bits["dense"]) == ("bfloat16", "int8")
    assert eight_bits["bytes_of_token"] < stored["bytes_of_token"]


def test_llama_cpp_is_run_beside(quick, llama_bench: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(rates, "decode_seconds", lambda *_: 0.05)
    monkeypatch.setattr(rates, "prefill_seconds", lambda *_: 2.0)
    arguments = ["bench", "--rounds", "1", "--json", "--llama-bench", str(llama_bench), "--gguf"]
    assert cli.main([*arguments, str(tmp_path / "model.gguf")]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["llama_decode_tok_s"] == 10
    assert figures["llama_prefill_tok_s"] == 32
    assert figures["llama_prefill_64_tok_s"] == 4
    assert figures["decode_over_llama"] == pytest.approx(20 / 10)
    assert figures["prefill_over_llama"] == pytest.approx(256 / 32)
    assert figures["prefill_64_over_llama"] == pytest.approx(32 / 4)
    low, high = figures["intervals"]["decode_over_llama"]
    assert low <= figures["decode_over_llama"] <= high
    assert cli.main([*arguments, "missing.gguf"]) == 2
    assert "no such model" in capsys.readouterr().err


def test_llama_cpp_stands_still_between_its_tests(tmp_path: Path) -> None:
    """It goes on only when the next is asked for, and is gone when no more are wanted."""
    program = tmp_path / "llama-bench"
    program.write_text(
        f"#!{sys.executable}\n"
        "import json, os, time\n"
        "for n in range(3):\n"
        "    print(json.dumps({'n_prompt': os.getpid(), 'n_gen': n, 'avg_ts': time.time()}), flush=True)\n"
        "    time.sleep(0.2)\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    tests = bench.LlamaCpp(program, tmp_path / "model.gguf").tests([1], [2], threads=1)
    first = next(tests)
    time.sleep(1)
    assert next(tests).tok_s - first.tok_s > 1
    assert _stops(psutil.Process(first.n_prompt))
    tests.close()
    assert not psutil.pid_exists(first.n_prompt)


def _stops(process: psutil.Process) -> bool:
    """Whether it stands still within some seconds: a signal takes a moment to reach a process that is running."""
    deadline = time.monotonic() + 10
    while process.status() != psutil.STATUS_STOPPED and time.monotonic() < deadline:
        time.sleep(0.01)
    return process.status() == psutil.STATUS_STOPPED


def test_a_program_without_a_model_is_refused(capsys) -> None:
    assert cli.main(["bench", "--llama-bench", "llama-bench"]) == 2
    assert "--gguf" in capsys.readouterr().err


def test_layers_are_of_a_shape(capsys) -> None:
    assert cli.main(["bench", "--layers", "3"]) == 2
    assert "--shape" in capsys.readouterr().err


def test_intervals_hold_the_median() -> None:
    low, high = rounds._interval_of_median([0.9, 0.95, 1.0, 1.05, 1.1] * 4)
    assert 0.9 <= low <= 1.0 <= high <= 1.1


def test_a_table_names_each_figure_and_its_limit() -> None:
    figures = bench.Figures(
        threads=2,
        read_gb_s=45.0,
        fma_peak_gflop_s=500.0,
        bytes_of_token=3_700_000_000,
        decode_tok_s=11.0,
        decode_share_of_bandwidth=0.9,
        decode_layers_share_of_bandwidth=0.91,
        prefill_tok_s=60.0,
        prefill_gflop_s=350.0,
        prefill_share_of_peak=0.7,
        prefill_64_tok_s=40.0,
        dense="bfloat16",
        decode_at_depth_ratio=0.9,
        decode_together_ratio=2.6,
        experts_touched_together=28.0,
        routing_recorded_ratio=0.97,
        all_recorded_ratio=0.85,
        private_memory_gb=0.6,
        intervals={
            "decode_at_depth_ratio": (0.88, 0.92),
            "routing_recorded_ratio": (0.95, 0.99),
            "all_recorded_ratio": (0.8, 0.9),
        },
    )
    shown = bench.table(figures)
    assert "11.0 tok/s" in shown
    assert "90% of the reading limit" in shown
    assert "0.95 to 0.99" in shown
