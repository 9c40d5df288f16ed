"""`gptoss-lab verify`: what a checkpoint is, whether its files are whole, and whether both engines make the same of it.

The engines are compared layer by layer: numba gets the residual stream and the choice of experts that torch arrived at,
so that a layer answers for itself alone, and two experts that tie cannot send the rest astray.
"""

import hashlib
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path

import tiktoken
import torch
from torch import Tensor
from tqdm.auto import tqdm

from gptoss_lab import checkpoint, tokenizer
from gptoss_lab.checkpoint import names
from gptoss_lab.checkpoint.reading import Checkpoint, assemble, open_checkpoint
from gptoss_lab.config import PRESETS, ModelConfig
from gptoss_lab.hooks import HookPoint
from gptoss_lab.model import Transformer
from gptoss_lab.ops import numba_ops

PROMPT = "The capital of France is"
TOLERANCE = 1e-4
"""How far the engines may differ in a layer, as a share of the largest value that the layer's part puts out."""

FORCED = ("blocks.*.hook_resid_pre", "blocks.*.mlp.hook_expert_indices")
COMPARED = ("blocks.*.hook_attn_out", "blocks.*.mlp.hook_router_logits", "blocks.*.hook_mlp_out")

_CHUNK = 1 << 24  # values or bytes that are looked at together


@dataclass(frozen=True)
class Finding:
    """One line of the report. `sound` is None where something could not be checked."""

    about: str
    text: str
    sound: bool | None = True


def verify(name_or_path: str | PathLike[str], say: Callable[[str], object] = print) -> bool:
    """Whether a checkpoint runs as it should, said line by line, with a verdict at the end.

    `name_or_path` as in `checkpoint.find`. Raises what that raises where there is no checkpoint, and what
    `checkpoint.load` raises, after the verdict, where there is one that cannot be loaded.
    """
    folder = checkpoint.find(fspath(name_or_path))
    findings = []
    try:
        for finding in examine(folder):
            mark = {True: " ", False: "✗", None: "?"}[finding.sound]
            say(f"{mark} {finding.about:<11} {finding.text}")
            findings.append(finding)
    except Exception:
        say("Verdict: this cannot be used.")
        raise
    unsound = [finding.about for finding in findings if finding.sound is False]
    unknown = [finding.about for finding in findings if finding.sound is None]
    if unsound:
        say(f"Verdict: not sound; look at {', '.join(unsound)}.")
    else:
        say("Verdict: sound." + (f" Not checked: {', '.join(unknown)}." if unknown else ""))
    return not unsound


def examine(folder: Path) -> Iterator[Finding]:
    """The report's lines, as they are found out. Raises as `checkpoint.load` does."""
    opened = open_checkpoint(folder)
    yield from _what_it_is(opened)
    yield _file_hashes(opened)
    yield _values(opened)
    vocabulary, encoding = _vocabulary(folder, opened.config)
    yield vocabulary
    yield from _engines(opened, encoding)


def _what_it_is(opened: Checkpoint) -> Iterator[Finding]:
    c = opened.config
    n_files, size = len(opened.files), sum(file.stat().st_size for file in opened.files)
    experts = "packed in MXFP4" if opened.packed else "not packed"
    files = f"{n_files} file{'s' if n_files > 1 else ''}, {size / 1e6:,.1f} MB"
    known = next((f"of the preset {name}" for name, preset in PRESETS.items() if preset == c), "of its own")
    total, active = parameters(c)
    yield Finding("folder", str(opened.folder))
    yield Finding("dialect", f"{opened.dialect.name}, experts {experts}, {files}")
    yield Finding(
        "shape",
        f"{known}: {c.n_layers} layers of width {c.d_model}, {c.n_heads} heads on {c.n_kv_heads} key-value heads of"
        f" {c.d_head}, {c.n_experts} experts of which {c.experts_per_token} serve a token, {c.d_vocab} tokens",
    )
    yield Finding("parameters", f"{total / 1e6:,.1f} million, {active / 1e6:,.1f} million of them at work for a token")
    yield Finding("tensors", f"{len(opened.slots)}, each with the name, shape and type that it should have")


def parameters(config: ModelConfig) -> tuple[int, int]:
    """All parameters, and those that one token passes through (the embedding is looked up, and does not count)."""
    model = {field: math.prod(shape) for field, shape in names.model_shapes(config).items()}
    layer = {field: math.prod(shape) for field, shape in names.layer_shapes(config).items() if field[:3] != "qkv"}
    of_experts = sum(layer[field] for field in ("gate_up", "gate_up_bias", "down", "down_bias"))
    total = sum(model.values()) + config.n_layers * sum(layer.values())
    idle = config.n_layers * of_experts * (config.n_experts - config.experts_per_token) // config.n_experts
    return total, total - idle - model["embedding"]


