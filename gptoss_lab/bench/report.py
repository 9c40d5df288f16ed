"""The figures of a benchmark as a table for the terminal."""

from gptoss_lab.bench.rounds import Figures

Row = tuple[str, str, str]


def table(figures: Figures) -> str:
    """What was measured, a line each, with the share of the machine's limit that it reaches."""
    f = figures
    rows = [
        ("threads", f"{f.threads}", ""),
        ("reading memory", f"{f.read_gb_s:.1f} GB/s", "this machine's limit"),
        ("multiplying, float32", f"{f.fma_peak_gflop_s:.0f} GFLOP/s", "this machine's limit"),
        (
            f"decode, {f.dense}",
            f"{f.decode_tok_s:.1f} tok/s",
            f"{f.decode_share_of_bandwidth:.0%} of the reading limit",
        ),
        ("  its layers alone", "", f"{f.decode_layers_share_of_bandwidth:.0%} of the reading limit"),
        ("  at depth", f"{f.decode_at_depth_ratio:.2f} x", _from_to(f, "decode_at_depth_ratio")),
        (
            "  16 of one prefix",
            f"{f.decode_together_ratio:.2f} x",
            f"{f.experts_touched_together:.0f} distinct experts a layer",
        ),
        ("  routing recorded", f"{f.routing_recorded_ratio:.2f} x", _from_to(f, "routing_recorded_ratio")),
        ("  attention, residual too", f"{f.all_recorded_ratio:.2f} x", _from_to(f, "all_recorded_ratio")),
        ("prefill, 512 tokens", f"{f.prefill_tok_s:.1f} tok/s", f"{f.prefill_share_of_peak:.0%} of the FMA limit"),
        ("prefill, 64 tokens", f"{f.prefill_64_tok_s:.1f} tok/s", ""),
        *_in_bfloat16(f),
        *_beside_llama(f),
        (
            "memory of its own",
            f"{f.private_memory_gb:.2f} GB",
            "beside the mapped checkpoint" if f.mapped else "with the weights",
        ),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return "\n".join(f"{name:<{widths[0]}}  {value:>{widths[1]}}  {remark}".rstrip() for name, value, remark in rows)


def _in_bfloat16(f: Figures) -> list[Row]:
    if f.prefill_bf16_tok_s is None:
        return []
    return [
        ("prefill, bfloat16, 512", f"{f.prefill_bf16_tok_s:.1f} tok/s", f"{f.prefill_bf16_gflop_s:.0f} GFLOP/s"),
        ("prefill, bfloat16, 64", f"{f.prefill_bf16_64_tok_s:.1f} tok/s", ""),
    ]


def _beside_llama(f: Figures) -> list[Row]:
    """llama.cpp's rates, and how many times as fast the kit is; then the same of the kit in bfloat16."""
    if f.llama_decode_tok_s is None:
        return []
    rows = [
        ("in turns with llama.cpp", f"{f.llama_read_gb_s:.1f} GB/s", "read meanwhile"),
        ("llama.cpp, decode", f"{f.llama_decode_tok_s:.1f} tok/s", _the_kit(f, "decode_over_llama")),
        ("llama.cpp, prefill, 512", f"{f.llama_prefill_tok_s:.1f} tok/s", _the_kit(f, "prefill_over_llama")),
        ("llama.cpp, prefill, 64", f"{f.llama_prefill_64_tok_s:.1f} tok/s", _the_kit(f, "prefill_64_over_llama")),
    ]
    if f.prefill_bf16_over_llama is not None:
        rows += [
            ("  512, against bfloat16", "", _the_kit(f, "prefill_bf16_over_llama")),
            ("  64, against bfloat16", "", _the_kit(f, "prefill_bf16_64_over_llama")),
        ]
    return rows


def _the_kit(f: Figures, name: str) -> str:
    return f"the kit: {getattr(f, name):.2f} x, {_from_to(f, name)}"


def _from_to(f: Figures, name: str) -> str:
    return "95% interval {:.2f} to {:.2f}".format(*f.intervals[name])