def _file_hashes(opened: Checkpoint) -> Finding:
    """The Hugging Face cache names large files by their SHA-256, which tells a damaged download from a whole one."""
    blobs = [path.resolve() for path in opened.files]
    if not all(re.fullmatch(r"[0-9a-f]{64}", blob.name) for blob in blobs):
        return Finding("files", "not hashed, for only the Hugging Face cache says what the hashes should be", None)
    damaged = [
        path.name for path, blob in zip(opened.files, blobs, strict=True) if _sha256(blob, path.name) != blob.name
    ]
    if damaged:
        return Finding("files", f"{', '.join(damaged)}: not the SHA-256 of the hub; delete and fetch again", False)
    return Finding("files", "the SHA-256 of each is that of the hub")


def _sha256(path: Path, name: str) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file, tqdm(total=path.stat().st_size, unit="B", unit_scale=True, desc=name, delay=1) as bar:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()


def _values(opened: Checkpoint) -> Finding:
    """Any bits are a number in packed blocks, but not in scales and in floats."""
    for slot in tqdm(opened.slots, desc="reading values", delay=1):
        if slot.part != "blocks":
            flat = opened.tensors[slot.name].flatten()
            if not all(_all_finite(chunk) for chunk in flat.split(_CHUNK)):
                return Finding("values", f"{slot.name} holds what is no finite number", False)
    return Finding("values", "every number is finite")


def _all_finite(values: Tensor) -> bool:
    return bool((values != 255).all() if values.dtype == torch.uint8 else torch.isfinite(values).all())


def _vocabulary(folder: Path, config: ModelConfig) -> tuple[Finding, tiktoken.Encoding | None]:
    try:
        encoding = tokenizer.load(folder, config.d_vocab)
        tokenizer.control_ids(encoding)
    except OSError as error:
        return Finding("vocabulary", str(error), None), None
    except ValueError as error:
        return Finding("vocabulary", str(error), False), None
    own = folder / tokenizer.VOCABULARY_FILE
    if own.is_file():
        digest = hashlib.sha256(own.read_bytes()).hexdigest()
        said = f"{own.name}, with harmony's control tokens, SHA-256 {digest}"
    else:
        said = f"{encoding.name}, SHA-256 {tokenizer.O200K_SHA256}, as published"
    return Finding("vocabulary", f"{encoding.n_vocab} ids: {said}"), encoding


def _engines(opened: Checkpoint, encoding: tiktoken.Encoding | None) -> Iterator[Finding]:
    config, weights = opened.config, assemble(opened)
    # Without a vocabulary any ids will do.
    tokens = encoding.encode(PROMPT) if encoding else [i * config.d_vocab // 8 for i in range(8)]
    numba_ops.prepare()
    reference, other = (Transformer(config, weights, engine=engine) for engine in ("torch", "numba"))
    logits, apart = compare(reference, other, tokens)
    point, difference = max(apart, key=lambda item: math.inf if math.isnan(item[1]) else item[1])
    if difference <= TOLERANCE:
        agree = f"numba and torch agree in all {config.n_layers} layers, to {difference:.1e} of the largest value"
        yield Finding("engines", f"{agree} (least at {point})")
    else:
        apart_at = f"numba and torch differ by {difference:.1e} of the largest value at {point}"
        yield Finding("engines", f"{apart_at}; {TOLERANCE:.0e} is allowed", False)
    if encoding is not None:
        likely = logits[0, -1].softmax(-1)
        token = int(likely.argmax())
        text = tokenizer.token_text(encoding, token)
        yield Finding("prompt", f"after {PROMPT!r} it expects {text!r} ({likely[token]:.0%})")


def compare(reference: Transformer, other: Transformer, tokens: list[int]) -> tuple[Tensor, list[tuple[str, float]]]:
    """The reference's logits, and how far the other engine is from them and from the parts of each layer, by name.

    A difference is a share of the largest value of a token, and that of the token where it is largest.
    """
    seen: dict[str, Tensor] = {}
    apart: list[tuple[str, float]] = []
    bar = tqdm(total=2 * reference.config.n_layers, desc="comparing engines, layers", delay=1)

    def record(tensor: Tensor, hook: HookPoint) -> None:
        seen[hook.name] = tensor

    def force(tensor: Tensor, hook: HookPoint) -> Tensor:
        return seen[hook.name]

    def measure(tensor: Tensor, hook: HookPoint) -> None:
        apart.append((hook.name, _difference(tensor, seen[hook.name])))

    def count(tensor: Tensor, hook: HookPoint) -> None:
        bar.update()

    counting = ("blocks.*.hook_resid_post", count)
    with bar, torch.no_grad():
        logits = reference.run_with_hooks(tokens, [([*FORCED, *COMPARED], record), counting])
        others = other.run_with_hooks(tokens, [(FORCED, force), (COMPARED, measure), counting])
    return logits, [*apart, ("the logits", _difference(others, logits))]


def _difference(found: Tensor, expected: Tensor) -> float:
    largest = expected.abs().amax(-1).clamp_min(torch.finfo(torch.float32).tiny)
    return float(((found - expected).abs().amax(-1) / largest).max())
